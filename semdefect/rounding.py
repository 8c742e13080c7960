"""A student that computes as its INT8 file will: weights and activations rounded to 8 bits, simulated in torch.

Batch norm is folded into the convolutions, every tensor that the device holds in 8 bits passes a `Rounding`, and the
exporter turns those into the file's ``QuantizeLinear`` and ``DequantizeLinear``. `set_precision` switches the rounding
on and off, so that one set of weights gives every file.

Sources: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
2018 (simulated rounding); Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019
(scaling channels to one range where the next layer can undo it).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, cast

import torch
from timm.layers.norm_act import BatchNormAct2d
from timm.models._efficientnet_blocks import InvertedResidual, SqueezeExcite
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_weights

#: What a network can compute as: as trained, weights alone rounded, or activations as well.
Precision = Literal["fp32", "int8-weights", "int8"]
#: Training images that ranges are chosen by.
CALIBRATION = 192
#: Values of an image that a `Rounding` looks at to choose its range.
_SAMPLE = 4000
#: Ranges tried, as a share of the full one.
_SHARES = (1, 0.85, 0.7, 0.6, 0.5, 0.4, 0.3, 0.22, 0.16, 0.12, 0.09, 0.07, 0.05)
#: Candidates for the scale of a channel of a weight, as a share of the one that clips nothing.
_SHRINK = torch.linspace(0.7, 1.0, 61).tolist()
#: Share of a channel's values that its range has to hold where channels are scaled to one range.
_HELD = 0.9999

# torch knows no shapes of this operation, and without them exports no graph for batches of any size.
_LIBRARY = torch.library.Library("aten", "IMPL", "Meta")
_LIBRARY.impl(
    "fake_quantize_per_tensor_affine_cachemask",
    lambda values, *_: (torch.empty_like(values), torch.empty_like(values, dtype=torch.bool)),
)


class Rounding(nn.Module):
    """Rounds a tensor to the 256 steps of a fixed range, one for the whole tensor; gradients pass within the range."""

    def __init__(self, low: float = -torch.inf, high: float = torch.inf) -> None:
        """What lies outside ``low..high`` makes no difference to what follows, and needs no steps."""
        super().__init__()
        self.low, self.high = low, high
        self.active = False
        self.seen: list[Tensor] | None = None
        # Numbers and no buffers: the exporter knows no rounding whose range is a tensor.
        self.scale, self.zero = 1.0, 0

    def get_extra_state(self) -> Tensor:
        """Scale and zero point, for the state dictionary."""
        return torch.tensor([self.scale, self.zero], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """What `get_extra_state` gave."""
        self.scale, self.zero = float(state[0]), int(state[1])

    def forward(self, values: Tensor) -> Tensor:
        """``values`` of any shape, rounded where `set_precision` says so."""
        if self.seen is not None:
            rows = values.detach().clamp(self.low, self.high).flatten(1)
            self.seen.append(rows[:, :: max(1, rows.shape[1] // _SAMPLE)].cpu())
        if not self.active:
            return values
        return self._round(values)

    def choose_range(self) -> None:
        """Take the range with the least squared error relative to each image's own power, over all that was seen.

        Relative, since single images are ten times as bright within the network as the rest, and would else decide.
        """
        rows = self._rows()
        lowest, highest = min(rows.min().item(), 0.0), max(rows.max().item(), 1e-6)
        power = rows.square().mean(dim=1).clamp_min(1e-12)
        candidates = [
            (low, high)
            for high in (highest * share for share in _SHARES)
            # Activations reach down to a known bound or as far as up.
            for low in ([lowest] if lowest > -0.5 or self.low > -torch.inf else [lowest * share for share in _SHARES])
            if low == lowest or 0.25 < -low / high < 4
        ]
        errors = []
        for low, high in candidates:
            self._set_range(low, high)
            errors.append(((self._round(rows) - rows).square().mean(dim=1) / power).mean().item())
        self._set_range(*candidates[errors.index(min(errors))])

    def signal_to_noise(self) -> float:
        """Power of what was seen over the power of what rounding changes of it, in dB."""
        rows = self._rows()
        noise = (self._round(rows) - rows).square().mean().clamp_min(1e-12)
        return float(10 * torch.log10(rows.square().mean().clamp_min(1e-12) / noise))

    def _rows(self) -> Tensor:
        """What was seen, ``[N, values]``; it is forgotten."""
        rows, self.seen = torch.cat(self.seen or []), None
        return rows

    def _round(self, values: Tensor) -> Tensor:
        return torch.fake_quantize_per_tensor_affine(values, self.scale, self.zero, 0, 255)

    def _set_range(self, low: float, high: float) -> None:
        self.scale = max((high - low) / 255, 1e-8)
        self.zero = round(-low / self.scale)


class WeightRounding(nn.Module):
    """Rounds a weight ``[out, …]`` to INT8, one scale an output channel; a parametrization of the weight."""

    def __init__(self, outputs: int) -> None:
        """``outputs`` channels."""
        super().__init__()
        self.active = self.beside_activations = False
        self.scale: Tensor
        self.zero: Tensor
        self.gains: Tensor | None
        self.register_buffer("scale", torch.ones(outputs))
        self.register_buffer("zero", torch.zeros(outputs, dtype=torch.int32))
        self.register_buffer("gains", None)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight, rounded where `set_precision` says so; beside rounded activations its rows times ``gains``."""
        if not self.active:
            return weight
        return self.rounded(weight, self.gains if self.beside_activations else None)

    def rounded(self, weight: Tensor, gains: Tensor | None) -> Tensor:
        """The rounded weight, its rows multiplied by ``gains [out]``: the same integers with other scales."""
        scale = self.scale
        if gains is not None:
            weight, scale = weight * gains.reshape(-1, *[1] * (weight.ndim - 1)), scale * gains
        return torch.fake_quantize_per_channel_affine(weight, scale, self.zero, 0, -128, 127)


