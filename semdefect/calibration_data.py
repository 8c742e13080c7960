"""The images that exported files are calibrated on: the validation split and, where all of it is rendered, more."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from semdefect.edge.image import SIZE
from semdefect.images import ImageSet, load_images
from semdefect.manifest import SPLITS, Row, read_manifest
from semdefect.seeds import CALIBRATION
from semdefect.training_data import kept_images


@dataclass(frozen=True)
class CalibrationImages:
    """Images that no network learned from.

    Attributes:
        images: of the device's size; those of the validation split come first.
        split: how many those are.
        alone: numbers of images that are independent of each other.
    """

    images: ImageSet
    split: int
    alone: NDArray[np.int64]

    @property
    def validation(self) -> ImageSet:
        """The validation split alone."""
        return ImageSet(*(tensor[: self.split] for tensor in self.images.tensors()))


def calibration_images(fresh_per_class: int, seed: int) -> CalibrationImages:
    """The validation split and ``fresh_per_class`` further rendered images a class, from a seed of their own.

    They are rendered at the size of the split's: others have other noise and edges. Where the split holds real images
    it stands alone: rendered ones are not like what it stands for, and what is promised for images like those for
    validation would be promised for others.
    """
    rows = read_manifest(SPLITS / "val.csv")
    validation, alone = load_images(rows, SIZE), one_a_group(rows)
    if not fresh_per_class or any(row.origin == "real" for row in rows):
        return CalibrationImages(validation, len(rows), alone)
    fresh = kept_images(fresh_per_class, SIZE, CALIBRATION, seed, rows[0].size)
    images = ImageSet(*map(torch.cat, zip(validation.tensors(), fresh.tensors(), strict=True)))
    return CalibrationImages(images, len(rows), np.append(alone, np.arange(len(rows), len(images))))


def one_a_group(rows: list[Row]) -> NDArray[np.int64]:
    """Numbers of the first image of each lineage group: the bounds count independent images, and a group is none."""
    first = {row.group: number for number, row in reversed(list(enumerate(rows)))}
    return np.array(sorted(first.values()))
