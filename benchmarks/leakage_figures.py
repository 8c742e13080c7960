"""Figures and picture of `benchmarks.leakage`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.environment import RESULTS, read_result
from benchmarks.fold_scores import interval
from benchmarks.real_images import RealImages
from semdefect import CLASSES
from semdefect.atomic import replacing
from semdefect.edge.table import percent
from semdefect.errors import UserError

#: The figures, as the key of a result file and as a reader sees them.
NAMES = {
    "leaky_split": "random split after augmentation",
    "lineage_split": "lineage split",
    "elsewhere": "real images from elsewhere",
    "elsewhere_of_lineage": "the same, trained on the lineage split",
}
#: Result files in the picture.
RECIPES = {"leakage": "from random weights", "leakage_sem": "from the package's weights"}


@dataclass(frozen=True)
class Scored:
    """What an exported student said of M images.

    Attributes:
        truth: class numbers ``[M]``.
        group: number of the base image, or of the near-duplicates, that each comes from ``[M]``.
        predicted: class numbers ``[M]`` of the INT8 file.
        plain: of the FP32 file.
        accepted: what the INT8 file's guard accepted, ``[M]``.
    """

    truth: NDArray[np.int64]
    group: NDArray[np.int64]
    predicted: NDArray[np.int64]
    plain: NDArray[np.int64]
    accepted: NDArray[np.bool_]


def figures_of(draws: Sequence[dict[str, Scored]]) -> dict[str, Any]:
    """Means over ``draws`` (key of `NAMES` → answers), with 95 % intervals, and each draw's own figures.

    The intervals are of base images drawn anew within draw and class (`benchmarks.fold_scores.interval`); a class of
    one base image adds nothing to them.
    """
    figures: dict[str, Any] = {}
    for key in NAMES:
        parts = [draw[key] for draw in draws]
        own = [_figures(part) for part in parts]
        figures[key] = {name: float(np.mean([one[name] for one in own])) for name in own[0]}
        figures[key] |= {"interval": _interval(parts), "draws": own}
    figures["gap"] = figures["leaky_split"]["accuracy"] - figures["elsewhere"]["accuracy"]
    return figures


def _figures(scored: Scored) -> dict[str, float]:
    right = scored.predicted == scored.truth
    classes = [right[scored.truth == number].mean() for number in np.unique(scored.truth)]
    return {
        "accuracy": float(right.mean()),
        "mean_class_accuracy": float(np.mean(classes)),
        "fp32_accuracy": float((scored.plain == scored.truth).mean()),
        "accepted": float(scored.accepted.mean()),
        "images": len(right),
        "base_images": len(np.unique(scored.group)),
    }


def _interval(parts: Sequence[Scored]) -> list[float]:
    """95 % interval of the mean accuracy of ``parts``."""
    truth, group = (np.concatenate([getattr(part, name) for part in parts]) for name in ("truth", "group"))
    right = np.concatenate([part.predicted == part.truth for part in parts]).astype(float)
    fold = np.repeat(np.arange(len(parts)), [len(part.truth) for part in parts])
    images = RealImages([], truth, np.array([""] * len(truth)), fold, group)
    return interval(images, np.arange(len(truth)), right, by_class=False)


def show(figures: dict[str, Any]) -> None:
    """Print a table."""
    table = Table("scored on", "accuracy", "95 %", "images", "of base images")
    for key, name in NAMES.items():
        one = figures[key]
        low, high = one["interval"]
        table.add_row(
            name,
            percent(one["accuracy"]),
            f"{percent(low)} - {percent(high)}",
            f"{one['images']:.0f}",
            f"{one['base_images']:.0f}",
        )
    Console().print(table)


def plot(path: Path) -> None:
    """Draw the three figures of each of `RECIPES` that is measured as bars into ``path``.

    Raises:
        UserError: nothing is measured, or ``path`` is no file to write.
    """
    from matplotlib import pyplot

    if path.is_dir() or not path.name:
        raise UserError(f"--plot {path}: name a file to write, such as leakage.png")
    bars = list(NAMES)[:3]
    found = {name: RESULTS / f"{name}.json" for name in RECIPES if (RESULTS / f"{name}.json").is_file()}
    if not found:
        raise UserError(f"{RESULTS}/leakage.json is not there: measure first, with --real")
    figure, axes = pyplot.subplots(1, len(found), figsize=(4.8 * len(found), 4.2), sharey=True, squeeze=False)
    for axis, (name, file) in zip(axes[0], found.items(), strict=True):
        figures = read_result(file, *bars)
        heights = np.array([figures[key]["accuracy"] for key in bars])
        bounds = np.array([figures[key]["interval"] for key in bars]).T
        axis.bar(range(3), 100 * heights, color=["tab:red", "tab:orange", "tab:blue"], width=0.7)
        axis.errorbar(range(3), 100 * heights, 100 * np.abs(bounds - heights), fmt="none", color="black", capsize=4)
        for place, (height, upper) in enumerate(zip(heights, bounds[1], strict=True)):
            axis.text(place, 100 * upper + 1.5, f"{height:.0%}", ha="center", fontsize=11)
        axis.axhline(100 / len(CLASSES), color="grey", linewidth=0.8, linestyle="--", label="guessing")
        axis.legend(loc="upper right")
        axis.set_xticks(range(3), ["random split\nafter augmentation", "lineage\nsplit", "real images\nfrom elsewhere"])
        axis.set(title=RECIPES[name], ylim=(0, 110))
    axes[0][0].set_ylabel("accuracy of the same recipe, %")
    figure.tight_layout()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
    pyplot.close(figure)
    print(f"written to {path}")