def weight_scales(weight: Tensor) -> Tensor:
    """One scale an output channel, ``[out]``, so that rounding ``weight [out, …]`` to -127..127 of it errs least."""
    rows = weight.detach().flatten(1)
    largest = rows.abs().amax(dim=1).clamp_min(1e-30) / 127
    best = largest.clone()
    least = torch.full_like(largest, torch.inf)
    for shrink in _SHRINK:
        scale = largest * shrink
        error = ((rows / scale[:, None]).round().clamp(-127, 127) * scale[:, None] - rows).square().sum(dim=1)
        best = torch.where(error < least, scale, best)
        least = torch.minimum(error, least)
    return best


class EqualStem(nn.Module):
    """The first convolution and its hard-swish, whose channels differ a hundredfold, scaled to one range.

    ``x · hardsigmoid(x)`` times a gain is ``(gain · x) · hardsigmoid(x)``: two convolutions with the same rounded
    weights, each with a range that fits, and the following depthwise convolution divides by the gain. Without rounding
    it is the plain convolution and hard-swish.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        """Wrap a folded and rounded ``convolution``."""
        super().__init__()
        self.convolution = convolution
        self.active = False
        self.gains: Tensor
        self.register_buffer("gains", torch.ones(convolution.out_channels))
        self.gate_in, self.gate, self.value, self.product = Rounding(-3, 3), Rounding(), Rounding(), Rounding()

    def forward(self, images: Tensor) -> Tensor:
        """``[N, 1, H, W]`` → ``[N, C, H/2, W/2]``; where it rounds, times ``gains``."""
        answers = self.convolution(images)
        if not self.active and self.value.seen is None:
            return functional.hardswish(answers)
        gate = self.gate(functional.hardsigmoid(self.gate_in(answers)))
        gains = self.gains[:, None, None]
        if not self.active:  # ranges are being chosen
            product = functional.hardswish(answers)
            self.value(answers * gains), self.product(product * gains)
            return product
        convolution, rounding = self.convolution, _rounding_of(self.convolution)
        weight = rounding.rounded(cast(Any, convolution).parametrizations.weight.original, self.gains)
        bias = cast(Tensor, convolution.bias) * self.gains
        scaled = functional.conv2d(images, weight, bias, convolution.stride, convolution.padding)
        return self.product(self.value(scaled) * gate)


class RoundedPool(nn.Module):
    """Half the sum of mean and maximum of each channel, `timm`'s ``avgmax``, each of them rounded."""

    def __init__(self) -> None:
        """No options."""
        super().__init__()
        self.mean, self.maximum, self.both = Rounding(), Rounding(), Rounding()

    def forward(self, features: Tensor) -> Tensor:
        """``[N, C, H, W]`` → ``[N, C, 1, 1]``."""
        mean, maximum = features.mean((2, 3), keepdim=True), features.amax((2, 3), keepdim=True)
        return self.both(0.5 * (self.mean(mean) + self.maximum(maximum)))


