"""Does the student look at the defect? Heat maps of its answers against the masks of rendered images.

Method: HiResCAM, gradient times activation at each place, summed over channels (Draelos, Carin, "Use HiResCAM instead
of Grad-CAM for faithful explanations of convolutional neural networks", 2020), from the package grad-cam. Grad-CAM
averages the gradient over the map first. Where a network pools by maximum, as this one does, that spreads what one cell
said over all cells in which the same channels are active.

Layer: the last block at stride 16, the deepest that all of a logit passes through: from there on one branch names a
class for each cell, the other goes on to stride 32 (`semdefect.network.SemNetwork`). A place of the map is a cell.

Figures: the pointing game of Zhang et al., "Top-down Neural Attention by Excitation Backprop", 2016, is won where the
maximum of the map of the true class lies on the defect; the energy of Wang et al., "Score-CAM", 2020, is the share of
the map that does. A cell lies on the defect where the mask reaches into it, as in `semdefect.losses.cell_loss`. So the
tolerance is a cell, 20 px of 224 at a working side of 176 px. Evidence strewn at random would reach the mean share of
such cells in both. Images in which that is more than half, as most with rough lines, tell nothing and do not count.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from pytorch_grad_cam import HiResCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from scipy.ndimage import binary_erosion
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from semdefect import CLASSES
from semdefect.edge.image import to_pixels
from semdefect.errors import UserError
from semdefect.images import ImageSet
from semdefect.network import SemNetwork, predict
from semdefect.rounding import set_precision
from semdefect.sheet import contact_sheet, spread

#: Images of one backward pass.
_BATCH = 32
#: Images count whose defect lies in no larger share of the cells.
_LARGEST = 0.5
#: Share of the colour where the map is largest, and colour of the line around a mask.
_OPACITY, _OUTLINE = 0.65, (0, 255, 255)

Maps = NDArray[np.float32]


class _CellCAM(HiResCAM):
    """HiResCAM whose maps stay as they are, a value a cell: enlarged ones have their maxima elsewhere."""

    def get_target_width_height(self, input_tensor: Tensor) -> None:
        return None


def heat_maps(network: SemNetwork, pixels: Tensor, classes: Sequence[int]) -> Maps:
    """Where the evidence for a class lies.

    Args:
        network: a student with a MobileNetV3; FP32 whatever precision is set, on its own device.
        pixels: ``[N, 1, H, W]`` uint8.
        classes: for each image the number of the class to explain.

    Returns:
        ``[N, h, w]``, a value a cell, 1 at the maximum of each map; 0 where nothing speaks for the class, and
        everywhere in an image in which nothing does.
    """
    set_precision(network, "fp32")
    targets = [ClassifierOutputTarget(number) for number in classes]
    parts = []
    with _CellCAM(network, [network.backbone.blocks[network._stride_16]]) as cam:
        for start in tqdm(range(0, len(pixels), _BATCH), desc="heat maps", unit="batch", disable=None, leave=False):
            part = slice(start, start + _BATCH)
            parts.append(cam(pixels[part].float() / 255, targets[part]))
    network.zero_grad()
    return np.concatenate(parts)


def attention(network: SemNetwork, images: ImageSet) -> dict[str, Any]:
    """How much of the evidence for the true class lies on the defect.

    Args:
        network: as in `heat_maps`.
        images: rendered ones with their masks, at the size of the device's images. Those without a mask, as all that
            are clean, and those whose defect lies in more than half of the cells do not count.

    Returns:
        ``per_class``, of each class of which any image counts: ``images``, ``pointing`` (share of the maxima that lie
        on the defect), ``energy`` (mean share of the map that does) and ``chance`` (what both would be at random).
        Beside it ``images`` of all, the means of the classes, and ``pointing_right`` and ``pointing_wrong`` of the
        images that the student names rightly and wrongly, None where there are none.

    Raises:
        UserError: no image counts.
    """
    shown = images.take(_masked(images))
    maps = heat_maps(network, shown.pixels, shown.labels.tolist())
    touched = functional.adaptive_max_pool2d(shown.masks.float(), maps.shape[1:])[:, 0].numpy() > 0
    counts = touched.mean(axis=(1, 2)) <= _LARGEST
    if not counts.any():
        raise UserError("no image has a defect in less than half of it: pass more rendered images")
    shown, maps, touched = shown.take(np.flatnonzero(counts)), maps[counts], touched[counts]
    return _figures(shown.labels.numpy(), maps, touched, predict(network, shown.pixels).argmax(dim=1).numpy())


def _figures(
    labels: NDArray[np.int64], maps: Maps, touched: NDArray[np.bool_], called: NDArray[np.int64]
) -> dict[str, Any]:
    """What `attention` returns; ``labels`` and ``called [N]``, ``maps`` and ``touched [N, h, w]``."""
    hits, energy, chance = _hits(maps, touched), _energy(maps, touched), touched.mean(axis=(1, 2))
    per_class = {
        CLASSES[label]: {
            "images": int((labels == label).sum()),
            "pointing": float(hits[labels == label].mean()),
            "energy": float(energy[labels == label].mean()),
            "chance": float(chance[labels == label].mean()),
        }
        for label in np.unique(labels)
    }
    means = {key: float(np.mean([row[key] for row in per_class.values()])) for key in ("pointing", "energy", "chance")}
    right = called == labels
    return means | {
        "images": len(labels),
        "per_class": per_class,
        "pointing_right": float(hits[right].mean()) if right.any() else None,
        "pointing_wrong": float(hits[~right].mean()) if not right.all() else None,
    }


def _masked(images: ImageSet) -> NDArray[np.int64]:
    """Numbers of the images with a mask."""
    found = np.flatnonzero((images.known & images.masks.flatten(1).any(dim=1)).numpy())
    if not len(found):
        raise UserError("no image has a mask to compare heat maps with: pass rendered images of defects")
    return found


def _hits(maps: Maps, touched: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which maps ``[N, h, w]`` have their maximum in a touched cell; an empty one has no maximum."""
    flat = maps.reshape(len(maps), -1)
    best = flat.argmax(axis=1)[:, None]
    return np.take_along_axis(touched.reshape(flat.shape), best, axis=1)[:, 0] & (flat.max(axis=1) > 0)


