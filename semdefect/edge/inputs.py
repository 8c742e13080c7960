"""Which images a command line asks for: files, folders, or a list on standard input."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from semdefect.edge.image import IMAGE_SUFFIXES, list_images
from semdefect.errors import UserError

#: File name endings of images, as error messages and help name them.
SUFFIXES = " ".join(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)

_CHUNK = 2**16
#: No path on standard input is longer, in bytes: what systems allow. The row of an error holds it twice, each byte as
#: six or seven where it is no text, and is still shorter than `results.MAX_LINE`.
_LONGEST = 2**12


@dataclass(frozen=True)
class Images:
    """Images to classify.

    Attributes:
        paths: the files; can be gone through once.
        total: their number; None for a list on standard input, whose end is not known.
        alone: whether it is one image that was named as such.
    """

    paths: Iterable[Path]
    total: int | None
    alone: bool


def named(paths: Sequence[Path]) -> Images:
    """The image files that the arguments of a command stand for: files, and all images of folders.

    Raises:
        UserError: when a folder holds no images or cannot be listed.
    """
    found: list[Path] = []
    folders = False
    for path in paths:
        is_folder = os.path.isdir(path)  # noqa: PTH112, Path.is_dir raises where the name is too long
        folders |= is_folder
        images = list_images(path) if is_folder else [path]
        if not images:
            raise UserError(_none_in(path))
        found += images
    return Images(found, len(found), alone=len(found) == 1 and not folders)


def listed(null: bool) -> Images:
    """The paths that come on standard input: one a line, or, with ``null``, each ended by a NUL.

    They are read as they come. Empty lines are skipped, as is the carriage return at the end of a line.

    Raises:
        UserError: when standard input is closed, ends without a path, or holds what can be none.
    """
    if sys.stdin is None:
        raise UserError("standard input: is closed; write one path a line to it")
    paths = _paths(b"\0" if null else b"\n")
    first = next(paths, None)
    if first is None:
        raise UserError("standard input: names no images; write one path a line, as `find . -name '*.png'` does")
    return Images(chain([first], paths), None, alone=False)


def _paths(end: bytes) -> Iterator[Path]:
    rest = b""
    # Unbuffered: a thread that waits for standard input must hold no lock of it when the program ends.
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as file:
        while chunk := file.read(_CHUNK):
            *names, rest = (rest + chunk).split(end)
            yield from _named([*names, rest] if len(rest) > _LONGEST else names, end)
    yield from _named([rest], end)


def _named(names: Sequence[bytes], end: bytes) -> Iterator[Path]:
    for name in names:
        text = name.removesuffix(b"\r") if end == b"\n" else name
        if len(text) > _LONGEST or b"\0" in text:
            wanted = "write one path a line, or pass --null where NULs end them"
            raise UserError(f"standard input: holds what is no path ({os.fsdecode(text[:60])!r} …); {wanted}")
        if text:
            yield Path(os.fsdecode(text))


def _none_in(folder: Path) -> str:
    """Why a folder gives no images, and what to do."""
    inner = [entry.name for entry in sorted(folder.iterdir()) if entry.is_dir() and list_images(entry)]
    if not inner:
        return f"{folder}: holds no images; pass a folder with files that end in {SUFFIXES}"
    names = ", ".join(inner[:3]) + (", …" if len(inner) > 3 else "")
    return f"{folder}: its images lie in subfolders ({names}); pass those, or score the folder if they are classes"