def add_rounding(backbone: Any, heads: Sequence[nn.Module], evidence: nn.Module) -> None:
    """Fold batch norm into the convolutions of a MobileNetV3 and put a `Rounding` at every tensor.

    The answers stay what they were until `calibrate` and `set_precision`.

    Args:
        backbone: timm's network, pooling by ``avgmax``.
        heads: further layers, whose weights and outputs are rounded too.
        evidence: of those, the one whose input is rounded, since it comes from an operation of its own.
    """
    for parent in list(backbone.modules()):
        _fold_batch_norm(parent)
    for layer in [*backbone.modules(), *heads]:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            rounding = WeightRounding(layer.weight.shape[0])
            parametrize.register_parametrization(layer, "weight", rounding, unsafe=True)
    if isinstance(backbone.bn1[1], nn.Hardswish):
        backbone.conv_stem, backbone.bn1 = EqualStem(backbone.conv_stem), nn.Identity()
        following = _rounding_of(backbone.blocks[0][0].conv_dw)
        following.gains = torch.ones_like(following.scale)
    _round_input(backbone.conv_stem)
    for module in list(backbone.modules()):
        if isinstance(module, SqueezeExcite):
            module.act1, module.gate = _rounded(module.act1), _rounded(module.gate)
            _round_input(module.conv_reduce)
            _round_output(module)
        if getattr(module, "has_skip", False):
            _round_output(module)
    backbone.global_pool = RoundedPool()
    backbone.act2 = _rounded(backbone.act2)
    # Rounded once more, alike, which changes nothing: integer processors want both sides of every operation rounded.
    backbone.flatten = nn.Sequential(backbone.flatten, backbone.act2[-1])
    for layer in (backbone.classifier, *heads):
        _round_output(layer)
    _round_input(evidence)


def _fold_batch_norm(parent: nn.Module) -> None:
    """Each convolution of ``parent`` that a batch norm follows takes it over; the activation behind it is rounded."""
    children = list(parent.named_children())
    for (_, first), (name, second) in pairwise(children):
        if isinstance(first, nn.Conv2d) and isinstance(second, BatchNormAct2d):
            mean, variance = cast(Tensor, second.running_mean), cast(Tensor, second.running_var)
            first.weight, first.bias = fuse_conv_bn_weights(
                first.weight, first.bias, mean, variance, second.eps, second.weight, second.bias
            )
            setattr(parent, name, _rounded(second.act))


def _rounded(activation: nn.Module) -> nn.Module:
    """``activation`` with a `Rounding` behind it and, where no integer convolution has it built in, before it."""
    if isinstance(activation, nn.Identity):
        return Rounding()
    if isinstance(activation, nn.ReLU):
        return nn.Sequential(nn.ReLU(), Rounding())
    before = Rounding(-3, 3) if isinstance(activation, nn.Hardsigmoid) else Rounding(-3)
    return nn.Sequential(before, activation, Rounding())


def _round_output(module: nn.Module) -> None:
    module.register_module("rounding_out", Rounding())
    module.register_forward_hook(lambda this, _, output: this.rounding_out(output))


def _round_input(module: nn.Module) -> None:
    module.register_module("rounding_in", Rounding())
    module.register_forward_pre_hook(lambda this, inputs: (this.rounding_in(inputs[0]),))


