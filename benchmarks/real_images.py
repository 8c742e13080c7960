"""Labelled real images outside the repository: what `labels.csv` of a collection lists. They are never committed."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semdefect import CLASSES
from semdefect.errors import UserError


@dataclass(frozen=True)
class RealImages:
    """``paths`` of labelled real images, ``truth [N]`` class numbers, ``original [N]`` the collection's own classes."""

    paths: list[Path]
    truth: NDArray[np.int64]
    original: NDArray[np.str_]


def load_real(folder: Path) -> RealImages:
    """The labelled images that ``labels.csv`` of ``folder`` lists (columns ``path``, ``class``, ``original_class``).

    Raises:
        UserError: the list is missing or broken, or names other classes or images that are not there.
    """
    listing = folder / "labels.csv"
    if not listing.is_file():
        raise UserError(f"{listing} is missing: pass the folder of a collection of labelled real images")
    try:
        with listing.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (csv.Error, UnicodeDecodeError) as broken:
        raise UserError(f"{listing} is not a list of images as CSV: {broken}") from None
    if not rows or not {"path", "class", "original_class"} <= set(rows[0]):
        raise UserError(f"{listing} must have rows with the columns path, class and original_class")
    if any(None in row or None in row.values() for row in rows):
        raise UserError(f"{listing} has a line with too few or too many columns: mend it")
    unknown = sorted({row["class"] for row in rows} - set(CLASSES))
    if unknown:
        raise UserError(f"{listing} names {', '.join(unknown)}; the classes are {', '.join(CLASSES)}")
    paths = [folder / row["path"] for row in rows]
    gone = next((path for path in paths if not path.is_file()), None)
    if gone:
        raise UserError(f"{listing} lists {gone}, which is not there")
    truth = np.array([CLASSES.index(row["class"]) for row in rows])
    return RealImages(paths, truth, np.array([row["original_class"] for row in rows]))
