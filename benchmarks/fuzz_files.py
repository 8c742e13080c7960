"""Valid files of every other kind that semdefect reads, and damage that keeps an ONNX file an ONNX file."""

import io
import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.random import Generator
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.numpy import save

from benchmarks.mutations import EXTREMES, PIECES, mutated, mutated_text
from semdefect import CLASSES
from semdefect.archive import tar_bytes
from semdefect.edge.guard import Guard
from semdefect.edge.image import SIZE
from semdefect.edge.metadata import METADATA_KEY, ModelMetadata
from semdefect.manifest import LEAST_SIZE
from semdefect.params import PARAMS

#: Names in `archive`.
MEMBERS = ("bridge/00000_rendered.png", "clean/00001_rendered.png")

#: Operators that a damaged file may ask for, of which half are refused.
OPERATORS = (
    "Conv", "Mul", "Div", "Resize", "Tile", "Expand", "ConstantOfShape", "Pad", "Reshape", "Loop", "If", "Scan",
    "RandomNormal", "Optional", "SequenceEmpty", "StringNormalizer", "Einsum", "NonZero", "Custom",
)  # fmt: skip


def tiny_model() -> bytes:
    """A network of a dozen operators, of the kinds that exported files have, with our metadata; always the same."""
    rng = np.random.default_rng(0)
    weights = {
        "sizes": np.array([1, 1, 32, 32], np.int64),
        "stem": rng.normal(size=(4, 1, 3, 3)).astype(np.float32),
        "scale": np.float32(0.05),
        "zero": np.uint8(128),
        "head": rng.normal(size=(len(CLASSES), 4)).astype(np.float32),
        "axes": np.array([2, 3], np.int64),
        "one": np.array([1], np.int64),
        "first": np.array(0, np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Shape", ["input"], ["shape"]),
        node("Gather", ["shape", "one"], ["channels"]),
        node("Resize", ["input", "", "", "sizes_n"], ["small"], mode="linear"),
        node("Conv", ["small", "stem"], ["features"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("HardSwish", ["features"], ["active"]),
        node("QuantizeLinear", ["active", "scale", "zero"], ["bytes"]),
        node("DequantizeLinear", ["bytes", "scale", "zero"], ["again"]),
        node("ReduceMean", ["again", "axes"], ["mean"], keepdims=0),
        node("Gemm", ["mean", "head"], ["logits"], transB=1),
        node("Sigmoid", ["logits"], ["likely"]),
        node("ReduceMax", ["likely", "one"], ["unknown"], keepdims=0),
    ]
    nodes[2:2] = [
        node("Slice", ["shape", "zeros", "one"], ["batch"]),
        node("Slice", ["sizes", "one", "four"], ["rest"]),
        node("Concat", ["batch", "rest"], ["sizes_n"], axis=0),
    ]
    weights |= {"zeros": np.array([0], np.int64), "four": np.array([4], np.int64)}
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "tiny",
        [value("input", TensorProto.FLOAT, ["N", 1, SIZE, SIZE])],
        [value("logits", TensorProto.FLOAT, ["N", len(CLASSES)]), value("unknown", TensorProto.FLOAT, ["N"])],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    guard = Guard((0.9,) * len(CLASSES), 0.5, target_purity=0.98, confidence=0.9)
    about = ModelMetadata(CLASSES, 1.0, guard, "fp32", "0123456789abcdef" * 4)
    helper.set_model_props(model, {METADATA_KEY: about.to_json()})
    return bytes(model.SerializeToString(deterministic=True))


def _folding(*nodes: onnx.NodeProto, **constants: list[int] | list[list[int]]) -> bytes:
    """`tiny_model` with ``nodes`` of ``constants``, float32, whose result ``much`` goes into the logits as its mean."""
    model = onnx.load_from_string(tiny_model())
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
    gemm.output[:] = ["before"]
    later = [helper.make_node("ReduceMean", ["much"], ["little"], keepdims=0)]
    later += [helper.make_node("Add", ["before", "little"], ["logits"])]
    place = list(model.graph.node).index(gemm) + 1
    for node in reversed([*nodes, *later]):
        model.graph.node.insert(place, node)
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(values, np.int64 if name == "sides" else np.float32), name)
        for name, values in constants.items()
    )
    return bytes(model.SerializeToString(deterministic=True))


def _doubled(times: int) -> list[onnx.NodeProto]:
    """``row`` beside itself, that beside itself, and so on."""
    names = ["row", *(f"row{number}" for number in range(times - 1)), "much"]
    return [helper.make_node("Concat", [a, a], [b], axis=1) for a, b in pairwise(names)]


#: Networks of a kilobyte or some that have ONNX Runtime compute gigabytes of their constants before they are run.
FOLDING: dict[str, Callable[[], bytes]] = {
    "Expand": lambda: _folding(
        helper.make_node("Expand", ["row", "sides"], ["spread"]),
        *(helper.make_node("Sqrt", [a], [b]) for a, b in pairwise(["spread", "r1", "r2", "r3", "r4"])),
        helper.make_node("Sum", ["spread", "r1", "r2", "r3", "r4"], ["much"]),
        row=[[1]],
        sides=[15_000, 15_000],
    ),
    "Mul": lambda: _folding(
        helper.make_node("Transpose", ["row"], ["column"]),
        helper.make_node("Mul", ["row", "column"], ["much"]),
        row=[[1] * 20_000],
    ),
    "Concat": lambda: _folding(*_doubled(28), row=[[1]]),
    "Gather": lambda: _folding(
        helper.make_node("Cast", ["row"], ["places"], to=TensorProto.INT64),
        helper.make_node("Gather", ["row", "places"], ["much"]),
        row=[[0] * 20_000],
    ),
}


def mutated_onnx(content: bytes, others: Sequence[bytes], rng: Generator) -> bytes:
    """A model after damage to its bytes or, in two thirds of the cases, to what it says."""
    if rng.random() < 1 / 3:
        return mutated(content, others, rng)
    model = onnx.load_from_string(content)
    for _ in range(min(int(rng.geometric(0.6)), 4)):
        _RECORDS[int(rng.integers(len(_RECORDS)))](model, rng)
    return bytes(model.SerializeToString(deterministic=True))


def _number(rng: Generator) -> int:
    number = EXTREMES[int(rng.integers(len(EXTREMES)))] % 2**63
    return -number if rng.random() < 0.2 else number


def _any(values: Sequence[Any], rng: Generator) -> Any:
    return values[int(rng.integers(len(values)))]


def _operator(model: onnx.ModelProto, rng: Generator) -> None:
    node = _any(model.graph.node, rng)
    if rng.random() < 0.2:
        node.domain = str(rng.choice(["com.microsoft", "ai.onnx.ml", "evil"]))
    else:
        node.op_type = str(rng.choice(OPERATORS))


def _wires(model: onnx.ModelProto, rng: Generator) -> None:
    node, other = _any(model.graph.node, rng), _any(model.graph.node, rng)
    if node.input:
        node.input[int(rng.integers(len(node.input)))] = str(_any(other.output, rng))  # a loop, in half of the cases
    if rng.random() < 0.2:
        del node.input[:]


def _attribute(model: onnx.ModelProto, rng: Generator) -> None:
    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    attribute = _any(attributes, rng)
    attribute.i = _number(rng)
    attribute.f = _any([0.0, -1.0, 1e38, np.inf, np.nan], rng)
    for index in range(len(attribute.ints)):
        attribute.ints[index] = _number(rng) if rng.random() < 0.5 else attribute.ints[index]
    if rng.random() < 0.1:
        attribute.type = int(rng.integers(0, 15))


def _shape(model: onnx.ModelProto, rng: Generator) -> None:
    tensor = _any(model.graph.initializer, rng)
    if tensor.dims and rng.random() < 0.7:
        tensor.dims[int(rng.integers(len(tensor.dims)))] = _number(rng)
    else:
        tensor.dims.append(_number(rng))


def _values(model: onnx.ModelProto, rng: Generator) -> None:
    tensor = _any(model.graph.initializer, rng)
    if tensor.data_type == TensorProto.INT64:  # sizes, axes, indices
        values = numpy_helper.to_array(tensor).copy()
        values.reshape(-1)[int(rng.integers(values.size))] = int(_any([_number(rng), rng.integers(0, 5000)], rng))
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    elif rng.random() < 0.5:
        tensor.raw_data = rng.bytes(len(tensor.raw_data))
    else:
        tensor.data_type = int(rng.integers(0, 25))


def _elsewhere(model: onnx.ModelProto, rng: Generator) -> None:
    tensor = _any(model.graph.initializer, rng)
    tensor.data_location = TensorProto.EXTERNAL
    location = str(rng.choice(["/etc/passwd", "../../secret", "weights.bin", "/dev/zero"]))
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="length", value=str(_number(rng)))


