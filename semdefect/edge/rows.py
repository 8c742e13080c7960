"""Results as rows of JSON lines or CSV. Both follow the fields of ``Prediction``: a new one needs no change here."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Protocol, get_origin

from semdefect.edge.classifier import Failure, Prediction
from semdefect.errors import UserError

#: Endings of the files that rows can be written to.
FORMATS = (".jsonl", ".csv")
#: How every row in JSON begins: see `row`.
_FIRST = b'{"path": "'


def one_line(text: str) -> str:
    """A text without line ends and undecoded bytes, which file names may hold: as escapes, the rest as it is.

    So a row is a line in CSV too, and the half of one at the end of a file is what follows the last line end.
    """
    return text.translate({10: r"\n", 13: r"\r"}).encode("utf-8", "backslashreplace").decode()


def row(path: Path, result: Prediction | Failure, **more: Any) -> dict[str, Any]:
    """One image as a dictionary that JSON can hold: its path, the fields of the result, and ``more``."""
    return {"path": str(path), **asdict(result), **more}


class Format(Protocol):
    """How rows become bytes, one line each, and come back.

    Attributes:
        header: what a file starts with.
    """

    header: bytes

    def line(self, row: Mapping[str, Any]) -> bytes:
        """A row, its line end included."""

    def begins_with(self, start: bytes) -> bool:
        """Whether ``start``, without a line end, may be the beginning of a file's first line; nothing may be, too."""

    def rows(self, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
        """The rows of a file, header and all.

        Raises:
            UserError: names what is wrong, to stand after the name of the file.
        """


class JsonLines:
    """One JSON object a line."""

    header = b""

    def line(self, row: Mapping[str, Any]) -> bytes:
        """A row as ASCII, its line end included."""
        return json.dumps(row).encode() + b"\n"

    def begins_with(self, start: bytes) -> bool:
        """Whether ``start`` may be the beginning of a row, which names the path first; see ``Format``."""
        if start[: len(_FIRST)] != _FIRST[: len(start)]:
            return False
        try:
            content = json.loads(start)
        except (ValueError, RecursionError):
            return True
        return "model" in content  # all of a row but its line end; without a model it is of somebody else

    def rows(self, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
        """The rows of a file; see ``Format``."""
        for number, line in enumerate(lines, 1):
            try:
                content = json.loads(line)
            except (ValueError, RecursionError):
                content = None
            if not isinstance(content, dict):
                raise UserError(f"line {number} is no JSON object")
            yield content


class Csv:
    """Comma-separated values in UTF-8, with a header and one column a class probability; a row is one line."""

    def __init__(self, classes: Sequence[str], more: Sequence[str] = ()) -> None:
        """Columns are the path, the fields of ``Prediction``, ``error``, and ``more``."""
        self.columns = ["path"]
        for field in fields(Prediction):
            self.columns += _columns(field.name, classes) if get_origin(field.type) is dict else [field.name]
        self.columns += [field.name for field in fields(Failure)] + list(more)
        self.header = self._encoded(self.columns)

    def line(self, row: Mapping[str, Any]) -> bytes:
        """A row, its line end included. What it lacks, and None, are empty cells."""
        cells: dict[str, Any] = {}
        for name, value in row.items():
            inner = isinstance(value, Mapping)
            cells |= dict(zip(_columns(name, value), value.values(), strict=True)) if inner else {name: value}
        return self._encoded([cells.get(column) for column in self.columns])

    def begins_with(self, start: bytes) -> bool:
        """Whether ``start`` may be the beginning of the header; see ``Format``."""
        return self.header.startswith(start)

    def rows(self, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
        """The rows of a file, every value a text; see ``Format``. An empty file has none."""
        table = csv.reader(lines, strict=True)
        try:
            if next(table, self.columns) != self.columns:
                raise UserError("its columns are not " + ", ".join(self.columns))
            for cells in table:
                if len(cells) != len(self.columns):
                    raise UserError(f"line {table.line_num} does not have {len(self.columns)} columns")
                yield dict(zip(self.columns, cells, strict=True))
        except csv.Error as error:
            raise UserError(f"line {table.line_num} is no CSV ({error})") from None

    def _encoded(self, cells: Sequence[Any]) -> bytes:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(
            [one_line(cell) if isinstance(cell, str) else cell for cell in cells]
        )
        return text.getvalue().encode()


def _columns(name: str, classes: Iterable[str]) -> list[str]:
    """Names of the columns of a field that holds a value a class."""
    return [f"{name}_{label}" for label in classes]
