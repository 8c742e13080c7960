"""How good a classifier is, in figures: the same on the device and in the evaluate stage. Numpy only.

Everywhere ``truth`` and ``predicted`` are class numbers ``[N]``, and ``probabilities`` is ``[N, classes]``
with rows that sum to 1. A figure that has no images to rest on is None, never 0 or NaN.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: The class that means "no defect".
CLEAN = "clean"


def confusion_matrix(truth: ArrayLike, predicted: ArrayLike, n: int) -> NDArray[np.int64]:
    """Images by true class (row) and predicted class (column), int64 ``[n, n]``.

    Raises:
        ValueError: when both differ in length or hold a number outside 0..n-1.
    """
    rows, columns = np.asarray(truth, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    if rows.ndim != 1 or rows.shape != columns.shape:
        raise ValueError(f"truth {rows.shape} and predicted {columns.shape} must be lists of one length")
    if rows.size and (min(rows.min(), columns.min()) < 0 or max(rows.max(), columns.max()) >= n):
        raise ValueError(f"class numbers must lie in 0..{n - 1}")
    return np.bincount(rows * n + columns, minlength=n * n).reshape(n, n)


def accuracy(confusion: NDArray[np.int64]) -> float | None:
    """Share of images that were called right, 0..1."""
    return share(np.trace(confusion), confusion.sum())


def purities(confusion: NDArray[np.int64]) -> list[float | None]:
    """Of the images called a class, the share that are of it (precision); None where none was called so."""
    return [share(*pair) for pair in zip(np.diag(confusion), confusion.sum(axis=0), strict=True)]


def recalls(confusion: NDArray[np.int64]) -> list[float | None]:
    """Of the images of a class, the share that were called so; None where there are none of it."""
    return [share(*pair) for pair in zip(np.diag(confusion), confusion.sum(axis=1), strict=True)]


def mean_class_accuracy(confusion: NDArray[np.int64]) -> float | None:
    """Mean recall of the classes that have images (balanced accuracy), 0..1."""
    present = [recall for recall in recalls(confusion) if recall is not None]
    return float(np.mean(present)) if present else None


def macro_f1(confusion: NDArray[np.int64]) -> float | None:
    """Mean F1 of the classes that have images, 0..1; a class that was never found counts as 0.

    As ``f1_score(average="macro", labels=<classes in truth>, zero_division=0)`` of scikit-learn. Wrong calls
    of a class without images lower it through the recall of the classes they were taken from.
    """
    present = confusion.sum(axis=1) > 0
    if not present.any():
        return None
    either = confusion.sum(axis=0) + confusion.sum(axis=1)
    return float(np.mean(2 * np.diag(confusion)[present] / either[present]))


def escape_rate(confusion: NDArray[np.int64], clean: int) -> float | None:
    """Of the images with a defect, the share that were called clean."""
    defects = np.delete(confusion, clean, axis=0)
    return share(defects[:, clean].sum(), defects.sum())


def overkill_rate(confusion: NDArray[np.int64], clean: int) -> float | None:
    """Of the clean images, the share that were called a defect."""
    row = confusion[clean]
    return share(row.sum() - row[clean], row.sum())


def expected_calibration_error(probabilities: ArrayLike, truth: ArrayLike, bins: int = 15) -> float | None:
    """Mean distance of confidence and accuracy over equally wide bins of confidence, by images; 0..1.

    A bin holds the confidences above its lower edge and up to its upper one.
    """
    table, rows = checked(probabilities, truth)
    if not rows.size:
        return None
    confidence = table.max(axis=1)
    right = table.argmax(axis=1) == rows
    bin_of = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(bin_of, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / rows.size)


def score(truth: ArrayLike, probabilities: ArrayLike, classes: Sequence[str]) -> dict[str, Any]:
    """All figures as a dictionary that JSON can hold.

    Keys: ``images``, ``accuracy``, ``mean_class_accuracy``, ``macro_f1``, ``calibration_error``,
    ``escape_rate``, ``overkill_rate`` (both None for a model without a class ``clean``), ``classes`` (the
    names in order), ``per_class`` (name to ``images``, ``called``, ``purity``, ``recall``) and ``confusion``
    (rows of integers, true class by predicted class).

    Raises:
        ValueError: when shapes or class numbers do not fit each other.
    """
    table, rows = checked(probabilities, truth)
    if table.shape[1] != len(classes):
        raise ValueError(f"{table.shape[1]} probabilities an image for {len(classes)} classes")
    confusion = confusion_matrix(rows, table.argmax(axis=1), len(classes))
    clean = list(classes).index(CLEAN) if CLEAN in classes else None
    columns = zip(
        classes,
        confusion.sum(axis=1).tolist(),
        confusion.sum(axis=0).tolist(),
        purities(confusion),
        recalls(confusion),
        strict=True,
    )
    return {
        "images": int(rows.size),
        "accuracy": accuracy(confusion),
        "mean_class_accuracy": mean_class_accuracy(confusion),
        "macro_f1": macro_f1(confusion),
        "calibration_error": expected_calibration_error(table, rows),
        "escape_rate": None if clean is None else escape_rate(confusion, clean),
        "overkill_rate": None if clean is None else overkill_rate(confusion, clean),
        "classes": list(classes),
        "per_class": {
            name: {"images": images, "called": called, "purity": purity, "recall": recall}
            for name, images, called, purity, recall in columns
        },
        "confusion": confusion.tolist(),
    }


def share(part: Any, whole: Any) -> float | None:
    """``part / whole``, or None where ``whole`` is 0."""
    return float(part / whole) if whole else None


def checked(probabilities: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Both as arrays ``[N, classes]`` and ``[N]``.

    Raises:
        ValueError: when they do not fit each other.
    """
    table, rows = np.asarray(probabilities, dtype=np.float64), np.asarray(truth, dtype=np.int64)
    if table.ndim != 2 or rows.ndim != 1 or len(table) != len(rows):
        raise ValueError(f"probabilities {table.shape} must be [N, classes] for truth [N], not {rows.shape}")
    return table, rows
