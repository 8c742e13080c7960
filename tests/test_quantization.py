"""INT8 weights: never worse than plain rounding, a third of the size, nearly the same answers."""

import numpy as np
import onnx
import pytest
from samples import texture, tiny_network

from semdefect import CLASSES
from semdefect.edge.classifier import EdgeClassifier
from semdefect.edge.metadata import ModelMetadata
from semdefect.export import save_onnx, to_onnx
from semdefect.quantization import quantize_weights, round_to_int8


def plain_error(weight):
    rows = weight.reshape(len(weight), -1)
    scale = np.abs(rows).max(axis=1, keepdims=True) / 127
    return np.square(np.round(rows / scale) * scale - rows).sum(axis=1)


@pytest.mark.parametrize("shape", [(16, 3, 3, 3), (8, 100), (5, 1, 5, 5)])
@pytest.mark.parametrize("distribution", ["normal", "standard_t"])
def test_rounding_is_never_worse_than_scaling_by_the_largest_weight(shape, distribution):
    rng = np.random.default_rng(1)
    drawn = rng.normal(size=shape) if distribution == "normal" else rng.standard_t(3, size=shape)
    weight = (drawn * rng.lognormal(0, 2, (shape[0],) + (1,) * (len(shape) - 1))).astype(np.float32)
    values, scales = round_to_int8(weight)
    assert values.dtype == np.int8
    assert values.shape == weight.shape
    assert scales.shape == (shape[0],)
    restored = values * scales.reshape(-1, *(1,) * (weight.ndim - 1))
    error = np.square(restored - weight).reshape(shape[0], -1).sum(axis=1)
    assert (error <= plain_error(weight) * (1 + 1e-5)).all()
    if np.prod(shape[1:]) > 20:
        assert error.sum() < plain_error(weight).sum()


def test_channels_of_very_different_size_keep_their_own_precision():
    weight = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32) * [[1e-6], [1], [1e4]]
    values, scales = round_to_int8(weight.astype(np.float32))
    assert np.abs(values * scales[:, None] - weight).max(axis=1) / np.abs(weight).max(axis=1) == pytest.approx(
        0, abs=0.02
    )


def test_a_channel_of_zeros_stays_zero():
    weight = np.zeros((2, 9), np.float32)
    weight[1] = np.linspace(-1, 1, 9)
    values, scales = round_to_int8(weight)
    assert (values[0] == 0).all()
    assert np.isfinite(scales).all()
    assert (scales > 0).all()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A student with random weights as FP32 and INT8 files."""
    fp32 = to_onnx(tiny_network(resolution=64))
    folder = tmp_path_factory.mktemp("edge")
    about = ModelMetadata(CLASSES, 1.0, 0.5, 0.9, "fp32", "0" * 64)
    before = fp32.SerializeToString(deterministic=True)
    int8 = quantize_weights(fp32)
    assert fp32.SerializeToString(deterministic=True) == before  # a copy was changed
    save_onnx(fp32, about, folder / "fp32.onnx")
    save_onnx(int8, about, folder / "int8.onnx")
    return folder


def test_the_default_student_fits_two_megabytes():
    model = quantize_weights(to_onnx(tiny_network("mobilenetv3_small_100", resolution=112)))
    assert len(model.SerializeToString()) <= 2_000_000


def test_int8_holds_the_large_dense_convolutions_and_nothing_else(files):
    before, after = (onnx.load(files / name).graph for name in ("fp32.onnx", "int8.onnx"))
    weights = {i.name: tuple(i.dims) for i in before.initializer}
    dense = {n.input[1] for n in before.node if n.op_type == "Conv" and weights[n.input[1]][1] > 1}
    large = {f"{name}_int8" for name in dense if np.prod(weights[name]) >= 3000}
    assert {i.name for i in after.initializer if i.data_type == onnx.TensorProto.INT8} == large
    assert len(large) > 15


def test_the_device_gives_nearly_the_same_logits(files):
    batch = np.stack([texture(seed, 224) for seed in range(8)])[:, None].astype(np.float32) / 255
    fp32, int8 = (EdgeClassifier(files / name).logits(batch) for name in ("fp32.onnx", "int8.onnx"))
    # Random weights spread errors more than trained ones; those are held to export_onnx.int8_agreement.
    assert np.corrcoef(fp32.ravel(), int8.ravel())[0, 1] > 0.98
    assert np.abs(fp32 - int8).mean() < 0.2 * fp32.std()
