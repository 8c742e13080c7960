"""The figures of a pull request: which changed by more than chance, on the same images where both runs have them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semdefect.answers import AnswerTable, SetAnswers
from semdefect.changes import Change, beyond_chance, paired, unpaired
from semdefect.edge.scoring import CLEAN
from semdefect.edge.table import percent
from semdefect.markdown import folded, table

#: The file that the shipped one is held against.
PLAIN = "student_fp32"
#: How the names of figures begin that are the accuracy of a model.
ACCURACY = "accuracy, "


@dataclass(frozen=True)
class Figure:
    """A figure that changed, or not: its name, the test set, and whether more of it is better."""

    name: str
    test_set: str
    change: Change
    more_is_better: bool


@dataclass(frozen=True)
class Pairing:
    """One test set in both runs; where ``same``, row by row the same images, else all of each run's."""

    before: SetAnswers
    now: SetAnswers
    same: bool


@dataclass(frozen=True)
class _Share:
    """A share of images: which count ``[N]``, among which ``[N]``."""

    counts: NDArray[np.bool_]
    among: NDArray[np.bool_]
    more_is_better: bool

    def total(self) -> tuple[int, int]:
        return int((self.counts & self.among).sum()), int(self.among.sum())


def pair_up(before: AnswerTable, now: AnswerTable) -> tuple[dict[str, Pairing], list[str]]:
    """The test sets of both runs by name, and sentences on what cannot be compared image by image."""
    pairs, notes = {}, []
    for name in [name for name in now.sets if name in before.sets]:
        one, other = before.sets[name], now.sets[name]
        known = {key: number for number, key in enumerate(zip(one.images, one.pixels, one.truth, strict=True))}
        keys = list(zip(other.images, other.pixels, other.truth, strict=True))
        mine = np.array([number for number, key in enumerate(keys) if key in known], np.int64)
        theirs = np.array([known[keys[number]] for number in mine], np.int64)
        pairs[name] = Pairing(one[theirs], other[mine], True) if len(mine) else Pairing(one, other, False)
        notes += _note(name, len(mine), len(one.images), len(other.images))
    notes += _alone("test sets", set(before.sets), set(now.sets))
    notes += _alone("models", _models(before), _models(now))
    return pairs, notes


def _models(answers: AnswerTable) -> set[str]:
    return {model for one in answers.sets.values() for model in one.called}


def _alone(kind: str, before: set[str], now: set[str]) -> list[str]:
    """Sentences on what one of both runs has alone."""
    found = (("the base", before - now), ("this state", now - before))
    return [f"Only in {where}, {kind}: {', '.join(sorted(names))}." for where, names in found if names]


def _note(name: str, shared: int, before: int, now: int) -> list[str]:
    if not shared:
        return [f"*{name}* has other test images than the base, so its figures are compared as of different images."]
    if shared < max(before, now):
        return [f"*{name}*: {shared} images are the same in both ({before} in the base, {now} here); only they count."]
    return []


def compared(before: AnswerTable, now: AnswerTable, pairs: dict[str, Pairing]) -> list[Figure]:
    """Every figure that both runs have, by figure, then test set."""
    figures = []
    for name, pair in pairs.items():
        theirs, mine = _shares(pair.before, before.shipped), _shares(pair.now, now.shipped)
        for title in [title for title in mine if title in theirs]:
            change = _change(theirs[title], mine[title], pair.same)
            if change:
                figures.append(Figure(title, name, change, mine[title].more_is_better))
    order = list(dict.fromkeys(figure.name for figure in figures))
    return sorted(figures, key=lambda figure: order.index(figure.name))


def _shares(answers: SetAnswers, shipped: str) -> dict[str, _Share]:
    truth, own = answers.truth, answers.called[shipped]
    every, clean, accepted = np.ones(len(truth), bool), truth == CLEAN, answers.guard == ""
    shares = {f"{ACCURACY}{model}": _Share(called == truth, every, True) for model, called in answers.called.items()}
    if PLAIN in answers.called and shipped != PLAIN:
        shares[f"agreement with {PLAIN}"] = _Share(own == answers.called[PLAIN], every, True)
    return shares | {
        "escape rate": _Share(own == CLEAN, ~clean, False),
        "overkill rate": _Share(own != CLEAN, clean, False),
        "purity of the accepted": _Share(own == truth, accepted, True),
        "rejection rate": _Share(~accepted, every, False),
    }


def _change(before: _Share, now: _Share, same: bool) -> Change | None:
    """Paired where both are shares of the same images; the accepted images, for one, may be others on the same set."""
    if same and np.array_equal(before.among, now.among):
        return paired(before.counts[before.among], now.counts[now.among])
    return unpaired(before.total(), now.total())


def from_summary(accuracy: dict[str, dict[str, float]], sizes: dict[str, int], now: AnswerTable) -> list[Figure]:
    """Accuracies of a base that kept no answers, as of different images.

    Args:
        accuracy: the base's, ``[test set][model]``, 0..1.
        sizes: images in the base's test sets.
        now: this state's answers.
    """
    figures = []
    for model in now.sets[next(iter(now.sets))].called if now.sets else ():
        for name, answers in now.sets.items():
            share = accuracy.get(name, {}).get(model)
            if share is not None and sizes.get(name):
                total = _Share(answers.called[model] == answers.truth, np.ones(len(answers.truth), bool), True).total()
                change = unpaired((round(share * sizes[name]), sizes[name]), total)
                figures += [Figure(f"{ACCURACY}{model}", name, change, True)] if change else []
    return figures


def figures_section(figures: Sequence[Figure], shipped: str) -> str:
    """A sentence on what changed, a table of that, and the rest folded."""
    marked = beyond_chance([figure.change for figure in figures])
    changed = [figure for figure, mark in zip(figures, marked, strict=True) if mark]
    rest = [figure for figure, mark in zip(figures, marked, strict=True) if not mark]
    moved = [figure for figure in rest if figure.change.difference]
    better = sum(_better(figure) for figure in changed)
    parts = [
        f"**{len(changed)} of {len(figures)} figures changed by more than chance**: {better} for the better, "
        f"{len(changed) - better} for the worse. {len(moved)} moved within noise, {len(rest) - len(moved)} not at all. "
        f"Where no model is named, the figure is of `{shipped}`."
    ]
    if changed:
        parts.append(table(_HEADER, [_row(figure, True) for figure in changed], left=3))
    if moved:
        parts.append(folded("Within noise", table(_HEADER, [_row(figure, False) for figure in moved], left=3)))
    return "\n\n".join(parts)


_HEADER = ("", "figure", "test set", "base", "now", "change, points", "95 %", "images", "p")


def _better(figure: Figure) -> bool:
    return (figure.change.difference > 0) == figure.more_is_better


def _row(figure: Figure, marked: bool) -> list[str]:
    change = figure.change
    if change.gained is None:
        images = f"{change.images[0]} and {change.images[1]}"
    else:
        images = f"+{change.gained} −{change.lost} of {change.images[0]}"
    return [
        ("better" if _better(figure) else "worse") if marked else "noise",
        figure.name,
        figure.test_set,
        percent(change.before),
        percent(change.now),
        points(change.difference),
        f"{points(change.low)} to {points(change.high)}",
        images,
        "<0.001" if change.p < 0.001 else f"{change.p:.3f}",
    ]


def points(share: Any) -> str:
    """A difference of shares in percentage points, with its sign."""
    text = f"{100 * share:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")
