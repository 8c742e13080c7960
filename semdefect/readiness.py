"""Class by class, whether data and overlap allow automation at the target purity, and what to collect next.

    rows = class_readiness(manifest_rows, evidence(outcomes, test_rows), target_purity=0.98, confidence=0.9)
    write_json(path, content(rows)); HEADER, cells(rows)

A call is an image that the guard accepts as a class. Purity is the share of calls that are right. Its bounds are those
of Clopper and Pearson (1934), one-sided, each at ``confidence`` by itself. A class

* **overlaps** with another where even the upper bound misses the target, so that more data of the same kind would only
  prove it, or where the guard accepts less than `AUTOMATED` of the images that are called so: it keeps the purity by
  leaving most of them to a person;
* else it is **ready** where the lower bound reaches the target,
* and else it **needs more data**; so does one that the guard never accepts, which shows nothing.

Calls on real images decide wherever a real image of the class was tested; where none was, the verdict says so.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, nbinom

from semdefect import CLASSES
from semdefect.edge.guard import ACCEPTED
from semdefect.edge.scoring import confusion_matrix, share
from semdefect.edge.table import percent
from semdefect.evaluation import Outcome
from semdefect.manifest import Row

#: Least share of its calls that a class is accepted in to count as automated: with less, a person sees most of them.
AUTOMATED = 0.5

HEADER = (
    "class",
    "verdict",
    "collect next",
    "real images",
    "rendered",
    "measured on",
    "accepted",
    "calls",
    "purity",
    "at least",
    "most confused with",
)


@dataclass(frozen=True)
class Calls:
    """What the guard made of M images that are independent of each other: class numbers and decisions ``[M]``."""

    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    accepted: NDArray[np.bool_]


@dataclass(frozen=True)
class Readiness:
    """One class.

    Attributes:
        label: its name.
        real_images, rendered_images: of all splits; children of real images count as neither.
        measured_on: ``real`` or ``rendered`` images.
        accepted: of the images that are called the class, the share that the guard accepts, 0..1; None where none is.
        calls, errors: how many it accepts, and how many of them are of another class.
        purity, purity_bound: of the calls, and its lower bound, 0..1; None where there are no calls.
        confused_with: the class with which the network confuses it most, before the guard; None where it never does.
        confused_share: of the images of both classes, the share that is called the other one, 0..1.
        verdict: see the head of this file.
        more_calls: further calls on real images, none of them wrong, after which the lower bound reaches the target.
        more_images: images of the class to test for so many calls, at the present rate of right calls; None where
            there are none.
        collect: what to collect next, as a phrase.
    """

    label: str
    real_images: int
    rendered_images: int
    measured_on: str
    accepted: float | None
    calls: int
    errors: int
    purity: float | None
    purity_bound: float | None
    confused_with: str | None
    confused_share: float
    verdict: str
    more_calls: int
    more_images: int | None
    collect: str


def evidence(outcomes: Mapping[str, Outcome], test: Sequence[Row]) -> dict[str, Calls]:
    """Calls on ``rendered`` images (the test split's and *fresh*) and, where there are any, on ``real`` ones.

    Args:
        outcomes: test set → what the shipped file said: ``clean``, and ``fresh`` and ``real`` where there are any.
        test: rows of the test split, in the order of ``clean``. Of each lineage group of real images one counts, since
            near-duplicates are no further evidence; children of real images are none.
    """
    rendered = [index for index, row in enumerate(test) if row.origin == "rendered"]
    parts = [_calls(outcomes["clean"], rendered), *([_calls(outcomes["fresh"])] if "fresh" in outcomes else [])]
    names = ("truth", "predicted", "accepted")
    found = {"rendered": Calls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))}
    first: dict[str, int] = {}
    for index, row in enumerate(test):
        if row.original:
            first.setdefault(row.group, index)
    return found | ({"real": _calls(outcomes["clean"], sorted(first.values()))} if first else {})


def _calls(outcome: Outcome, chosen: Sequence[int] | None = None) -> Calls:
    index = np.arange(len(outcome.truth)) if chosen is None else np.array(chosen, np.int64)
    return Calls(outcome.truth[index], outcome.predicted[index], (outcome.codes == ACCEPTED)[index])


def class_readiness(
    rows: Sequence[Row], measured: Mapping[str, Calls], target_purity: float, confidence: float
) -> list[Readiness]:
    """A verdict for each class, in the order of `CLASSES`.

    Args:
        rows: the manifest, all splits.
        measured: `evidence`.
        target_purity: in (0, 1), ``export_onnx.target_purity``.
        confidence: of each bound, in (0, 1), ``export_onnx.guard_confidence``.
    """
    counted = Counter((row.label, row.origin) for row in rows if row.family != "augmented")
    verdicts = []
    for number, label in enumerate(CLASSES):
        real = "real" in measured and bool((measured["real"].truth == number).any())
        kind = "real" if real else "rendered"
        counts = counted[label, "real"], counted[label, "rendered"]
        verdicts.append(_of_class(number, counts, kind, measured[kind], target_purity, confidence))
    return verdicts


def _of_class(
    number: int, counts: tuple[int, int], kind: str, calls: Calls, target: float, confidence: float
) -> Readiness:
    called = calls.predicted == number
    accepted = called & calls.accepted
    total, right = int(accepted.sum()), int((accepted & (calls.truth == number)).sum())
    bounds = purity_bounds(right, total, confidence)
    taken, rate = share(total, called.sum()), share(right, (calls.truth == number).sum())
    other, overlap = _most_confused(calls, number)
    state = _state(bounds, target, taken, other)
    # What rendered images show has to be shown on real ones, from the first call on.
    errors, had = (total - right, total) if kind == "real" else (0, 0)
    more = max(0, needed_calls(errors, target, confidence) - had)
    images = int(np.ceil(more / rate)) if rate else None
    return Readiness(
        label=CLASSES[number],
        real_images=counts[0],
        rendered_images=counts[1],
        measured_on=kind,
        accepted=taken,
        calls=total,
        errors=total - right,
        purity=share(right, total),
        purity_bound=bounds[0] if total else None,
        confused_with=other,
        confused_share=overlap,
        verdict=state if kind == "real" else f"{state} on rendered images; no real image measured",
        more_calls=more,
        more_images=images,
        collect=_collect(CLASSES[number], state, kind, more, images, other),
    )


def _state(bounds: tuple[float, float], target: float, taken: float | None, other: str | None) -> str:
    low, high = bounds
    if other and taken and (high < target or taken < AUTOMATED):
        return f"overlaps with {other}"
    return "ready" if low >= target else "needs more data"


def _most_confused(calls: Calls, number: int) -> tuple[str | None, float]:
    """The class whose images and those of ``number`` are taken for each other most often, and how often, 0..1."""
    confusion = confusion_matrix(calls.truth, calls.predicted, len(CLASSES))
    images = confusion.sum(axis=1)
    shares = (confusion[number] + confusion[:, number]) / np.maximum(images[number] + images, 1)
    shares[number] = 0
    worst = int(shares.argmax())
    return (CLASSES[worst], float(shares[worst])) if shares[worst] else (None, 0.0)


def purity_bounds(right: int, total: int, confidence: float) -> tuple[float, float]:
    """Lower and upper bound of the share that ``right`` of ``total`` stand for, 0..1, each one-sided at ``confidence``.

    Without any, they are 0 and 1. Source: Clopper, Pearson, "The use of confidence or fiducial limits", 1934.
    """
    if not total:
        return 0.0, 1.0
    low, high = (
        binomtest(right, total, alternative=side).proportion_ci(confidence, "exact") for side in ("greater", "less")
    )
    return float(low.low), float(high.high)


def needed_calls(errors: int, target: float, confidence: float) -> int:
    """The smallest number of calls, ``errors`` of them wrong, whose lower bound reaches ``target``.

    For 0.98 at 0.9: 114 without an error, 194 with one. With so many the binomial gives at most ``1 - confidence`` to
    so few errors at an error rate of ``1 - target``: it is the trial of error number ``errors + 1`` that comes no
    earlier with that probability, the quantile of a negative binomial.
    """
    return int(nbinom.ppf(confidence, errors + 1, 1 - target)) + errors + 1


def _collect(label: str, state: str, kind: str, calls: int, images: int | None, other: str | None) -> str:
    if state.startswith("overlaps"):
        return f"real images of {label} and {other} to train on, that tell them apart; then test again"
    if not calls:
        return "nothing"
    some = f"some {images} real test images" if images else "real test images"
    return f"{some}, for {calls} {'further ' if kind == 'real' else ''}calls without an error"


def content(rows: Sequence[Readiness]) -> dict[str, Any]:
    """For JSON: class → figures, and how many classes are ``ready`` on real images and ``ready_on_rendered``."""
    return {
        "ready": sum(row.verdict == "ready" for row in rows),
        "ready_on_rendered": sum(row.verdict.startswith("ready on rendered") for row in rows),
        "classes": {row.label: {key: value for key, value in asdict(row).items() if key != "label"} for row in rows},
    }


def cells(rows: Sequence[Readiness]) -> list[list[str]]:
    """The table's lines, under `HEADER`."""
    return [
        [
            row.label,
            row.verdict,
            row.collect,
            str(row.real_images),
            str(row.rendered_images),
            row.measured_on,
            percent(row.accepted),
            f"{row.calls} ({row.errors} wrong)",
            percent(row.purity),
            percent(row.purity_bound),
            f"{row.confused_with} ({percent(row.confused_share)})" if row.confused_with else "none",
        ]
        for row in rows
    ]
