"""A file of results that grows row by row and can be gone on with, however the program ended."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

from semdefect.edge.classifier import Classifier, Failure, Prediction
from semdefect.edge.rows import Csv, Format, JsonLines, one_line, row
from semdefect.errors import UserError

#: Hexadecimal digits of the model file's SHA-256 that a row carries.
DIGITS = 16
#: No row is longer, in bytes: some 600, and the path of its image.
MAX_LINE = 2**16


class Results:
    """A results file, open for more rows; a context manager.

    Each row is written at once and whole: what a killed program leaves is whole rows and at most one half. Each names
    the model that it comes from, by the hash of the model *file*: FP32 and INT8 of one checkpoint differ, as do two
    guards. It stands in the rows, not in a second file, so that it cannot be lost or belong to other rows.

    Attributes:
        path: the file.
        count: number of rows by what they say: ``accept``, ``review`` or ``error``; rows from before are in it.
        earlier: what was there when the file was opened: how many rows of each path, with the values of ``more``.
    """

    def __init__(
        self,
        path: Path,
        classifier: Classifier,
        resume: bool = False,
        more: Sequence[str] = (),
        one_model: bool = True,
    ) -> None:
        """Open ``path``, a ``.jsonl`` or ``.csv``, for rows with the columns ``more`` besides the usual ones.

        With ``resume`` a file that is there is gone on with, without the half of a row at its end.

        Raises:
            UserError: when the file is there without ``resume``, when another program writes it, when it is not one
                that ``Results`` wrote with the same columns, or, with ``one_model``, when it has rows of another
                model. The file is left as it was.
        """
        self.path = path
        self.count: Counter[str] = Counter()
        self.earlier: Counter[tuple[str, ...]] = Counter()
        self._more = tuple(more)
        self._model = classifier.sha256[:DIGITS]
        self._format: Format = Csv(classifier.classes, (*more, "model")) if _is_csv(path) else JsonLines()
        self._file = _opened(path, resume)
        try:
            end = _end_of_rows(path)
            if not end:
                self._check_start()
            for content in self._rows(end):
                if one_model and content["model"] != self._model:
                    raise UserError(_another_model(path, content["model"], self._model))
                self._tally(content)
                self.earlier[row_key(content["path"], *(content[name] for name in self._more))] += 1
            self._file.truncate(end)
            self._append(b"" if end else self._format.header)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "Results":
        """The file itself."""
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the file."""
        self._file.close()

    def missing(self, paths: Iterable[Path]) -> Iterator[Path]:
        """Those of ``paths`` without a row from before. A path that comes twice has two rows, as in one run."""
        done = self.earlier.copy()
        for path in paths:
            key = row_key(path)
            if done[key]:
                done[key] -= 1
            else:
                yield path

    def write(self, path: Path, result: Prediction | Failure, **more: Any) -> None:
        """Add the row of an image, with a value for each of the columns ``more``."""
        content = row(path, result, **more, model=self._model)
        self._append(self._format.line(content))
        self._tally(content)

    def summary(self) -> str:
        """What the rows say, in numbers."""
        count = self.count
        unreadable = f", {count['error']} unreadable" if count["error"] else ""
        return f"{count.total()} images, {count['accept']} accept, {count['review']} review{unreadable}"

    def _append(self, line: bytes) -> None:
        rest = memoryview(line)
        try:
            while rest:  # nearly always once; a full disk may take a part
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            error.filename = str(self.path)
            raise

    def _check_start(self) -> None:
        """Refuse a file without a line end unless it is what a killed program leaves of the first line."""
        with self.path.open("rb") as file:
            start = file.read(MAX_LINE)
        if not self._format.begins_with(start):
            raise UserError(f"{self.path}: is no results file; name another file")

    def _rows(self, end: int) -> Iterator[dict[str, Any]]:
        """The rows in the first ``end`` bytes, checked; from CSV, every value is a text."""
        wanted = {"path", "model", *self._more}
        try:
            for content in self._format.rows(_lines(self.path, end)):
                if not wanted <= set(content):
                    raise UserError(f"a row lacks one of {', '.join(sorted(wanted))}")
                if not content.get("error") and content.get("decision") not in ("accept", "review"):
                    raise UserError("a row has neither an error nor the decision accept or review")
                yield content
        except UserError as error:
            raise UserError(f"{self.path}: this command cannot go on with it ({error}); name another file") from None

    def _tally(self, content: Mapping[str, Any]) -> None:
        self.count["error" if content.get("error") else content["decision"]] += 1


def row_key(path: str | Path, *more: Any) -> tuple[str, ...]:
    """By what a row is found again: its path and the values of more columns, as texts whatever the format."""
    return (one_line(str(path)), *map(str, more))


def _is_csv(path: Path) -> bool:
    return path.suffix.lower() == ".csv"


def _another_model(path: Path, earlier: str, now: str) -> str:
    return (
        f"{path}: has rows of another model (its file's SHA-256 begins with {earlier}, not {now}); "
        "resume with that model, or name another file"
    )


def _opened(path: Path, resume: bool) -> FileIO:
    """The file for appending, unbuffered, and locked against a second writer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if resume and path.exists() and not path.is_file():
        raise UserError(f"{path}: is no regular file; name another file for the results")
    try:
        file = path.open("ab" if resume else "xb", buffering=0)
    except FileExistsError:
        raise UserError(f"{path}: is there already; go on with it by --resume, or name another file") from None
    assert isinstance(file, FileIO)
    try:
        _lock(file, path)
    except BaseException:
        file.close()
        raise
    return file


def _lock(file: FileIO, path: Path) -> None:
    """Refuse a file that another program writes, where the system has such locks; they end with the program."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{path}: another semdefect is writing it; wait for its end, or name another file") from None
    except OSError:  # a file system without locks
        return


def _end_of_rows(path: Path) -> int:
    """Number of bytes up to the last line end: what follows is the half of a row.

    Raises:
        UserError: a line is longer than `MAX_LINE`.
    """
    end = 0
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE + 1):
            if len(line) > MAX_LINE:
                raise UserError(f"{path}: has a line of more than {MAX_LINE // 2**10} KiB; name another file")
            end += len(line) if line.endswith(b"\n") else 0
    return end


def _lines(path: Path, end: int) -> Iterator[str]:
    with path.open("rb") as file:
        while file.tell() < end:
            yield file.readline().decode("utf-8", "replace")
