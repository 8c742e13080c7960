"""Classify the images of a folder as a tool writes them: whole files only, each once.

The folder is looked at again and again, since network shares, where microscopes write, tell nobody of new files. A
file is tried when size and time stayed the same from one look to the next. One that cannot be read may still be
written by a slow tool, so it gets more time before it counts as bad.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path

from semdefect.edge.classifier import Classifier, Failure, Prediction
from semdefect.edge.ending import check
from semdefect.edge.image import list_images
from semdefect.edge.options import print_error
from semdefect.edge.results import Results, row_key
from semdefect.edge.review import ReviewFolder, SourceChangedError
from semdefect.errors import UserError

#: Seconds between two looks at the folder, at least; and times as long as a look takes, so that a watched folder of
#: ten thousand images, or a slow share, costs a tenth of one core and no more.
INTERVAL, REST = 1.0, 9

#: Looks at an unchanged file after which it is tried, and after which it is bad when it still cannot be read.
SETTLED, BAD = 2, 10


@dataclass(frozen=True)
class Stamp:
    """By what a changed file is told: its size in bytes, and the time of the last change in seconds since 1970.

    The names are those of the columns in a results file.
    """

    bytes: int
    modified: float

    @classmethod
    def of(cls, path: Path) -> "Stamp | None":
        """The stamp that a file has now; None where it is gone or may not be looked at."""
        try:
            status = path.stat()
        except OSError:
            return None
        return cls(status.st_size, status.st_mtime)


#: Columns of a results file that ``watch`` goes on with.
COLUMNS = tuple(field.name for field in fields(Stamp))


class WatchedFolder:
    """Which files of a folder are ready to be classified."""

    def __init__(self, folder: Path, done: Iterable[tuple[str, ...]] = (), patient: bool = True) -> None:
        """Watch ``folder``, but not the files in ``done``, which are keys of rows in a results file.

        Unless ``patient``, what cannot be read counts as bad when it is first tried.
        """
        self.folder = folder
        self._done = set(done)
        self._bad = BAD if patient else SETTLED
        self._waiting: dict[Path, tuple[Stamp, int]] = {}  # and for how many looks it has been the same

    def look(self) -> dict[Path, Stamp]:
        """Look at the folder once; returns the files to try now, sorted.

        Raises:
            UserError: when the folder cannot be listed.
        """
        waiting = {}
        for path in list_images(self.folder):
            stamp = Stamp.of(path)
            if stamp is not None and row_key(path, *astuple(stamp)) not in self._done:
                before, looks = self._waiting.get(path, (stamp, 0))
                waiting[path] = (stamp, looks + 1 if before == stamp else 1)
        self._waiting = waiting
        return {path: stamp for path, (stamp, looks) in waiting.items() if looks in (SETTLED, self._bad)}

    def may_be_unfinished(self, path: Path) -> bool:
        """Whether a file that could not be read gets more time."""
        return self._waiting[path][1] < self._bad

    def again(self, path: Path) -> None:
        """Look at a file as at a new one: it changed, or could not be copied."""
        self._waiting.pop(path, None)

    def finish(self, path: Path, stamp: Stamp) -> None:
        """Leave a file alone from now on, unless it changes."""
        self._done.add(row_key(path, *astuple(stamp)))


def watch(
    folder: WatchedFolder,
    classifier: Classifier,
    results: Results,
    review: ReviewFolder,
    once: bool = False,
    interval: float = INTERVAL,
) -> Iterator[tuple[Path, Prediction | Failure]]:
    """Classify the files of ``folder`` as they become complete; yields each after its row is written.

    What is under review is put into ``review`` before its row is written: whenever the program ends, no image that
    has a row lacks there. Never ends, unless ``once``: then when the files that are there have been tried. A folder
    that is gone for a while, as those on a network share are, is told of on standard error and waited for.

    Raises:
        UserError: when the folder cannot be listed at first, or the network fails; with ``once``, also when an image
            cannot be read again for review.
    """
    looks, took, lost = 0, 0.0, ""
    while not (once and looks == SETTLED):
        if looks:
            time.sleep(max(interval, REST * took))
        check()
        looks += 1
        start = time.monotonic()
        try:
            ready, lost = folder.look(), ""
        except UserError as error:
            if once or looks == 1:
                raise
            if lost != str(error):
                print_error(f"{error}; waiting for it")
            ready, lost = {}, str(error)
            start = time.monotonic()  # a share that takes minutes to say no keeps nobody waiting for longer
        took = time.monotonic() - start
        for path, result in classifier.stream(list(ready)):
            check()
            stamp = ready[path]
            if Stamp.of(path) != stamp:  # changed while it was read: other looks decide
                folder.again(path)
                continue
            if isinstance(result, Failure):
                if folder.may_be_unfinished(path):
                    continue
            elif result.decision == "review":
                try:
                    review.put(path, result, unchanged=lambda: Stamp.of(path) == stamp)  # noqa: B023, called at once
                except SourceChangedError as error:
                    if once and error.why:
                        raise UserError(f"{path}: cannot be copied for review ({error.why}); run it again") from None
                    folder.again(path)
                    continue
            results.write(path, result, **asdict(stamp))
            folder.finish(path, stamp)
            yield path, result
