"""A student checkpoint as one self-contained ONNX file whose bytes depend on nothing but its weights."""

import math
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from semdefect import CLASSES
from semdefect.atomic import replacing, write_json
from semdefect.calibration import fit_temperature, guard_threshold
from semdefect.edge.classifier import EdgeClassifier
from semdefect.edge.image import SIZE
from semdefect.edge.metadata import METADATA_KEY, ModelMetadata
from semdefect.errors import UserError
from semdefect.images import ImageSet, load_images
from semdefect.manifest import SPLITS, read_manifest
from semdefect.network import SemNetwork, file_sha256, load_network, predict
from semdefect.params import ExportOnnx
from semdefect.quantization import quantize_weights

OPSET = 18


def to_onnx(network: SemNetwork) -> onnx.ModelProto:
    """The network as ONNX: ``input [N, 1, 224, 224]`` float32 in [0, 1] → ``logits [N, 8]``, batch of any size.

    The exporter notes where each node comes from, with absolute paths of this machine: all of that is removed.
    """
    network = network.cpu().float().eval()
    example = torch.rand(2, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own internals
        program = torch.onnx.export(
            network,
            (example,),
            input_names=["input"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _forget_origin(model)
    onnx.checker.check_model(model)
    return model


def _forget_origin(model: onnx.ModelProto) -> None:
    graph = model.graph
    for part in [
        model,
        graph,
        *graph.node,
        *graph.value_info,
        *graph.input,
        *graph.output,
        *graph.initializer,
    ]:
        del part.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
    model.producer_name, model.producer_version, model.doc_string = "semdefect", "", ""


def save_onnx(model: onnx.ModelProto, metadata: ModelMetadata, path: Path) -> None:
    """Write ``model`` with its ``metadata``, whole or not at all, in an order of bytes that never varies."""
    onnx.helper.set_model_props(model, {METADATA_KEY: metadata.to_json()})
    with replacing(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))


def export_student(checkpoint: Path, folder: Path, metrics: Path, bars: ExportOnnx, threads: int) -> None:
    """Export ``checkpoint`` to ``folder`` as FP32 and INT8 and write the figures of the comparison.

    Temperature and guard threshold come from the FP32 file's logits on the validation split and go into both
    files, so that they decide alike.

    Raises:
        UserError: FP32 ONNX and torch differ by more than ``bars.torch_tolerance``, or INT8 and FP32 agree on
            fewer than ``bars.int8_agreement`` of the validation images; gives the figures. No file is left.
    """
    torch.set_num_threads(threads)
    network = load_network(checkpoint)
    validation = load_images(read_manifest(SPLITS / "val.csv"), SIZE)
    labels = validation.labels.numpy()
    about = ModelMetadata(CLASSES, 1.0, 0.0, bars.target_purity, "fp32", file_sha256(checkpoint))
    fp32 = to_onnx(network)
    int8 = quantize_weights(fp32)
    with tempfile.TemporaryDirectory() as scratch:
        fp32_logits = _run(fp32, about, Path(scratch) / "fp32.onnx", validation, threads)
        int8_logits = _run(int8, about, Path(scratch) / "int8.onnx", validation, threads)
    difference = float(np.abs(predict(network, validation.pixels).numpy() - fp32_logits).max())
    agreement = float((fp32_logits.argmax(1) == int8_logits.argmax(1)).mean())
    if difference > bars.torch_tolerance:
        raise UserError(
            f"{checkpoint}: ONNX and torch logits differ by up to {difference:.2g}, more than "
            f"export_onnx.torch_tolerance {bars.torch_tolerance:g}"
        )
    if agreement < bars.int8_agreement:
        raise UserError(
            f"{checkpoint}: INT8 and FP32 name the same class on {agreement:.2%} of {len(labels)} validation "
            f"images, fewer than export_onnx.int8_agreement {bars.int8_agreement:g}; train longer"
        )
    temperature = fit_temperature(fp32_logits, labels)
    threshold = guard_threshold(fp32_logits, labels, temperature, bars.target_purity)
    about = replace(about, temperature=temperature, threshold=threshold)
    paths = {"fp32": folder / "student_fp32.onnx", "int8": folder / "student_int8.onnx"}
    save_onnx(fp32, about, paths["fp32"])
    save_onnx(int8, replace(about, precision="int8-weights"), paths["int8"])
    figures = {
        "int8_fp32_agreement_val": agreement,
        "onnx_torch_difference_below": _power_of_ten_above(difference),
        "temperature": temperature,
        "guard_threshold": threshold,
        "megabytes": {name: round(path.stat().st_size / 1e6, 2) for name, path in paths.items()},
    }
    write_json(metrics, figures, digits=6)


def _run(
    model: onnx.ModelProto, about: ModelMetadata, path: Path, images: ImageSet, threads: int
) -> NDArray[np.float32]:
    """Logits of ``images`` as the device computes them from the saved file."""
    save_onnx(model, about, path)
    classifier = EdgeClassifier(path, threads)
    batches = (images.pixels.float() / 255).numpy()
    return np.concatenate([classifier.logits(batches[start : start + 32]) for start in range(0, len(batches), 32)])


def _power_of_ten_above(value: float) -> float:
    """A bound that does not change with the last bits of a difference."""
    return float(10.0 ** math.ceil(math.log10(max(value, 1e-9))))
