"""The INT8 side of a student: nothing changes while it is off, and what is trained is what the file computes."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from samples import image_set, rounded_network, tiny_network
from torch import nn
from torch.nn.utils import parametrize

from semdefect.losses import AgreementLoss, Batch, LabelLoss
from semdefect.network import load_network, predict, save_network
from semdefect.onnx_graph import to_onnx
from semdefect.quantization import integer_model, integer_weights
from semdefect.rounding import (
    EqualStem,
    Rounding,
    calibrate,
    set_precision,
    signal_to_noise,
    weight_scales,
)
from semdefect.variants import scales_of

IMAGES = image_set(2, 64)


@pytest.fixture(scope="module")
def exported():
    """A student and its graphs in FP32 and INT8: tracing a network takes ten seconds."""
    network = rounded_network()
    fp32 = to_onnx(network)
    set_precision(network, "int8")
    int8 = to_onnx(network)
    set_precision(network, "fp32")
    return network, fp32, int8


def answers_of(model: onnx.ModelProto, pixels: torch.Tensor) -> list[np.ndarray]:
    """As ONNX Runtime computes them; ``pixels`` are stretched to the contract's 224."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")  # as on the device
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(["logits", "unknown"], {"input": contract(pixels)})


def contract(pixels: torch.Tensor) -> np.ndarray:
    return nn.functional.interpolate(pixels.float() / 255, size=(224, 224), mode="nearest").numpy()


@pytest.mark.parametrize("model", ["mobilenetv3_small_050", "mobilenetv3_large_075"])
def test_folding_and_equalising_change_no_logit(model):
    network = tiny_network(model, resolution=64)
    before = predict(network, IMAGES.pixels)
    network.add_rounding()
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    assert torch.allclose(predict(network, IMAGES.pixels), before, atol=1e-4, rtol=1e-4)
    calibrate(network, IMAGES.pixels)
    assert torch.allclose(predict(network, IMAGES.pixels), before, atol=1e-4, rtol=1e-4)


def test_each_precision_is_noisier_than_the_one_before_and_the_first_comes_back():
    network = rounded_network()
    plain = predict(network, IMAGES.pixels)
    noise = {}
    for precision in ("int8-weights", "int8", "fp32"):
        set_precision(network, precision)
        noise[precision] = float((predict(network, IMAGES.pixels) - plain).std())
    assert 0 == noise["fp32"] < noise["int8-weights"] < noise["int8"] < float(plain.std())


def test_the_stem_is_equalised_channel_by_channel():
    network = rounded_network()
    stem = network.backbone.conv_stem
    assert isinstance(stem, EqualStem)
    with torch.no_grad():
        plain = stem(torch.randn(4, 1, 64, 64))
        spread = plain.abs().amax((0, 2, 3))
        set_precision(network, "int8")
        even = stem(torch.randn(4, 1, 64, 64)).abs().amax((0, 2, 3))
    assert spread.max() / spread.min() > 2 * even.max() / even.min()
    following = network.backbone.blocks[0][0].conv_dw.parametrizations.weight[0]
    assert torch.allclose(following.gains * stem.gains, torch.ones_like(stem.gains))


def test_a_saved_student_keeps_its_ranges(tmp_path):
    network = rounded_network()
    save_network(network, tmp_path / "student.safetensors")
    again = load_network(tmp_path / "student.safetensors")
    for each in (network, again):
        set_precision(each, "int8")
    assert torch.equal(predict(network, IMAGES.pixels), predict(again, IMAGES.pixels))


def test_the_integer_file_computes_what_training_saw(exported):
    network, fp32, int8 = exported
    plain, _ = answers_of(fp32, IMAGES.pixels)
    set_precision(network, "int8")
    with torch.no_grad():
        trained, strange = (values.numpy() for values in network.answers(torch.from_numpy(contract(IMAGES.pixels))))
    set_precision(network, "fp32")
    answered, unknown = answers_of(integer_model(int8), IMAGES.pixels)
    # Both round alike but for sums that fall on either side of a step.
    assert (answered - trained).std() < 0.75 * (trained - plain).std()
    assert np.abs(unknown - strange).max() < 0.02


def test_the_integer_file_holds_integers_only(exported):
    model = integer_model(exported[2])
    kinds = {initializer.name: initializer.data_type for initializer in model.graph.initializer}
    restored = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            _, weight, *bias = node.input
            if "unknown" in weight:
                continue  # a score of 200 numbers, in FP32 as the resizing is
            assert kinds[restored[weight]] == onnx.TensorProto.INT8
            assert all(kinds[restored[name]] == onnx.TensorProto.INT32 for name in bias)
            assert node.input[0] in restored, f"{node.name} reads a tensor in FP32"