def _metadata(model: onnx.ModelProto, rng: Generator) -> None:
    for entry in model.metadata_props:
        if rng.random() < 0.5:
            entry.value = mutated_text(entry.value.encode(), [b"{}"], rng).decode("utf-8", "ignore")
        else:
            content = json.loads(entry.value)
            content[_any(sorted(content), rng)] = _any([None, [], {}, "", -1, 1e308, PIECES[-2], CLASSES], rng)
            entry.value = json.dumps(content)


def _interface(model: onnx.ModelProto, rng: Generator) -> None:
    value = _any([*model.graph.input, *model.graph.output], rng)
    if rng.random() < 0.5 and value.type.tensor_type.shape.dim:
        _any(value.type.tensor_type.shape.dim, rng).dim_value = _number(rng)
    else:
        value.type.tensor_type.elem_type = int(rng.integers(0, 25))


def _nesting(model: onnx.ModelProto, rng: Generator) -> None:
    node = _any(model.graph.node, rng)
    node.attribute.append(helper.make_attribute("body", model.graph))
    model.ir_version = _number(rng)


_RECORDS: tuple[Callable[[onnx.ModelProto, Generator], None], ...] = (
    _operator, _wires, _attribute, _attribute, _shape, _values, _values, _values, _elsewhere, _metadata, _interface,
    _nesting,
)  # fmt: skip


