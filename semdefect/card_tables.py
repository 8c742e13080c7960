"""The tables of the model card: figures with their intervals, counts of the data, files."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semdefect import CLASSES
from semdefect.answers import COMPOSED
from semdefect.edge.classifier import EdgeClassifier
from semdefect.edge.guard import ACCEPTED
from semdefect.edge.scoring import confusion_matrix, score
from semdefect.edge.table import percent
from semdefect.evaluation import Outcome, TestSet
from semdefect.intervals import FIGURES, Interval, bootstrap, lineage, share_interval
from semdefect.manifest import Row
from semdefect.markdown import code, table
from semdefect.network import file_sha256


@dataclass(frozen=True)
class Scored:
    """The test sets and what the models said of them.

    Attributes:
        sets: by name.
        rows: the test split, for the lineage of its images.
        outcomes: ``[model][test set]``.
        shipped: the model of the file that goes to the device.
    """

    sets: dict[str, TestSet]
    rows: list[Row]
    outcomes: dict[str, dict[str, Outcome]]
    shipped: str

    @property
    def names(self) -> list[str]:
        """The test sets without those of `COMPOSED`."""
        return [name for name in self.sets if name not in COMPOSED]

    @cached_property
    def intervals(self) -> dict[str, dict[str, dict[str, Interval]]]:
        """95 % intervals, ``[model][test set][figure]``, of each of `names`."""
        groups = {name: lineage(self.sets[name].names, self.rows) for name in self.names}
        return {
            model: {name: _bootstrapped(by_set[name], groups[name]) for name in self.names}
            for model, by_set in self.outcomes.items()
        }


def _bootstrapped(outcome: Outcome, groups: NDArray[np.int64]) -> dict[str, Interval]:
    return bootstrap(outcome.truth, outcome.predicted, len(CLASSES), groups)


def headline(scored: Scored, models: Sequence[str]) -> str:
    """`semdefect.intervals.FIGURES` of ``models`` on each test set, with 95 % intervals."""
    rows = []
    for name in scored.names:
        for model in models:
            outcome, intervals = scored.outcomes[model][name], scored.intervals[model][name]
            figures = score(outcome.truth, outcome.probabilities, CLASSES)
            cells = [_with(figures[figure], intervals[figure]) for figure in FIGURES]
            rows.append([name, model, str(len(outcome.truth)), *cells])
    header = ["test set", "model", "images", "accuracy", "mean class accuracy", "macro-F1"]
    return table(header, rows, left=2)


def per_class(scored: Scored) -> str:
    """Recall and purity of each class in each test set, of the shipped file."""
    rows = [[name] for name in CLASSES]
    for name in scored.names:
        outcome = scored.outcomes[scored.shipped][name]
        confusion = confusion_matrix(outcome.truth, outcome.predicted, len(CLASSES))
        for number, row in enumerate(rows):
            right = int(confusion[number, number])
            row += [_share(right, int(whole[number])) for whole in (confusion.sum(axis=1), confusion.sum(axis=0))]
    return table(["class", *(f"{figure}, {name}" for name in scored.names for figure in ("recall", "purity"))], rows)


def guarded(scored: Scored, promised: float) -> str:
    """What the shipped file's guard kept of its promise on each test set."""
    rows = []
    for name in scored.names:
        outcome = scored.outcomes[scored.shipped][name]
        accepted = outcome.codes == ACCEPTED
        right = int((accepted & (outcome.predicted == outcome.truth)).sum())
        number, whole = int(accepted.sum()), len(accepted)
        kept = "–" if not number else ("yes" if right / number >= promised else "no")
        rows.append([name, _share(right, number), kept, _share(whole - number, whole), *_errors(outcome, accepted)])
    header = ["test set", "purity", "promise kept", "rejection rate", "escape rate", "overkill"]
    return table(header, rows)


def _errors(outcome: Outcome, accepted: NDArray[np.bool_]) -> list[str]:
    """Escape rate and overkill behind the guard."""
    clean, called = outcome.truth == CLASSES.index("clean"), outcome.predicted == CLASSES.index("clean")
    escaped, killed = int((accepted & called & ~clean).sum()), int((accepted & ~called & clean).sum())
    return [_share(escaped, int((~clean).sum())), _share(killed, int(clean.sum()))]


def _share(part: int, whole: int) -> str:
    return _with(part / whole if whole else None, share_interval(part, whole))


def _with(share: float | None, interval: Interval | None) -> str:
    """A share and its interval, in percent."""
    return "–" if share is None or interval is None else f"{percent(share)} ({_ends(interval)})"


def _ends(interval: Interval) -> str:
    return "–".join(f"{100 * end:.1f}" for end in interval)


def data_counts(splits: dict[str, list[Row]]) -> str:
    """Images of each split by origin, with their lineage groups and scene families, then by class."""
    by_class = [
        [label, *(str(sum(row.label == label for row in members)) for members in splits.values())] for label in CLASSES
    ]
    return f"{table(['split', *COUNTED], counts_of(splits))}\n\n{table(['class', *splits], by_class)}"


#: What `counts_of` counts.
COUNTED = ("images", "real", "augmented from these", "rendered", "lineage groups", "scene families")


def counts_of(splits: dict[str, list[Row]]) -> list[list[str]]:
    """A line for each split: its name and `COUNTED`."""
    rows = []
    for name, members in splits.items():
        real = [row for row in members if row.origin == "real"]
        children = sum(row.family == "augmented" for row in real)
        families = {row.family for row in members if row.origin == "rendered"}
        counts = [len(members), len(real) - children, children, len(members) - len(real)]
        rows.append([name, *map(str, [*counts, len({row.group for row in members}), len(families)])])
    return rows


def files(teacher: Path, students: dict[str, EdgeClassifier]) -> str:
    """The teacher's checkpoint and the exported files: size, hash, and the checkpoint they were made from."""
    rows = [[code(teacher.as_posix()), "fp32", _megabytes(teacher), code(file_sha256(teacher)), "–"]]
    for student in students.values():
        path, about = student.path, student.metadata
        made_from = code(about.checkpoint_sha256[:16])
        rows.append([code(path.as_posix()), about.precision, _megabytes(path), code(file_sha256(path)), made_from])
    return table(["file", "precision", "size", "SHA-256", "made from checkpoint"], rows, left=2)


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.2f} MB"


def settings(values: dict[str, dict[str, Any]]) -> str:
    """Parameters by name, a column for each of ``values``; a dash where one has no such parameter."""
    names = dict.fromkeys(name for column in values.values() for name in column)
    rows = [[code(name), *(str(column.get(name, "–")) for column in values.values())] for name in names]
    return table(["parameter", *values], rows)