def test_integer_weights_need_no_option_of_the_runtime(exported):
    network, fp32, _ = exported
    before = fp32.SerializeToString(deterministic=True)
    model = integer_weights(fp32, scales_of(network))
    assert fp32.SerializeToString(deterministic=True) == before  # a copy was changed
    assert "DequantizeLinear" not in {node.op_type for node in model.graph.node}
    weights = {node.input[1] for node in model.graph.node if node.op_type in ("Conv", "Gemm")}
    weights = {name for name in weights if "unknown" not in name}
    restored = {node.output[0] for node in model.graph.node if node.op_type == "Mul"}
    assert weights <= restored
    set_precision(network, "int8-weights")
    with torch.no_grad():
        expected = network.answers(torch.from_numpy(contract(IMAGES.pixels)))
    set_precision(network, "fp32")
    for found, wanted in zip(answers_of(model, IMAGES.pixels), expected, strict=True):
        assert np.abs(found - wanted.numpy()).max() < 1e-3


@pytest.mark.parametrize("shape", [(16, 3, 3, 3), (8, 100), (5, 1, 5, 5)])
@pytest.mark.parametrize("distribution", ["normal", "standard_t"])
def test_weights_are_never_rounded_worse_than_by_the_largest(shape, distribution):
    rng = np.random.default_rng(1)
    drawn = rng.normal(size=shape) if distribution == "normal" else rng.standard_t(3, size=shape)
    weight = torch.from_numpy(drawn * rng.lognormal(0, 2, (shape[0],) + (1,) * (len(shape) - 1))).float()
    rows = weight.flatten(1)

    def error(scale: torch.Tensor) -> torch.Tensor:
        return ((rows / scale[:, None]).round().clamp(-127, 127) * scale[:, None] - rows).square().sum(1)

    plain, found = error(rows.abs().amax(1) / 127), error(weight_scales(weight))
    assert (found <= plain * (1 + 1e-5)).all()
    if np.prod(shape[1:]) > 20:
        assert found.sum() < plain.sum()


def test_a_channel_of_zeros_has_a_scale():
    weight = torch.zeros(2, 9)
    weight[1] = torch.linspace(-1, 1, 9)
    scales = weight_scales(weight)
    assert torch.isfinite(scales).all() and (scales > 0).all()


def test_one_bright_image_does_not_decide_the_range():
    rounding = Rounding()
    rounding.seen = [torch.randn(63, 100).abs(), 1000 * torch.randn(1, 100).abs()]
    rounding.choose_range()
    assert rounding.scale * 255 < 300


def test_the_ratio_of_signal_and_noise_of_eight_bits_is_what_theory_says():
    rounding = Rounding()
    values = torch.linspace(0, 1, 2550).reshape(1, -1)
    rounding.seen = [values]
    rounding.choose_range()
    rounding.seen = [values]
    # Uniform signal of 256 steps: power 1/3, noise of a step (1/255)² / 12.
    assert rounding.signal_to_noise() == pytest.approx(10 * np.log10((1 / 3) / (1 / 255**2 / 12)), abs=0.3)


def test_every_rounded_tensor_has_a_ratio():
    ratios = signal_to_noise(rounded_network(), IMAGES.pixels)
    assert len(ratios) > 60 and all(np.isfinite(list(ratios.values())))
    assert {"backbone.conv_stem.product", "cells.rounding_out"} <= set(ratios)


def test_agreement_is_learned_by_the_weights_of_both():
    network = rounded_network().train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    labels, generator = IMAGES.labels, torch.Generator().manual_seed(0)
    targets = nn.functional.one_hot(labels, 8).float()

    def batch() -> Batch:
        """All images, in another order each time: every second one is asked in INT8."""
        order = torch.randperm(len(labels), generator=generator)
        parts = (IMAGES.pixels.float() / 255, labels, targets, IMAGES.masks.float(), IMAGES.known)
        return Batch(*(part[order] for part in parts))

    loss = AgreementLoss(LabelLoss(0.0), weight=20.0)

    def apart() -> float:
        network.eval()
        plain = predict(network, IMAGES.pixels)
        set_precision(network, "int8")
        noise = (predict(network, IMAGES.pixels) - plain).std() / plain.std()
        set_precision(network, "fp32")
        network.train()
        return float(noise)

    before = apart()
    for _ in range(40):
        optimizer.zero_grad()
        value, _ = loss(network, batch())
        value.backward()
        optimizer.step()
    assert apart() < 0.7 * before
    assert parametrize.is_parametrized(network.cells)
