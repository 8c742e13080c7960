"""Small inputs that several unit tests share: parameters, manifest rows, textured images, image sets."""

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import nn

from semdefect import CLASSES
from semdefect.chunks import MASK_SIZE
from semdefect.images import ImageSet
from semdefect.manifest import IMAGES, SPLITS, Row, write_manifest
from semdefect.network import SemNetwork
from semdefect.params import Params, check_params
from semdefect.rounding import calibrate

ROOT = Path(__file__).parents[1]

torch.set_num_threads(1)  # tiny networks gain nothing from more, and lose much where cores are busy


def params_content() -> dict[str, Any]:
    """The repository's own params.yaml, as plain dicts to spoil."""
    return yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def params(**changes: dict[str, Any]) -> Params:
    """The repository's parameters with ``changes``, block name → keys."""
    content = params_content()
    for block, values in changes.items():
        content[block] |= values
    return check_params(content, "params.yaml", Params)


def row(path: str, **changes: Any) -> Row:
    """A manifest row that is its own lineage group."""
    label = path.split("/")[0]
    fields = {
        "label": label if label in CLASSES else "clean",
        "origin": "rendered",
        "family": "lines",
        "source_id": f"rendered/{path}",
        "group": f"rendered/{path}",
        "seed": 1,
        "size": 224,
        "bbox": "",
    }
    return Row(path=path, **fields | changes)


def written(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder``, by its path there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def texture(seed: int, size: int = 64) -> np.ndarray:
    """Smooth random gray, uint8 ``[size, size]``; two seeds do not correlate."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(size, size)), size / 32)
    return np.clip(128 + 45 * noise / noise.std(), 0, 255).astype(np.uint8)


def stripes(label: int, seed: int, size: int) -> np.ndarray:
    """An image whose class shows: stripes at an angle of its own, under noise."""
    rng = np.random.default_rng([label, seed])
    y, x = np.mgrid[:size, :size] / size
    angle = np.pi * label / len(CLASSES)
    wave = np.sin(2 * np.pi * (4 * (x * np.cos(angle) + y * np.sin(angle)) + rng.random()))
    return np.clip(128 + 70 * wave + rng.normal(0, 12, (size, size)), 0, 255).astype(np.uint8)


def image_set(per_class: int, size: int = 32, seed: int = 0) -> ImageSet:
    """``per_class`` striped images of each class; every second round knows that its defects lie in the left half."""
    pixels = [stripes(label, seed + i, size) for i in range(per_class) for label in range(len(CLASSES))]
    labels = torch.arange(len(CLASSES)).repeat(per_class)
    known = (torch.arange(per_class) % 2 == 0).repeat_interleave(len(CLASSES))
    masks = torch.zeros(len(labels), 1, MASK_SIZE, MASK_SIZE, dtype=torch.bool)
    masks[known & (labels != CLASSES.index("clean")), :, :, : MASK_SIZE // 2] = True
    return ImageSet(torch.from_numpy(np.stack(pixels))[:, None], labels, masks, known)


def write_split(name: str, per_class: int, seed: int = 0) -> list[Row]:
    """Striped 224 px images below the working directory's data folder, and the split that lists them."""
    rows = []
    for number, label in enumerate(CLASSES):
        for index in range(per_class):
            written = row(f"{label}/{name}{index:03d}.png")
            path = IMAGES / written.path
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(stripes(number, seed + index, 224)).save(path)
            rows.append(written)
    write_manifest(SPLITS / f"{name}.csv", rows)
    return rows


def tiny_network(model: str = "mobilenetv3_small_050", resolution: int = 32, seed: int = 0) -> SemNetwork:
    """A network of random weights whose normalization layers have seen images, so that signals do not fade.

    Without that, the activations of MobileNetV3 shrink to denormal numbers, which are slow and tell nothing. Its last
    layer is drawn wide, so that unlike images get unlike answers.
    """
    torch.manual_seed(seed)
    network = SemNetwork(model, resolution).train()
    nn.init.normal_(network.backbone.get_classifier().weight, std=0.2)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None  # the plain mean over all that was seen
    with torch.inference_mode():
        for start in range(3):
            network(image_set(2, max(resolution, 64), start).pixels.float() / 255)
    return network.eval()


def rounded_network(model: str = "mobilenetv3_small_050", resolution: int = 64, seed: int = 0) -> SemNetwork:
    """`tiny_network` with an INT8 side and a score of unknown images, as `distill` leaves a student."""
    network = deepcopy(_rounded(model, resolution, seed))
    torch.manual_seed(seed)  # what is drawn next does not depend on which test came first
    return network


@cache
def _rounded(model: str, resolution: int, seed: int) -> SemNetwork:
    network = tiny_network(model, resolution, seed)
    network.add_rounding()
    network.add_unknown()
    calibrate(network, image_set(2, resolution, seed).pixels)
    return network.eval()
