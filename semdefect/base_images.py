"""The user's real images: found, checked, and grouped by near-duplicates."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.sparse.csgraph import connected_components

from semdefect import CLASSES
from semdefect.edge.image import IMAGE_SUFFIXES, list_images
from semdefect.errors import UserError

#: Where the user's images lie, one folder a class.
REAL = Path("data/real")
THUMBNAIL = 32
#: Standard deviation in gray levels below which a thumbnail shows nothing.
FLAT = 0.5


def find_real_images(folder: Path) -> dict[str, list[Path]]:
    """Sorted image paths of each class that has a folder below ``folder`` (``data/real``).

    Raises:
        UserError: a folder that is no class, a class folder without images, an image outside a class folder,
            a folder within a class folder, or a ``<class>.dvc`` whose images have not been pulled.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is missing: create it, or run `git checkout {folder}`")
    entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    for entry in entries:
        if entry.suffix == ".dvc" and not entry.with_suffix("").is_dir():
            raise UserError(f"{entry.with_suffix('')} is tracked by DVC but not here: run `dvc pull {entry}`")
        if entry.is_file() and entry.suffix.lower() in IMAGE_SUFFIXES:
            raise UserError(f"{entry} lies outside a class folder: move it to {folder}/<class>/")
        if entry.name in CLASSES and not entry.is_dir():
            raise UserError(f"{entry} is not a folder: replace it by one that holds the images of the class")
    return {entry.name: _class_images(entry) for entry in entries if entry.is_dir()}


def _class_images(folder: Path) -> list[Path]:
    if folder.name not in CLASSES:
        raise UserError(f"{folder} is not a class folder; the classes are {', '.join(CLASSES)}")
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.name.startswith("."):
            raise UserError(f"{entry} is a folder within a class: move its images up to {folder}")
    images = list_images(folder)
    for image in images:
        if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in image.name):  # no manifest could name it
            raise UserError(f"{ascii(str(image))[1:-1]} has a name that is not readable text: rename it")
    if not images and folder.with_name(f"{folder.name}.dvc").exists():
        raise UserError(f"{folder} is tracked by DVC but its images are not here: run `dvc pull {folder}.dvc`")
    if not images:
        raise UserError(f"{folder} holds no images: add some, or remove the folder to have the class rendered")
    return images


def duplicate_groups(images: Sequence[np.ndarray], correlation: float) -> np.ndarray:
    """Group number of each image; near-duplicates, also mirrored or rotated by 90°, share one.

    Two images are near-duplicates when their standardised 32 × 32 thumbnails correlate by more than
    ``correlation`` under one of the eight symmetries of the square; groups are closed under that relation.

    Args:
        images: thumbnails ``[32, 32]`` float32 or uint8.
        correlation: threshold in (0, 1).

    Returns:
        ``[N]`` int; groups are numbered by their first image.
    """
    flat = np.stack([np.asarray(image, np.float32).reshape(-1) for image in images])
    standard = _standardised(flat)
    close = np.zeros((len(images), len(images)), bool)
    for turn in range(4):
        for mirror in (False, True):
            turned = np.rot90(standard.reshape(-1, THUMBNAIL, THUMBNAIL), turn, axes=(1, 2))
            turned = turned[:, :, ::-1] if mirror else turned
            close |= standard @ turned.reshape(len(images), -1).T > correlation
    _, labels = connected_components(close, directed=False)
    first: dict[int, int] = {}
    return np.array([first.setdefault(label, len(first)) for label in labels])


def _standardised(flat: np.ndarray) -> np.ndarray:
    """Rows with zero mean and unit length, so that their inner product is the correlation."""
    centred = flat - flat.mean(axis=1, keepdims=True)
    length: np.ndarray = np.linalg.norm(centred, axis=1, keepdims=True)
    empty = np.full_like(flat, flat.shape[1] ** -0.5)  # flat films are alike, though no correlation is defined
    return np.where(length > FLAT * flat.shape[1] ** 0.5, centred / np.maximum(length, 1e-6), empty)
