"""A tiny exported model whose answers a test can choose: the brightness of the image decides the class."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from semdefect import CLASSES
from semdefect.edge.guard import Guard
from semdefect.edge.metadata import METADATA_KEY, ModelMetadata

ROOT = Path(__file__).parents[2]
LEVELS = tuple(range(16, 256, 32))  # the gray level in the middle of each class's band


def guard(threshold=0.9, classes=8, unknown=0.5) -> Guard:
    return Guard((threshold,) * classes, unknown, target_purity=0.99, confidence=0.9)


def metadata(**changes) -> ModelMetadata:
    fields = {
        "classes": CLASSES,
        "temperature": 1.0,
        "guard": guard(),
        "precision": "fp32",
        "checkpoint_sha256": "0123456789abcdef" * 4,
    }
    return ModelMetadata(**{**fields, **changes})


def write_model(
    path,
    properties=None,
    classes=8,
    size=224,
    channels=1,
    names=("input", "logits", "unknown"),
    batch="N",
    sharpness=400.0,
):
    """logits_k = -sharpness * (mean - centre_k)**2, up to a term that all classes share; brighter than 248: unknown."""
    centres = np.array([(level / 255) for level in (LEVELS * 2)[:classes]], dtype=np.float32)
    weight = (2 * sharpness * centres)[np.newaxis]
    bias = -sharpness * centres**2
    nodes = [
        helper.make_node("ReduceMean", [names[0]], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "axis"], ["column"]),
        helper.make_node("MatMul", ["column", "weight"], ["product"]),
        helper.make_node("Add", ["product", "bias"], [names[1]]),
        helper.make_node("Greater", ["mean", "bright"], ["brighter"]),
        helper.make_node("Cast", ["brighter"], [names[2]], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info(names[0], TensorProto.FLOAT, [batch, channels, size, size])],
        [
            helper.make_tensor_value_info(names[1], TensorProto.FLOAT, [batch, classes]),
            helper.make_tensor_value_info(names[2], TensorProto.FLOAT, [batch]),
        ],
        [
            numpy_helper.from_array(weight.astype(np.float32), "weight"),
            numpy_helper.from_array(bias.astype(np.float32), "bias"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "axis"),
            numpy_helper.from_array(np.array(248 / 255, dtype=np.float32), "bright"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    if properties is None:
        properties = {METADATA_KEY: metadata().to_json()}
    helper.set_model_props(model, properties)
    onnx.save(model, path)
    return path


def with_int8_weights(plain, path):
    """The model ``plain`` with its weight stored in INT8; the path it was written to, and the scale."""
    network = onnx.load(plain)
    (weight,) = [value for value in network.graph.initializer if value.name == "weight"]
    scale = np.float32(np.abs(numpy_helper.to_array(weight)).max() / 127)
    stored = np.rint(numpy_helper.to_array(weight) / scale).astype(np.int8)
    weight.CopyFrom(numpy_helper.from_array(stored, "stored"))
    network.graph.initializer.append(numpy_helper.from_array(scale, "scale"))
    network.graph.initializer.append(numpy_helper.from_array(np.int8(0), "zero"))
    node = helper.make_node("DequantizeLinear", ["stored", "scale", "zero"], ["weight"])
    network.graph.node.insert(0, node)
    onnx.save(network, path)
    return path, float(scale)


def gray_image(level, size=(64, 48)):
    """An image of this mean gray level, with a step in it: a blank one goes to review whatever the model says."""
    image = Image.new("L", size, level - 4)
    image.paste(level + 4, (size[0] // 2, 0, *size))
    return image


def write_image(path, level, size=(64, 48)):
    path.parent.mkdir(parents=True, exist_ok=True)
    gray_image(level, size).save(path)
    return path


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "student.onnx")


@contextmanager
def started(*arguments, **options):
    """``semdefect`` while it runs; killed at the end of the block where it still does."""
    process = subprocess.Popen(
        [sys.executable, "-m", "semdefect.edge.cli", *map(str, arguments)],
        **{"env": {**os.environ, "PYTHONPATH": str(ROOT)}, "text": True, "stderr": subprocess.PIPE, **options},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def command(tmp_path):
    """Run ``semdefect`` as a user does; returns the finished process."""

    def run(*arguments, **options):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, "-m", "semdefect.edge.cli", *map(str, arguments)],
            **{
                "cwd": tmp_path,
                "env": environment,
                "capture_output": True,
                "text": True,
                "timeout": 60,
                **options,
            },
        )

    return run