def mutated_weights(content: bytes, others: Sequence[bytes], rng: Generator) -> bytes:
    """A safetensors file after damage to its bytes or, in half of the cases, to the JSON of its header."""
    if rng.random() < 0.5:
        return mutated(content, others, rng)
    length = int.from_bytes(content[:8], "little")
    header = mutated_text(content[8 : 8 + length], [b"{}"], rng)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def tiny_weights() -> bytes:
    """A safetensors file that claims to be a checkpoint of this project, but holds other tensors."""
    about = {"model": "mobilenetv3_small_050", "resolution": 32, "rounded": False, "short": False, "unknown": False}
    tensors = {"cells.weight": np.zeros((8, 24, 1, 1), np.float32), "cells.bias": np.zeros(8, np.float32)}
    return bytes(save(tensors, metadata={"semdefect": json.dumps(about)}))


def manifest() -> bytes:
    """A manifest of thirty rows."""
    columns = "path,class,origin,family,source_id,group,seed,size,bbox\n"
    rows = [
        f'{name}/{index}.png,{name},rendered,lines,"rendered/{name}/{index}",g{index},{index},224,1 2 30 40\n'
        for index, name in enumerate(CLASSES * 4)
    ]
    return (columns + "".join(rows[:30])).encode()


def archive() -> bytes:
    """An archive of `MEMBERS`, images of 64 px."""
    return tar_bytes((name, _png(seed)) for seed, name in enumerate(MEMBERS))


def _png(seed: int) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (LEAST_SIZE, LEAST_SIZE), np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def parameters() -> bytes:
    """The project's own parameters."""
    return Path(PARAMS).read_bytes()


def weights(scratch: Path) -> list[bytes]:
    """A whole checkpoint, and `tiny_weights`."""
    from semdefect.network import SemNetwork, save_network

    save_network(SemNetwork("mobilenetv3_small_050", 32), scratch / "whole.safetensors", half=True)
    return [(scratch / "whole.safetensors").read_bytes(), tiny_weights()]


def results(model: Path, scratch: Path) -> bytes:
    """A CSV file of results of ``model``, for three images, one of which cannot be read."""
    from semdefect.edge import EdgeClassifier, Failure
    from semdefect.edge.results import Results

    classifier, path = EdgeClassifier(model), scratch / "results.csv"
    answer = classifier.classify(Image.effect_noise((40, 30), 40))
    with Results(path, classifier) as rows:
        for name, result in (("a.png", answer), ("b.png", answer), ("c, d.png", Failure("c, d.png: is empty"))):
            rows.write(Path(name), result)
    return path.read_bytes()
