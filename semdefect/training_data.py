"""What a network trains on: the training split, and images rendered for this one purpose."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import fields, replace
from importlib.metadata import version

import numpy as np
import torch
from joblib import delayed
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from semdefect import CLASSES
from semdefect.atomic import replacing
from semdefect.checkpoint import SCRATCH, sources_sha256
from semdefect.chunks import render_chunk
from semdefect.edge.image import SIZE, to_pixels
from semdefect.images import ImageSet, at_resolution, load_images
from semdefect.manifest import SPLITS, Row, read_manifest
from semdefect.params import Training
from semdefect.seeds import image_seed
from semdefect.workers import in_processes

#: Showing an image more often in an epoch teaches the network that image.
MOST_REPEATS = 40
#: Where `kept_images` keeps them: a file a stream, 0.1 GB in the default run. Scratch: may be deleted between runs.
KEPT = SCRATCH / "fresh"
#: Images a worker renders at a time.
_CHUNK = 50


def training_images(recipe: Training, stream: int, seed: int, side: int | None = None) -> ImageSet:
    """One epoch: the training split, its real images repeated as `real_repeats` says, and fresh rendered images.

    Images are ``side`` px wide, or as wide as the recipe's working side.
    """
    side = side or recipe.resolution
    rows = read_manifest(SPLITS / "train.csv")
    repeats = real_repeats(rows, recipe.fresh_per_class, recipe.real_share)
    split = load_images(rows, side).take(np.repeat(np.arange(len(rows)), repeats))
    if not recipe.fresh_per_class:
        return split
    # Kept no smaller than the device's images, so that another working side needs no other ones.
    fresh = kept_images(recipe.fresh_per_class, min(recipe.fresh_size, SIZE), stream, seed, recipe.fresh_size)
    fresh = replace(fresh, pixels=at_resolution(fresh.pixels, side))
    return ImageSet(*map(torch.cat, zip(split.tensors(), fresh.tensors(), strict=True)))


def real_repeats(rows: Sequence[Row], fresh_per_class: int, share: float) -> NDArray[np.int64]:
    """How often an epoch shows each of ``rows``: so often that real images are ``share`` of every class's images.

    Children of real images count as real. A class of few real images stays below the share: none is shown more than
    `MOST_REPEATS` times. Rendered images are shown once.
    """
    repeats = np.ones(len(rows), np.int64)
    for label in CLASSES:
        real = np.array([row.label == label and row.origin == "real" for row in rows])
        rendered = sum(row.label == label for row in rows) - real.sum() + fresh_per_class
        if real.any():
            wanted = rendered * share / (1 - share)
            repeats[real] = np.clip(round(wanted / real.sum()), 1, MOST_REPEATS)
    return repeats


def validation_images(recipe: Training, side: int | None = None) -> ImageSet:
    """The validation split; ``side`` as in `training_images`."""
    return load_images(read_manifest(SPLITS / "val.csv"), side or recipe.resolution)


def kept_images(per_class: int, resolution: int, stream: int, seed: int, size: int) -> ImageSet:
    """`fresh_images`, from `KEPT` where a stage with the same parameters has drawn them before.

    One file a stream, of the last images that were drawn, so that an experiment with the recipe need not draw again.
    A file of other code, other versions of what draws, or other arguments is drawn anew, as is one that is broken.
    """
    versions = [version(package) for package in ("numpy", "pillow", "scipy", "torch")]
    parts = [sources_sha256(), versions, per_class, resolution, stream, seed, size]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    path = KEPT / f"{stream}.safetensors"
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("key") == key:
                return ImageSet(**{field.name: file.get_tensor(field.name) for field in fields(ImageSet)})
    except (FileNotFoundError, SafetensorError):
        pass
    images = fresh_images(per_class, resolution, stream, seed, size=size)
    with replacing(path) as temporary:
        temporary.write_bytes(save(vars(images), metadata={"key": key}))  # save_file tells no OSError of a full disk
    return images


def fresh_images(
    per_class: int,
    resolution: int,
    stream: int,
    seed: int,
    without: frozenset[str] = frozenset(),
    size: int | None = None,
) -> ImageSet:
    """``per_class`` rendered images of each class from a seed ``stream`` that no split holds.

    They are rendered at ``size`` px, where it is given, and resized to ``resolution``, as on the device where they are
    larger than its images and then as in the network: an image that was made small has other noise and edges than one
    that was rendered small. Families named in ``without``
    (``bridge/fork``) are left out; their clean twins are not.
    """
    jobs = [
        (
            label,
            [image_seed(seed, stream, number * per_class + i) for i in range(start, min(start + _CHUNK, per_class))],
        )
        for number, label in enumerate(CLASSES)
        for start in range(0, per_class, _CHUNK)
    ]
    work = in_processes(delayed(render_chunk)(*job, size or resolution, without) for job in jobs)
    bar = tqdm(work, total=len(jobs), desc="render fresh images", disable=None, leave=False)
    parts = [(at_resolution(_as_on_device(pixels), resolution), masks) for pixels, masks in bar]
    pixels = torch.cat([part for part, _ in parts])
    masks = torch.from_numpy(np.concatenate([part for _, part in parts]))[:, None]
    labels = torch.arange(len(CLASSES)).repeat_interleave(per_class)
    return ImageSet(pixels, labels, masks, torch.ones(len(labels), dtype=torch.bool))


def _as_on_device(pixels: NDArray[np.uint8]) -> Tensor:
    """``[N, H, W]`` → ``[N, 1, h, w]``: what is larger than the device's images, as it makes it smaller."""
    if pixels.shape[-1] > SIZE:
        pixels = np.stack([to_pixels(Image.fromarray(one)) for one in pixels])
    return torch.from_numpy(pixels)[:, None]
