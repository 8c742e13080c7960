"""Labelled real images outside the repository, in class folders or listed. They are never committed."""

import csv
import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold
from tqdm import tqdm

from semdefect import CLASSES
from semdefect.base_images import THUMBNAIL, duplicate_groups, find_real_images
from semdefect.edge.classifier import EdgeClassifier, Failure, Prediction
from semdefect.edge.image import open_gray, to_pixels
from semdefect.errors import UserError
from semdefect.network import file_sha256

#: Correlation above which two images are near-duplicates, as in params.yaml (``synthesize.duplicate_correlation``).
ALIKE = 0.85
#: Folds that are drawn where a collection has none.
FOLDS = 5
#: What a collection looks like.
FORMAT = (
    "a folder of labelled real images has one folder a class, such as bridge/, or a file labels.csv, whose first line "
    "is path,class,fold and each other, with commas too, such as bridge/a.png,bridge,0"
)


@dataclass(frozen=True)
class RealImages:
    """Labelled real images.

    Attributes:
        paths: of the images.
        truth: class numbers ``[N]``.
        original: the collection's own classes ``[N]``, or ours where it has none.
        fold: number of each image's fold ``[N]``; -1 everywhere where the collection has none and is too small for it.
        group: number of each image's group of near-duplicates ``[N]``, as `synthesize` finds them.
    """

    paths: list[Path]
    truth: NDArray[np.int64]
    original: NDArray[np.str_]
    fold: NDArray[np.int64]
    group: NDArray[np.int64]


def load_real(folder: Path, alike: float = ALIKE) -> RealImages:
    """The labelled images that ``labels.csv`` of ``folder`` lists, or, without that file, those of its class folders.

    The list has the columns ``path`` (below ``folder``), ``class``, where the images come in folds ``fold``, and where
    they have classes of their own ``original_class``. Without folds, `FOLDS` are drawn. Images whose correlation is
    above ``alike``, and always those above `ALIKE`, are near-duplicates: a parameter does not let them cross.

    Raises:
        UserError: neither is there, or the list is broken, or names other classes or images that are not there or
            damaged.
    """
    listing = folder / "labels.csv"
    rows = _listed(listing) if listing.is_file() else _in_class_folders(folder)
    paths = [folder / row["path"] for row in rows]
    gone = next((path for path in paths if not path.is_file()), None)
    if gone:
        raise UserError(f"{listing} lists {gone}, which is not there")
    thumbnails = [to_pixels(open_gray(path), THUMBNAIL) for path in paths]  # a damaged one is named before work starts
    truth = np.array([CLASSES.index(row["class"]) for row in rows])
    original = np.array([row.get("original_class", row["class"]) for row in rows])
    groups = duplicate_groups(thumbnails, min(alike, ALIKE))
    folds = [row["fold"] for row in rows if "fold" in row]
    strange = next((fold for fold in folds if not fold.isdecimal()), None)
    if strange is not None:
        raise UserError(f"{listing} has the fold {strange!r}; folds are whole numbers from 0")
    fold = np.array(folds, np.int64) if folds else drawn_folds(truth, groups)
    return RealImages(paths, truth, original, fold, groups)


def _listed(listing: Path) -> list[dict[str, str]]:
    try:
        with listing.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (csv.Error, UnicodeDecodeError) as broken:
        raise UserError(f"{listing} is not a list of images as CSV: {broken}") from None
    if not rows or not {"path", "class"} <= set(rows[0]):
        raise UserError(f"{listing} has no rows with the columns path and class: {FORMAT}")
    if any(None in row or None in row.values() for row in rows):
        raise UserError(f"{listing} has a line with too few or too many columns: mend it")
    unknown = sorted({row["class"] for row in rows} - set(CLASSES))
    if unknown:
        raise UserError(f"{listing} names {', '.join(unknown)}; the classes are {', '.join(CLASSES)}")
    return rows


def _in_class_folders(folder: Path) -> list[dict[str, str]]:
    if not any((folder / name).is_dir() for name in CLASSES):
        raise UserError(f"{folder / 'labels.csv'} is missing: {FORMAT}")
    return [
        {"path": str(path.relative_to(folder)), "class": name}
        for name, paths in find_real_images(folder).items()
        for path in paths
    ]


def drawn_folds(truth: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """`FOLDS` folds ``[N]`` with each class's share of images, as far as whole ``groups`` allow; the same every time.

    -1 everywhere where no class has so many images.
    """
    folds = np.full(len(truth), -1)
    if np.bincount(truth).max() < FOLDS:
        return folds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a class with fewer images than folds: some have none then
        splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
        for number, (_, held_out) in enumerate(splitter.split(truth, truth, groups)):
            folds[held_out] = number
    return folds


def collection_sha256(images: RealImages) -> str:
    """Hash of the images, their classes and their folds."""
    files = [file_sha256(path) for path in images.paths]
    return hashlib.sha256(json.dumps([files, images.truth.tolist(), images.fold.tolist()]).encode()).hexdigest()


def predictions(model: Path, paths: Sequence[Path], threads: int) -> list[Prediction]:
    """What the file ``model`` says of images through the device's code.

    Raises:
        UserError: an image cannot be read.
    """
    classifier = EdgeClassifier(model, threads)
    bar = tqdm(paths, desc=model.stem, unit="image", disable=None, leave=False)
    said = []
    for result in classifier.classify_many(bar):
        if isinstance(result, Failure):
            raise UserError(result.error)
        said.append(result)
    return said


def probabilities(model: Path, paths: Sequence[Path], threads: int) -> NDArray[np.float64]:
    """Probabilities ``[N, 8]`` of `predictions`."""
    return np.array([list(result.probabilities.values()) for result in predictions(model, paths, threads)])
