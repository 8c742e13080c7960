"""Random views of training images: small changes that never change the class."""

import math

import torch
from torch import Tensor
from torch.nn import functional


def random_views(pixels: Tensor, masks: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A fresh view of each image.

    Flips, rotation by up to 8°, zoom by 0.9-1.15, shifts by up to 4 % (so that a defect stays in the frame),
    stretch by up to 8 %; in a third of the images another detector (see `_detected`); then contrast × 0.7-1.4,
    brightness ± 0.12, gamma 0.75-1.35, and in three of ten images noise of up to 0.05 (full scale 1).

    Args:
        pixels: ``[N, 1, H, W]`` uint8.
        masks: ``[N, 1, h, w]`` bool, warped along.
        generator: of the CPU, so that every device sees the same views, or of the device of ``pixels``, which is faster
            there; equal states give equal views.

    Returns:
        ``[N, 1, H, W]`` and ``[N, 1, h, w]``, float32 in [0, 1], on the device of ``pixels``.
    """
    images = pixels.float() / 255
    warp = _warps(len(images), generator).to(images.device)
    return _tones(_detected(_warped(images, warp), generator), generator).clamp_(0, 1), _warped(masks.float(), warp)


def _warped(images: Tensor, warp: Tensor) -> Tensor:
    grid = functional.affine_grid(warp, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, device=generator.device) * (high - low) + low


def _warps(count: int, generator: torch.Generator) -> Tensor:
    """Affine matrices ``[N, 2, 3]`` from output to input coordinates (both in [-1, 1])."""
    angle = _uniform(count, -8, 8, generator) * (math.pi / 180)
    zoom = 1 / _uniform(count, 0.9, 1.15, generator)
    stretch = _uniform(count, 0.96, 1.04, generator)
    flips = torch.randint(0, 2, (2, count), generator=generator, device=generator.device) * 2.0 - 1
    shift = _uniform(2 * count, -0.08, 0.08, generator).reshape(2, count)  # of [-1, 1]: 4 % of the side
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = [
        cos * stretch * flips[0],
        -sin * flips[1],
        shift[0],
        sin * flips[0],
        cos / stretch * flips[1],
        shift[1],
    ]
    return torch.stack(rows, dim=1).reshape(count, 2, 3)


def _detected(images: Tensor, generator: torch.Generator) -> Tensor:
    """A third of the images with another answer to edges: sharper, softer or lit from one side, flat areas unchanged.

    Each is convolved with a random 3 × 3 kernel of sum one. Source: Xu, Liu, Yang, Raffel, Niethammer, "Robust and
    Generalizable Visual Representation Learning via Random Convolutions", 2021.
    """
    count = len(images)
    strength = _uniform(count, 0, 0.35, generator) * (_uniform(count, 0, 1, generator) < 0.35)
    kernels = torch.randn(count, 1, 3, 3, generator=generator, device=generator.device) * strength[:, None, None, None]
    kernels -= kernels.mean(dim=(2, 3), keepdim=True)
    kernels[:, :, 1, 1] += 1
    padded = functional.pad(images, (1, 1, 1, 1), mode="reflect").transpose(0, 1)
    return functional.conv2d(padded, kernels.to(images.device), groups=count).transpose(0, 1)


def _tones(images: Tensor, generator: torch.Generator) -> Tensor:
    """Contrast, brightness, gamma and noise of their own for each image."""
    count, device = len(images), images.device

    def each(low: float, high: float) -> Tensor:
        return _uniform(count, low, high, generator).reshape(count, 1, 1, 1).to(device)

    mean = images.mean(dim=(2, 3), keepdim=True)
    images = (images - mean) * each(0.7, 1.4) + mean + each(-0.12, 0.12)
    images = images.clamp(1e-3, 1) ** torch.exp(each(math.log(0.75), math.log(1.35)))
    sigma = each(0, 0.05) * (each(0, 1) < 0.3)
    noise = torch.randn(images.shape, generator=generator, device=generator.device).to(device)
    return images + sigma * noise
