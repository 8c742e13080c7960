"""A session of the device: INT8 sums are exact on every processor, and asked for only where they have to be."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from semdefect.edge import session
from semdefect.edge.session import has_byte_products, open_session


@pytest.fixture
def forgetful():
    """What the processor can do is looked up anew."""
    has_byte_products.cache_clear()
    yield
    has_byte_products.cache_clear()


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_vnni\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx2 avx_vnni\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f\nbugs\t\t: avx_vnni\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd asimddp\n", False),  # ARM
        ("", False),
        (None, False),
    ],
)
def test_what_the_processor_can_do_is_what_linux_says(text, has, tmp_path, monkeypatch, forgetful):
    monkeypatch.setattr(session, "CPUINFO", tmp_path / "cpuinfo")
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert has_byte_products() is has


def largest_products(inputs: int) -> bytes:
    """A model that sums ``inputs`` products of the largest bytes there are: sums of two overflow 16 bits."""
    values = {
        "one": np.float32(1 / 255), "zero": np.uint8(0), "w": np.full((inputs, 8), 127, np.int8),
        "w_scale": np.float32(1 / 127), "w_zero": np.int8(0), "y_scale": np.float32(inputs / 255),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "one", "zero"], ["x_q"]),
        helper.make_node("DequantizeLinear", ["x_q", "one", "zero"], ["x"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["weights"]),
        helper.make_node("MatMul", ["x", "weights"], ["y"]),
        helper.make_node("QuantizeLinear", ["y", "y_scale", "zero"], ["y_q"]),
        helper.make_node("DequantizeLinear", ["y_q", "y_scale", "zero"], ["sums"]),
    ]
    graph = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", inputs])],
        [helper.make_tensor_value_info("sums", TensorProto.FLOAT, ["N", 8])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def test_sums_of_the_largest_bytes_are_exact_on_this_processor():
    opened = open_session(largest_products(64), Path("sums.onnx"), threads=1, optimized=True)
    (sums,) = opened.run(None, {"input": np.ones((3, 64), np.float32)})
    assert np.array_equal(sums, np.full((3, 8), 64, np.float32))
