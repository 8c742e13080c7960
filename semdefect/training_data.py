"""What a network trains on: the training split, and images rendered for this one purpose."""

import numpy as np
import torch
from joblib import Parallel, delayed
from tqdm import tqdm

from semdefect import CLASSES
from semdefect.images import ImageSet, load_images
from semdefect.manifest import SPLITS, read_manifest
from semdefect.params import Training
from semdefect.seeds import image_seed
from semdefect.synthesis import render

#: Images a worker renders at a time.
_CHUNK = 50


def training_images(recipe: Training, stream: int, seed: int) -> ImageSet:
    """The training split and ``recipe.fresh_per_class`` further rendered images a class, as one set."""
    split = load_images(read_manifest(SPLITS / "train.csv"), recipe.resolution)
    if not recipe.fresh_per_class:
        return split
    fresh = fresh_images(recipe.fresh_per_class, recipe.resolution, stream, seed)
    return ImageSet(torch.cat([split.pixels, fresh.pixels]), torch.cat([split.labels, fresh.labels]))


def validation_images(recipe: Training) -> ImageSet:
    """The validation split."""
    return load_images(read_manifest(SPLITS / "val.csv"), recipe.resolution)


def fresh_images(per_class: int, resolution: int, stream: int, seed: int) -> ImageSet:
    """``per_class`` rendered images of each class for training only, from a seed stream that no split holds."""
    jobs = [
        (
            label,
            [image_seed(seed, stream, number * per_class + i) for i in range(start, min(start + _CHUNK, per_class))],
        )
        for number, label in enumerate(CLASSES)
        for start in range(0, per_class, _CHUNK)
    ]
    parts = Parallel(n_jobs=-1, return_as="generator")(delayed(_render)(*job, resolution) for job in jobs)
    pixels = list(tqdm(parts, total=len(jobs), desc="render fresh images", disable=None, leave=False))
    labels = torch.arange(len(CLASSES)).repeat_interleave(per_class)
    return ImageSet(torch.from_numpy(np.concatenate(pixels))[:, None], labels)


def _render(label: str, seeds: list[int], resolution: int) -> np.ndarray:
    return np.stack([render(label, seed, resolution).image for seed in seeds])
