"""What each model said of each test image, in a table that git keeps, so that two runs compare image by image.

One row an image: ``set``, ``image``, ``pixels`` (first digits of the SHA-256 of its gray values: an image of the same
name may be another one), ``truth``, a column a model, and ``<model>_guard``, the guard's decision of the shipped file.
A model's cell is ``=`` where it is right, else the class it called; the guard's is empty where it accepts, else the
reason.
"""

import csv
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semdefect import CLASSES
from semdefect.atomic import replacing
from semdefect.edge.guard import REASONS
from semdefect.errors import UserError

if TYPE_CHECKING:  # torch comes with it, which a comparison of two tables does not need
    from semdefect.evaluation import Outcome, TestSet

RIGHT = "="
#: Put together from other sets, whose rows tell the same.
COMPOSED = ("mixed",)
_KEYS, _GUARD = ("set", "image", "pixels", "truth"), "_guard"


@dataclass(frozen=True)
class SetAnswers:
    """Answers to the N images of one test set, in the order of the table.

    Attributes:
        images: names.
        pixels: beginning of each image's hash.
        truth: class names ``[N]``.
        called: by model, class names ``[N]``.
        guard: the shipped file's decisions ``[N]``, of `semdefect.edge.guard.REASONS`; empty: accepted.
    """

    images: tuple[str, ...]
    pixels: tuple[str, ...]
    truth: NDArray[np.str_]
    called: dict[str, NDArray[np.str_]]
    guard: NDArray[np.str_]

    def __getitem__(self, index: NDArray[np.int64]) -> "SetAnswers":
        """The answers to the images of these numbers."""
        return SetAnswers(
            tuple(self.images[number] for number in index),
            tuple(self.pixels[number] for number in index),
            self.truth[index],
            {model: called[index] for model, called in self.called.items()},
            self.guard[index],
        )


@dataclass(frozen=True)
class AnswerTable:
    """All of a run's answers: by test set, with the name of the shipped file's model."""

    shipped: str
    sets: dict[str, SetAnswers]


def write_answers(
    outcomes: "Mapping[str, Mapping[str, Outcome]]", sets: "Mapping[str, TestSet]", shipped: str, path: Path
) -> None:
    """Write the table, whole or not at all; equal runs give equal bytes.

    Args:
        outcomes: ``[model][test set]``; the models become columns in this order.
        sets: the test sets; those of `COMPOSED` have no rows.
        shipped: the model whose guard decides.
        path: of the CSV file.
    """
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*_KEYS, *outcomes, shipped + _GUARD])
        for name, images in sets.items():
            if name not in COMPOSED:
                said = [by_set[name].predicted for by_set in outcomes.values()]
                codes = outcomes[shipped][name].codes
                writer.writerows(_row(name, images, number, said, codes) for number in range(len(images.names)))


def _row(
    name: str, images: "TestSet", number: int, said: list[NDArray[np.int64]], codes: NDArray[np.int64]
) -> list[str]:
    truth = images.truth[number]
    calls = [RIGHT if called[number] == truth else CLASSES[called[number]] for called in said]
    title = images.names[number].removesuffix(f" ({name})")
    return [name, title, _digits(images.images[number]), CLASSES[truth], *calls, REASONS[codes[number]]]


def _digits(image: Image.Image) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()[:8]


def read_answers(text: str, source: str) -> AnswerTable:
    """The table in ``text``.

    Args:
        text: what `write_answers` wrote.
        source: names the text in messages.

    Raises:
        UserError: ``text`` is something else, or lists an image twice.
    """
    try:
        lines = list(csv.reader(io.StringIO(text), strict=True))
    except csv.Error as broken:
        raise _wrong(source, str(broken)) from None
    header = lines[0] if lines else []
    if tuple(header[:4]) != _KEYS or len(header) < 6 or not header[-1].endswith(_GUARD):
        raise _wrong(source, f"its columns must be {', '.join(_KEYS)}, one a model, and the guard's")
    models, shipped = header[4:-1], header[-1].removesuffix(_GUARD)
    if shipped not in models or len(set(models)) < len(models):
        raise _wrong(source, f"its columns must name each model once, {shipped} among them")
    parts: dict[str, list[list[str]]] = {}
    seen: set[tuple[str, str]] = set()
    for number, cells in enumerate(lines[1:], start=2):
        fault = _fault(cells, len(header))
        if fault or (cells[0], cells[1]) in seen:
            raise _wrong(source, f"line {number} {fault or f'lists {cells[1]} of {cells[0]} again'}")
        seen.add((cells[0], cells[1]))
        parts.setdefault(cells[0], []).append(cells)
    return AnswerTable(shipped, {name: _set_answers(rows, models) for name, rows in parts.items()})


def _fault(cells: list[str], columns: int) -> str:
    """What is wrong with a row, or nothing."""
    if len(cells) != columns:
        return f"has {len(cells)} cells instead of {columns}"
    if not all(cells[:-1]):
        return "has an empty cell"
    return "" if cells[-1] in REASONS else f"has {cells[-1]!r} where the guard's reason stands"


def _wrong(source: str, fault: str) -> UserError:
    return UserError(f"{source} is not a table of answers: {fault}; run `dvc repro evaluate` to write it anew")


def _set_answers(rows: list[list[str]], models: list[str]) -> SetAnswers:
    table = np.array(rows, dtype=np.str_)
    truth = table[:, 3]
    called = {model: np.where(table[:, n] == RIGHT, truth, table[:, n]) for n, model in enumerate(models, start=4)}
    return SetAnswers(tuple(table[:, 1].tolist()), tuple(table[:, 2].tolist()), truth, called, table[:, -1])