def _energy(maps: Maps, touched: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of each map ``[N, h, w]`` that lies in touched cells; 0 of an empty one."""
    total = maps.sum(axis=(1, 2), dtype=np.float64)
    inside = np.where(touched, maps, 0).sum(axis=(1, 2), dtype=np.float64)
    return np.divide(inside, total, out=np.zeros_like(total), where=total > 0)


def heat_overlays(network: SemNetwork, images: Sequence[Image.Image], classes: Sequence[int]) -> list[Image.Image]:
    """Each gray image in colours that show where the evidence for its class of ``classes`` lies; RGB, same sizes."""
    pixels = torch.from_numpy(np.stack([to_pixels(image) for image in images]))[:, None]
    return [_coloured(image, heat) for image, heat in zip(images, heat_maps(network, pixels, classes), strict=True)]


def _coloured(image: Image.Image, heat: Maps, mask: NDArray[np.bool_] | None = None) -> Image.Image:
    """``image`` under ``heat [h, w]`` in 0..1, with a line around the ``mask``, of any size, where it is given."""
    large = np.asarray(Image.fromarray(heat).resize(image.size, Image.Resampling.BILINEAR)).clip(0, 1)[..., None]
    colours = colormaps["inferno"](large[..., 0])[..., :3] * 255
    mixed = np.asarray(image.convert("RGB")) * (1 - _OPACITY * large) + colours * _OPACITY * large
    if mask is not None:
        inside = np.asarray(Image.fromarray(mask).resize(image.size, Image.Resampling.NEAREST))
        mixed[inside & ~binary_erosion(inside, iterations=2)] = _OUTLINE
    return Image.fromarray(mixed.round().astype(np.uint8))


def attention_sheet(network: SemNetwork, images: ImageSet, path: Path, per_class: int = 6) -> None:
    """A page with a line a class: each image, and beside it the heat map of its true class with the mask's outline.

    Under the map stands what the student called it. ``images`` as in `attention`, ``path`` of the PNG.
    """
    masked, labels = _masked(images), images.labels.numpy()
    chosen = [spread(masked[labels[masked] == label].tolist(), per_class) for label in np.unique(labels[masked])]
    shown = images.take(np.array([index for indices in chosen for index in indices]))
    maps = heat_maps(network, shown.pixels, shown.labels.tolist())
    called = predict(network, shown.pixels).argmax(dim=1).tolist()
    lines: dict[str, list[tuple[Image.Image, str]]] = {}
    for number, label in enumerate(shown.labels.tolist()):
        image = Image.fromarray(shown.pixels[number, 0].numpy())
        heat = _coloured(image, maps[number], shown.masks[number, 0].numpy())
        tiles = lines.setdefault(CLASSES[label], [])
        tiles += [(image, ""), (heat, CLASSES[called[number]])]
    contact_sheet(list(lines.items()), path)