def _rounding_of(layer: nn.Module) -> WeightRounding:
    return cast(WeightRounding, cast(Any, layer).parametrizations.weight[0])


def set_precision(network: nn.Module, precision: Precision) -> None:
    """Let ``network`` compute as one of its files does."""
    for module in network.modules():
        if isinstance(module, WeightRounding):
            module.active, module.beside_activations = precision != "fp32", precision == "int8"
        elif isinstance(module, Rounding | EqualStem):
            module.active = precision == "int8"


@torch.no_grad()
def calibrate(network: Any, pixels: Tensor) -> None:
    """Choose scales and ranges of a network with rounding.

    Args:
        network: a `SemNetwork`; its weights may be scaled, channel by channel, in ways that leave the logits alone.
        pixels: images to choose by, uint8 ``[N, 1, H, W]``; a few of every class.
    """
    network.eval()
    set_precision(network, "fp32")
    _equalise(network, pixels)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and parametrize.is_parametrized(layer):
            _rounding_of(layer).scale.copy_(weight_scales(cast(Any, layer).parametrizations.weight.original))
    for rounding in _watched(network, pixels).values():
        rounding.choose_range()


def signal_to_noise(network: Any, pixels: Tensor) -> dict[str, float]:
    """For each rounded activation, by its name in the network, the power of signal over that of its rounding, in dB."""
    network.eval()
    set_precision(network, "fp32")
    return {name: rounding.signal_to_noise() for name, rounding in _watched(network, pixels).items()}


def _watched(network: nn.Module, pixels: Tensor) -> dict[str, Rounding]:
    """The activations' roundings by name, after they saw ``pixels`` in FP32."""
    roundings = {name: module for name, module in network.named_modules() if isinstance(module, Rounding)}
    for rounding in roundings.values():
        rounding.seen = []
    _show(network, pixels)
    return roundings


@torch.no_grad()
def _show(network: nn.Module, pixels: Tensor) -> None:
    device = next(network.parameters()).device
    for batch in pixels.split(64):
        network(batch.to(device).float() / 255)


def _equalise(network: Any, pixels: Tensor) -> None:
    """Scale channels between a convolution and the depthwise one behind it to one range, where that is exact."""
    stem, first = network.backbone.conv_stem, network.backbone.blocks[0][0]
    pairs = [
        (block.conv_pw, block.bn1, block.conv_dw)
        for block in network.modules()
        if isinstance(block, InvertedResidual) and isinstance(block.bn1[0], nn.ReLU)
    ]
    watched = [activation for _, activation, _ in pairs] + ([stem] if isinstance(stem, EqualStem) else [])
    gains = [held.max() / held for held in _channel_ranges(network, watched, pixels)]
    for (before, _, after), gain in zip(pairs, gains, strict=False):
        before.parametrizations.weight.original.mul_(gain[:, None, None, None])
        before.bias.mul_(gain)
        after.parametrizations.weight.original.div_(gain[:, None, None, None])
    if isinstance(stem, EqualStem):
        stem.gains.copy_(gains[-1])
        cast(Tensor, _rounding_of(first.conv_dw).gains).copy_(1 / gains[-1])


def _channel_ranges(network: nn.Module, modules: list[nn.Module], pixels: Tensor) -> list[Tensor]:
    """For each module the magnitude that holds `_HELD` of the values of each channel of its output, ``[C]``."""
    seen: dict[nn.Module, list[Tensor]] = {module: [] for module in modules}

    def look(module: nn.Module, _: Any, output: Tensor) -> None:
        seen[module].append(output.abs().transpose(0, 1).flatten(1)[:, ::7])

    hooks = [module.register_forward_hook(look) for module in modules]
    _show(network, pixels)
    for hook in hooks:
        hook.remove()
    rows = [torch.cat(parts, dim=1) for parts in seen.values()]
    return [row.topk(max(1, round(row.shape[1] * (1 - _HELD))), dim=1).values[:, -1].clamp_min(1e-4) for row in rows]
