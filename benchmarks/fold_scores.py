"""Figures of cross-validation: means over held-out folds, and how sure they are."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.real_images import RealImages
from semdefect import CLASSES
from semdefect.edge.scoring import confusion_matrix, mean_class_accuracy, recalls
from semdefect.edge.table import percent
from semdefect.intervals import resampled

MODELS = ("teacher", "fp32", "int8")


def figures_of(images: RealImages, said: dict[int, dict[str, NDArray[np.float64]]]) -> dict[str, Any]:
    """Means over the folds of ``said`` (fold → model → probabilities), each fold's own figures, errors of INT8.

    Those of a student are left out where it was not asked.
    """
    figures: dict[str, Any] = {}
    confusions: dict[str, NDArray[np.int64]] = {}
    rows = np.concatenate([np.flatnonzero(images.fold == fold) for fold in said])
    truth, folds = images.truth[rows], images.fold[rows]
    for model in (model for model in MODELS if all(model in one for one in said.values())):
        predicted = np.concatenate([said[fold][model].argmax(axis=1) for fold in said])
        hits = (truth == predicted).astype(float)
        own = [confusion_matrix(truth[folds == fold], predicted[folds == fold], len(CLASSES)) for fold in said]
        accuracies = [float(np.trace(confusion) / confusion.sum()) for confusion in own]
        by_class = [float(mean_class_accuracy(confusion) or 0.0) for confusion in own]
        confusions[model] = np.sum(own, axis=0)
        figures |= {
            f"{model}_mean_class_accuracy": float(np.mean(by_class)),
            f"{model}_accuracy": float(np.mean(accuracies)),
            f"{model}_accuracy_interval": interval(images, rows, hits, by_class=False),
            f"{model}_mean_class_accuracy_interval": interval(images, rows, hits),
            f"{model}_folds": [
                {
                    "fold": fold,
                    "accuracy": one,
                    "accuracy_interval": interval(images, rows[folds == fold], hits[folds == fold], by_class=False),
                    "mean_class_accuracy": other,
                    "mean_class_accuracy_interval": interval(images, rows[folds == fold], hits[folds == fold]),
                    "images": int((folds == fold).sum()),
                }
                for fold, one, other in zip(said, accuracies, by_class, strict=True)
            ],
            f"{model}_recall": dict(zip(CLASSES, recalls(confusions[model]), strict=True)),
        }
    if "int8" not in confusions:
        return figures
    figures["int8_confusion"] = confusions["int8"].tolist()
    figures["int8_fp32_agreement"] = float(
        np.mean([(one["int8"].argmax(axis=1) == one["fp32"].argmax(axis=1)).mean() for one in said.values()])
    )
    return figures


def interval(
    images: RealImages, rows: NDArray[np.int64], hits: NDArray[np.float64], by_class: bool = True
) -> list[float]:
    """95 % interval of the mean over folds of the class-wise means of ``hits``, by resampling within fold and class.

    Near-duplicates are no further evidence, so that whole groups are drawn. What another training would give differs
    more: the interval is of one. Resampling n groups of a class makes it narrow by a factor of √(1 − 1/n): 6 % where
    there are eight.

    Args:
        images: the collection.
        rows: indices of the images that were scored, ``[M]``.
        hits: a figure for each of them, ``[M]``: 1 where a model is right and 0 where it errs gives the interval of the
            mean class accuracy, the difference of two models that of how much better one is.
        by_class: whether classes weigh the same, or images.
    """
    rng, means = np.random.default_rng(0), []
    truth = images.truth[rows] if by_class else np.zeros(len(rows), np.int64)
    for fold in np.unique(images.fold[rows]):
        inside = images.fold[rows] == fold
        _, first, group = np.unique(images.group[rows][inside], return_index=True, return_inverse=True)
        counts, sums = np.zeros((2, len(first), truth.max() + 1))
        np.add.at(counts, (group, truth[inside]), 1)
        np.add.at(sums, (group, truth[inside]), hits[inside])
        drawn = resampled(images.truth[rows][inside][first], rng)
        seen = drawn @ counts
        shares = np.divide(drawn @ sums, seen, out=np.full(seen.shape, np.nan), where=seen > 0)
        means.append(np.nanmean(shares, axis=1))
    return [float(bound) for bound in np.percentile(np.mean(means, axis=0), [2.5, 97.5])]


def show(figures: dict[str, Any]) -> None:
    """Print a table of the models, and where the INT8 file errs."""
    console = Console()
    folds = [part["fold"] for part in figures["int8_folds"]]
    table = Table("model", "accuracy", "mean class accuracy", "95 %", *(f"fold {fold}" for fold in folds))
    for model in MODELS:
        low, high = figures[f"{model}_mean_class_accuracy_interval"]
        table.add_row(
            model,
            percent(figures[f"{model}_accuracy"]),
            percent(figures[f"{model}_mean_class_accuracy"]),
            f"{percent(low)} - {percent(high)}",
            *(percent(part["mean_class_accuracy"]) for part in figures[f"{model}_folds"]),
        )
    console.print(table)
    console.print(f"INT8 names the class that FP32 names on {percent(figures['int8_fp32_agreement'])} of the images")
    table = Table("true \\ called", *CLASSES, "recall", title="Confusion (INT8)")
    for name, row in zip(CLASSES, figures["int8_confusion"], strict=True):
        table.add_row(name, *map(str, row), percent(figures["int8_recall"][name]))
    console.print(table)
