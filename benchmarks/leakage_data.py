"""Data sets for `benchmarks.leakage`: a few base images a class, augmented to many, and split in two ways."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.real_images import ALIKE, RealImages
from semdefect import CLASSES
from semdefect.balance import BaseImage, Job, load_base_images, write_images
from semdefect.errors import UserError
from semdefect.manifest import IMAGES, SPLITS, Row, write_manifest
from semdefect.params import Params
from semdefect.seeds import DATA_SET, image_seed
from semdefect.splitting import split_rows

#: Base images a class that earlier systems had: the fewest, the most.
FEWEST, MOST = 4, 17
#: How the augmented images are split: at random, or by the base image that they come from.
KINDS = ("random", "lineage")


@dataclass(frozen=True)
class Draw:
    """Base images, and what is elsewhere; indices into the collection."""

    bases: NDArray[np.int64]
    elsewhere: NDArray[np.int64]


def draw_of(images: RealImages, fold: int, per_class: int) -> Draw:
    """``per_class`` base images of each class from ``fold``, or as many as it has, and all images elsewhere.

    No base image is a near-duplicate of another of its class. Elsewhere are the images of the other folds that are no
    near-duplicates of a base image.

    Raises:
        UserError: the fold has fewer than `FEWEST` images of a class that are no copies of each other.
    """
    rng = np.random.default_rng(fold)
    chosen = []
    for number, label in enumerate(CLASSES):
        own = rng.permutation(np.flatnonzero((images.fold == fold) & (images.truth == number)))
        _, first = np.unique(images.group[own], return_index=True)
        if len(first) < FEWEST:
            raise UserError(
                f"fold {fold} has {len(first)} images of {label} that are no copies of each other and needs {FEWEST}: "
                f"put more of them into it in labels.csv"
            )
        chosen.append(own[np.sort(first)][:per_class])
    bases = np.sort(np.concatenate(chosen))
    strange = ~np.isin(images.group, images.group[bases]) & (images.fold != fold)
    return Draw(bases, np.flatnonzero(strange))


def augmented_jobs(bases: list[BaseImage], per_class: int, seed: int) -> list[Job]:
    """``per_class`` images of each class: its base images, then their children in turns, any number of each.

    (`semdefect.balance.plan` stops at a few children, since more add copies and no information. Earlier systems did
    not.)
    """
    jobs = []
    for number, label in enumerate(CLASSES):
        own = [base for base in bases if base.label == label]
        jobs += [
            Job(
                label,
                index,
                image_seed(seed, DATA_SET, number * per_class + index),
                own[index % len(own)],
                augmented=index >= len(own),
            )
            for index in range(per_class)
        ]
    return jobs


def split_by(kind: str, rows: list[Row], shares: dict[str, float], seed: int) -> dict[str, list[Row]]:
    """``rows`` split as `semdefect.splitting.split_rows` does: by lineage, or with ``random`` each image by itself."""
    if kind == "lineage":
        return split_rows(rows, shares, seed)
    groups = {row.path: row.group for row in rows}
    alone = [replace(row, group=row.path) for row in rows]
    return {
        name: [replace(row, group=groups[row.path]) for row in members]
        for name, members in split_rows(alone, shares, seed).items()
    }


def make_data(workspace: Path, kind: str, params: Params) -> None:
    """Write the data set and its splits of ``kind`` into a ``workspace`` that holds the base images."""
    seed, settings = params.base.seed, params.synthesize
    bases = load_base_images(workspace / "data/real", ALIKE)
    jobs = augmented_jobs(bases, settings.images_per_class, seed)
    rows = write_images(jobs, workspace / IMAGES, settings.image_size, workers=1)
    write_manifest(workspace / IMAGES / "manifest.csv", rows)
    for name, members in split_by(kind, rows, params.split.model_dump(), seed).items():
        write_manifest(workspace / SPLITS / f"{name}.csv", members)
