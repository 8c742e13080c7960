"""How accuracy falls as images get worse: exported files under every kind and severity of `semdefect.severities`."""

import math
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from semdefect import CLASSES
from semdefect.edge.classifier import DECODERS, EdgeClassifier
from semdefect.edge.image import to_tensor
from semdefect.edge.parallel import in_order
from semdefect.errors import UserError
from semdefect.evaluation import TestSet
from semdefect.plots import save_figure
from semdefect.severities import CORRUPTIONS, SEVERITIES, corrupted
from semdefect.sheet import contact_sheet, spread

#: Panels beside each other in `robustness_picture`.
_COLUMNS = 5


def some_of_each(images: TestSet, per_class: int) -> TestSet:
    """At most ``per_class`` images of each class, spread evenly over them."""
    members = [np.flatnonzero(images.truth == label).tolist() for label in range(len(CLASSES))]
    chosen = [index for indices in members for index in spread(indices, per_class)]
    return TestSet([images.images[i] for i in chosen], images.truth[chosen], [images.names[i] for i in chosen])


def robustness(students: Mapping[str, EdgeClassifier], images: TestSet, seed: int) -> dict[str, dict[str, Any]]:
    """Accuracy of each model on ``images``, undamaged and under each kind and severity.

    Args:
        students: the files to compare, by name; all answer to the same damaged images.
        images: gray and square, all of one size; `some_of_each` keeps it short.
        seed: image number i is damaged with the seed ``seed + i``.

    Returns:
        By model: ``clean`` is the accuracy on the undamaged images, ``curves`` maps each kind to its accuracies at
        severities 1 to 5, ``mean`` is the mean of all of these (mean corruption accuracy) and ``relative`` the mean
        divided by clean, None where clean is 0.

    Raises:
        UserError: there are no images.
    """
    if not images.images:
        raise UserError("evaluate.robustness_per_class: there are no test images to damage; use 1 or more")
    right: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in students}
    items = [(image, seed + index) for index, image in enumerate(images.images)]
    with closing(in_order(_damaged, items, DECODERS)) as work:
        bar = tqdm(work, total=len(items), desc="robustness", unit="image", disable=None, leave=False)
        for truth, (_, batches) in zip(images.truth, bar, strict=True):
            for name, student in students.items():
                said = np.concatenate([student.answers(batch).logits.argmax(axis=1) for batch in batches])
                right[name].append(said == truth)
    return {name: _figures(np.mean(answers, axis=0)) for name, answers in right.items()}


def _damaged(item: tuple[Image.Image, int]) -> list[NDArray[np.float32]]:
    """The image ``[1, 1, S, S]``, then for each kind its severities ``[5, 1, S, S]``, as the models take them."""
    image, seed = item
    pixels, steps = np.asarray(image), range(1, SEVERITIES + 1)
    spoilt = [[Image.fromarray(corrupted(pixels, kind, step, seed)) for step in steps] for kind in CORRUPTIONS]
    return [np.concatenate([to_tensor(each) for each in group]) for group in ([image], *spoilt)]


def _figures(accuracies: NDArray[np.float64]) -> dict[str, Any]:
    """What `robustness` returns of one model; ``accuracies`` in the order of `_damaged`."""
    clean, mean = float(accuracies[0]), float(accuracies[1:].mean())
    curves = accuracies[1:].reshape(len(CORRUPTIONS), SEVERITIES).tolist()
    return {
        "clean": clean,
        "curves": dict(zip(CORRUPTIONS, curves, strict=True)),
        "mean": mean,
        "relative": mean / clean if clean else None,
    }


def robustness_picture(figures: Mapping[str, dict[str, Any]], path: Path) -> None:
    """Accuracy against severity, a panel a kind, a line a model; severity 0 is the undamaged image.

    ``figures`` is what `robustness` returned; ``path`` is of the PNG.
    """
    rows = -(-(len(CORRUPTIONS) + 1) // _COLUMNS)  # one more, for the legend
    size = (2.5 * _COLUMNS, 2.1 * rows)
    figure, axes = pyplot.subplots(rows, _COLUMNS, figsize=size, sharex=True, sharey=True, layout="constrained")
    lowest = min(min(accuracies) for each in figures.values() for accuracies in each["curves"].values())
    panels = axes.flat
    for kind, axis in zip(CORRUPTIONS, panels, strict=False):
        for number, (name, each) in enumerate(figures.items()):
            accuracies = [each["clean"], *each["curves"][kind]]
            axis.plot(range(SEVERITIES + 1), accuracies, ".-" if number == 0 else ".--", label=name)
        axis.set_title(kind.replace("_", " "), fontsize=10)
        axis.grid(alpha=0.3)
    handles, labels = panels[0].get_legend_handles_labels()
    for axis in panels[len(CORRUPTIONS) :]:
        axis.axis("off")
    panels[len(CORRUPTIONS)].legend(handles, labels, loc="center")
    panels[0].set(ylim=(math.floor(10 * lowest) / 10 - 0.02, 1.02), xticks=range(SEVERITIES + 1))
    figure.supxlabel("severity")
    figure.supylabel("accuracy")
    save_figure(figure, path)


def severity_sheet(image: Image.Image, seed: int, path: Path) -> None:
    """A page that shows one gray, square ``image``: a line a kind, undamaged first, then severities 1 to 5."""
    pixels = np.asarray(image)
    lines = []
    for kind, corruption in CORRUPTIONS.items():
        steps = [
            (Image.fromarray(corrupted(pixels, kind, step, seed)), f"{step}: {strength:g}")
            for step, strength in enumerate(corruption.strengths, start=1)
        ]
        lines.append((kind, [(image, "0"), *steps]))
    contact_sheet(lines, path)
