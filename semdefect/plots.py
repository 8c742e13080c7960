"""Pictures and tables of an evaluation: confusion, reliability, purity against rejection, the surest errors."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from semdefect import CLASSES
from semdefect.atomic import replacing
from semdefect.edge.guard import Guard
from semdefect.edge.guard_scoring import guard_figures, purity_curve
from semdefect.edge.scoring import confusion_matrix
from semdefect.evaluation import Outcome, TestSet
from semdefect.sheet import contact_sheet

#: Heat maps over images: gray ones and a class number each → the same in colour.
Explain = Callable[[Sequence[Image.Image], Sequence[int]], list[Image.Image]]


def save_figure(figure: Figure, path: Path) -> None:
    """Write ``figure`` to ``path`` as PNG, the same bytes each time, and forget it."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=80, metadata={"Software": None})  # no version in the bytes
    pyplot.close(figure)


def confusion_picture(matrices: dict[str, NDArray[np.int64]], path: Path) -> None:
    """One heat map a test set, rows the true class, shaded by its share; ``matrices``: name → ``[8, 8]``."""
    figure, axes = pyplot.subplots(1, len(matrices), figsize=(4.6 * len(matrices), 4.6), squeeze=False)
    for axis, (name, matrix) in zip(axes[0], matrices.items(), strict=True):
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axis.text(column, row, count, ha="center", va="center", fontsize=8, color=colour)
        axis.set_xticks(range(len(CLASSES)), CLASSES, rotation=45, ha="right")
        axis.set_yticks(range(len(CLASSES)), CLASSES)
        axis.set(title=f"{name} ({matrix.sum()} images)", xlabel="predicted", ylabel="true")
    figure.tight_layout()
    save_figure(figure, path)


def reliability_picture(
    curves: dict[str, tuple[NDArray[np.float64], NDArray[np.int64]]], path: Path, bins: int = 10
) -> None:
    """Accuracy against confidence; ``curves``: name → (probabilities ``[N, 8]``, truth ``[N]``)."""
    figure, axis = pyplot.subplots(figsize=(4.6, 4.6))
    axis.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    for name, (probabilities, truth) in curves.items():
        confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
        bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
        filled = np.unique(bin_of)
        points = [(confidence[bin_of == b].mean(), right[bin_of == b].mean()) for b in filled]
        axis.plot(*zip(*points, strict=True), marker="o", label=name)
    axis.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), title="reliability")
    axis.legend()
    figure.tight_layout()
    save_figure(figure, path)


def purity_picture(outcomes: dict[str, Outcome], guard: Guard, path: Path) -> None:
    """Purity against rejection rate as ever less confident images are accepted; a dot where the guard stands.

    ``outcomes``: name of the test set → what the model said of it.
    """
    figure, axis = pyplot.subplots(figsize=(5.6, 4.6))
    axis.axhline(guard.target_purity, color="grey", linewidth=0.8, label=f"target {guard.target_purity:g}")
    for name, outcome in outcomes.items():
        (line,) = axis.plot(*purity_curve(outcome.probabilities, outcome.truth), label=name)
        figures = guard_figures(outcome.probabilities, outcome.truth, outcome.codes, CLASSES)
        if figures["purity"] is not None:
            axis.plot(figures["rejection_rate"], figures["purity"], "o", color=line.get_color())
    axis.set(xlabel="rejection rate", ylabel="purity", xlim=(0, 1), title="purity of what is accepted")
    axis.legend()
    figure.tight_layout()
    save_figure(figure, path)


def write_pictures(outcomes: dict[str, Outcome], guard: Guard, folder: Path) -> None:
    """``confusion.png``, ``reliability.png`` and ``purity.png`` of one model; ``outcomes``: test set → what it said."""
    matrices = {
        key: confusion_matrix(outcome.truth, outcome.predicted, len(CLASSES)) for key, outcome in outcomes.items()
    }
    confusion_picture(matrices, folder / "confusion.png")
    mixed = outcomes["mixed"]
    curves = {"before scaling": (mixed.raw, mixed.truth), "after scaling": (mixed.probabilities, mixed.truth)}
    reliability_picture(curves, folder / "reliability.png")
    purity_picture(outcomes, guard, folder / "purity.png")


def error_sheet(
    images: TestSet, outcome: Outcome, explain: Explain, path: Path, count: int = 16, columns: int = 4
) -> None:
    """The most confident errors of ``outcome`` on ``images``, each beside the evidence for what it was called.

    ``explain`` colours gray images by where the evidence for their class of the given numbers lies.
    """
    confidence = outcome.probabilities.max(axis=1)
    wrong = [i for i in np.argsort(-confidence, kind="stable") if outcome.predicted[i] != outcome.truth[i]][:count]
    heats = explain([images.images[i] for i in wrong], [int(outcome.predicted[i]) for i in wrong]) if wrong else []
    tiles: list[tuple[Image.Image, str]] = []
    for i, heat in zip(wrong, heats, strict=True):
        tiles += [
            (images.images[i], f"{CLASSES[outcome.truth[i]]} as"),
            (heat, f"{CLASSES[outcome.predicted[i]]} {confidence[i]:.0%}"),
        ]
    width = 2 * columns
    contact_sheet([("", tiles[start : start + width]) for start in range(0, max(len(tiles), 1), width)], path)


def write_tables(outcome: Outcome, figures: dict[str, Any], folder: Path) -> None:
    """``predictions.csv`` (true and predicted class, for DVC's confusion plot) and ``per_class.csv``."""
    with replacing(folder / "predictions.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["actual", "predicted"])
        writer.writerows((CLASSES[t], CLASSES[p]) for t, p in zip(outcome.truth, outcome.predicted, strict=True))
    with replacing(folder / "per_class.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["class", "images", "purity", "recall"])
        for name, row in figures["per_class"].items():
            values = ("" if row[key] is None else round(row[key], 4) for key in ("purity", "recall"))
            writer.writerow([name, row["images"], *values])
