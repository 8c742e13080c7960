"""The curve of accuracy on held-out folds against the number of real images a class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environment import RESULTS, read_result
from benchmarks.workspaces import recipe_of
from semdefect import CLASSES
from semdefect.atomic import replacing
from semdefect.errors import UserError

#: Line style and name of each model of the curve.
LINES = {"teacher": ("--", "teacher"), "fp32": (":", "student, FP32 file"), "int8": ("-", "student, INT8 file")}


def measured_points() -> list[tuple[float, dict[str, Any]]]:
    """Real images a class and figures of each point of the curve, from the result files there are.

    Raises:
        UserError: there are fewer than two, or they are not of the same recipe.
    """
    points, recipes = [], {}
    for file in sorted(RESULTS.glob("real_cv*.json")):
        if file.stem == "real_cv" or file.stem.removeprefix("real_cv_").isdecimal():
            figures = read_result(file, "real_images", "parameters")
            points.append((figures["real_images"] / len(CLASSES), figures))
            about = [figures.get(key) for key in ("weights", "code", "collection")]
            recipes[file.name] = [recipe_of(figures["parameters"]), *about]
    (first, recipe), *others = recipes.items() or [("", [])]
    different = [name for name, other in others if other != recipe]
    if different:
        raise UserError(
            f"{', '.join(different)} and {first} are of other parameters, weights, code or images: measure them again, "
            f"or delete them"
        )
    if len(points) < 2:
        raise UserError(f"{RESULTS} has {len(points)} measured point(s) of the curve: measure with --real-per-class")
    return sorted(points, key=lambda point: point[0])


def joined(names: Sequence[str], like: dict[str, Any]) -> tuple[float, dict[str, float]]:
    """Real images a class, and model → mean over the folds that results have between them, whatever their parameters.

    Args:
        names: results of some folds each, such as ``real_cv_32_folds0-1``.
        like: figures of a point of the curve: code and images have to be the same.

    Raises:
        UserError: one is missing or broken, of other code or images, or a fold stands in two of them.
    """
    parts = [read_result(RESULTS / f"{name}.json", "real_images", "int8_folds") for name in names]
    for name, part in zip(names, parts, strict=True):
        if any(part.get(key) != like.get(key) for key in ("code", "collection")):
            raise UserError(f"{name} is of other code or images than the curve: measure it again, or leave it out")
    folds = {model: [fold for part in parts for fold in part[f"{model}_folds"]] for model in LINES}
    numbers = [fold["fold"] for fold in folds["int8"]]
    if len(set(numbers)) < len(numbers):
        raise UserError(f"{', '.join(names)} have a fold in common: pass results of other folds each")
    images = np.average([part["real_images"] for part in parts], weights=[len(part["int8_folds"]) for part in parts])
    means = {model: float(np.mean([fold["mean_class_accuracy"] for fold in some])) for model, some in folds.items()}
    return float(images) / len(CLASSES), means


def plot(path: Path, names: Sequence[str] = ()) -> None:
    """Draw mean class accuracy against the number of real images a class into ``path``.

    Args:
        path: a PNG file.
        names: results of some folds each, which make a hollow point together.

    Raises:
        UserError: see `measured_points` and `joined`, or ``path`` is no file to write.
    """
    from matplotlib import pyplot

    if path.is_dir() or not path.name:
        raise UserError(f"--plot {path}: name a file to write, such as curve.png")
    points = measured_points()
    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for model, (style, label) in LINES.items():
        heights = np.array([figures[f"{model}_mean_class_accuracy"] for _, figures in points])
        bounds = np.array([figures[f"{model}_mean_class_accuracy_interval"] for _, figures in points]).T
        axes.errorbar(
            [number for number, _ in points], 100 * heights, 100 * np.abs(bounds - heights), ls=style, marker="o",
            capsize=3, label=label,
        )  # fmt: skip
    further = [joined(names, points[0][1])] if names else []
    for number, means in further:
        for line, model in enumerate(LINES):
            name = None if line else "of several results"
            axes.plot(number, 100 * means[model], "D", color=f"C{line}", mfc="none", label=name)
    axes.set_xlabel("real images given, a class (mean); 85 % of them train")
    axes.set_ylabel("mean class accuracy on held-out folds, %")
    axes.set_xscale("symlog", linthresh=4)
    measured = [number for number, _ in [*points, *further]]
    axes.set_xticks(measured, [f"{number:.0f}" for number in measured])
    axes.grid(alpha=0.3)
    axes.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})
    print(f"written to {path}")
