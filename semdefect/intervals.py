"""How sure a figure of a test set is: 95 % intervals.

They tell how much the figure would move with other images of the same kind. Another training moves it further.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from semdefect.edge.scoring import confusion_matrix
from semdefect.manifest import Row

RESAMPLES = 2000
LEVEL = 0.95
#: What `bootstrap` gives an interval of, by the names that `semdefect.edge.scoring.score` gives the figures.
FIGURES = ("accuracy", "mean_class_accuracy", "macro_f1")

Interval = tuple[float, float]


def bootstrap(
    truth: NDArray[np.int64],
    predicted: NDArray[np.int64],
    classes: int,
    groups: NDArray[np.int64] | None = None,
    seed: int = 0,
) -> dict[str, Interval]:
    """Percentile bootstrap (Efron and Tibshirani, 1993, chapter 13) of each of `FIGURES`, 0..1.

    Images are drawn within their class, since a test set has a given number of each. Images of one lineage group are
    no evidence apart, so that whole groups are drawn. Where no image is called wrong, both ends are 1.

    Args:
        truth: class numbers ``[N]``, N >= 1.
        predicted: class numbers ``[N]``.
        classes: their number.
        groups: lineage group of each image ``[N]``, see `lineage`; None: each image is one of its own.
        seed: of the draws; the same for every model of a test set, so that all see the same draws.

    Raises:
        ValueError: there are no images, or shapes or class numbers do not fit each other.
    """
    if not len(truth):
        raise ValueError("no images to draw from")
    confusion_matrix(truth, predicted, classes)  # checks shapes and numbers
    _, first, group = np.unique(np.arange(len(truth)) if groups is None else groups, True, True)
    cells = np.zeros((len(first), classes * classes))
    np.add.at(cells, (group, truth * classes + predicted), 1)
    drawn = resampled(truth[first], np.random.default_rng(seed))
    confusions = (drawn.astype(float) @ cells).reshape(-1, classes, classes)
    figures = dict(zip(FIGURES, _figures(confusions), strict=True))
    return {name: _percentiles(values) for name, values in figures.items()}


def resampled(classes: NDArray[np.int64], rng: np.random.Generator, resamples: int = RESAMPLES) -> NDArray[np.int64]:
    """How often each of the groups of these ``classes [G]`` is drawn, ``[resamples, G]``; a class keeps its number."""
    drawn = np.zeros((resamples, len(classes)), np.int64)
    for label in np.unique(classes):
        own = np.flatnonzero(classes == label)
        drawn[:, own] = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), resamples)
    return drawn


def _figures(confusions: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """`FIGURES` of each of ``confusions [R, C, C]``, ``[R]`` each, as `semdefect.edge.scoring` computes one."""
    right = np.diagonal(confusions, axis1=1, axis2=2)
    there, called = confusions.sum(axis=2), confusions.sum(axis=1)
    present = there > 0
    recall = np.divide(right, there, out=np.zeros_like(right), where=present)
    f1 = np.divide(2 * right, there + called, out=np.zeros_like(right), where=present)
    number = present.sum(axis=1)
    return right.sum(axis=1) / there.sum(axis=1), recall.sum(axis=1) / number, f1.sum(axis=1) / number


def _percentiles(values: NDArray[np.float64]) -> Interval:
    low, high = np.percentile(values, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def lineage(names: Sequence[str], rows: Iterable[Row]) -> NDArray[np.int64]:
    """Number of the lineage group of each image, ``[N]``.

    Args:
        names: of a `semdefect.evaluation.TestSet`; a corrupted image is of its original's group, one that no row lists,
            such as a fresh one, is a group of its own.
        rows: the test split.
    """
    group = {row.path: row.group for row in rows}
    own = [name.removesuffix(" (noisy)") for name in names]
    numbers = np.unique([group.get(name, name) for name in own], return_inverse=True)[1]
    return np.asarray(numbers, np.int64)


def share_interval(part: int, whole: int) -> Interval | None:
    """Wilson's score interval (1927) of the share ``part / whole``; None where ``whole`` is 0."""
    if not whole:
        return None
    interval = binomtest(part, whole).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)
