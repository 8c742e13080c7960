"""The manifest: one row an image, with its lineage."""

import csv
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path

from semdefect import CLASSES
from semdefect.atomic import replacing
from semdefect.errors import UserError

#: Where `synthesize` writes and every path of a manifest starts.
IMAGES = Path("data/synthetic")
SPLITS = Path("data/splits")
#: Larger manifests are refused unread; a row takes some 130 bytes.
MAX_BYTES = 2**28
#: Digits of a seed or size.
_DIGITS = 18
#: Where DVC keeps files by their hash; with `cache.type symlink` the images are links to there.
_IN_CACHE = re.compile(r".*[/\\]files[/\\]md5[/\\][0-9a-f]{2}[/\\][0-9a-f]{30}")
#: Sides in px that a data set may have.
LEAST_SIZE, LARGEST_SIZE = 64, 1024


@dataclass(frozen=True)
class Row:
    """One image. Images of one ``group`` descend from one base image or its near-duplicates."""

    path: str  #: relative to `IMAGES`
    label: str  #: one of `CLASSES`; the column is called ``class``
    origin: str  #: ``real`` or ``rendered``
    family: str  #: scene family of a rendered image; ``original`` or ``augmented`` for a real one
    source_id: str  #: the base image: path below ``data/real`` or ``rendered/<class>/<seed>``
    group: str  #: lineage group; never crosses a split
    seed: int  #: draws the image again, together with class, size, family and base image
    size: int  #: side in px
    bbox: str  #: defect's bounding box ``x0 y0 x1 y1`` in px, or empty

    @property
    def original(self) -> bool:
        """A real image as it came, not drawn from one by augmenting."""
        return self.origin == "real" and self.family == "original"


_COLUMNS = ["class" if field.name == "label" else field.name for field in fields(Row)]


def write_manifest(path: Path, rows: Iterable[Row]) -> None:
    """Write ``rows`` as CSV, sorted by path, whole or not at all."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(asdict(row).values() for row in sorted(rows, key=lambda row: row.path))


def read_manifest(path: Path, folder: Path = IMAGES) -> list[Row]:
    """The rows of a manifest or of a split.

    Args:
        folder: where the caller opens their images, for a check of their paths.

    Raises:
        UserError: the file is missing, too large or no regular file, a column or value is wrong, or an image path
            leaves ``folder``, be it by a link.
    """
    try:
        status = path.stat()
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):  # opening a pipe waits for its writer
            raise UserError(f"{path} is a device or a pipe: pass a manifest.csv")
        if status.st_size > MAX_BYTES:
            raise UserError(f"{path} is larger than {MAX_BYTES // 2**20} MiB, which no manifest is; run `dvc repro`")
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != _COLUMNS:
                raise UserError(f"{path}: the columns must be {', '.join(_COLUMNS)}; run `dvc repro` to rebuild it")
            images = _Images(folder)
            rows = [_row(path, number, cells, images) for number, cells in enumerate(reader, start=2)]
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro`") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder: pass the manifest.csv in it") from None
    except (csv.Error, UnicodeDecodeError) as broken:
        raise UserError(f"{path} is not a manifest ({broken}); run `dvc repro` to rebuild it") from None
    if not rows:
        raise UserError(f"{path} lists no images: give the split a share in params.yaml, or rebuild it by `dvc repro`")
    return rows


class _Images:
    """A data folder, and what lies in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._root = os.path.realpath(folder)
        self._inner = cache(self._is_inner)
        self._archive = cache(self._is_archive)

    def holds(self, image: Path) -> bool:
        """Whether ``image``, relative to the folder, lies in it whatever links lead there; also where it is missing."""
        if image.is_absolute() or ".." in image.parts:
            return False
        image = next((part for part in image.parents if part.suffix == ".tar" and self._archive(str(part))), image)
        if not self._inner(str(image.parent)):
            return False
        path = os.path.join(self._root, image)  # noqa: PTH118, a manifest may have 10^5 rows
        try:
            linked = stat.S_ISLNK(os.lstat(path).st_mode)
        except (OSError, ValueError):
            return True
        target = os.path.realpath(path) if linked else path
        return self._below(target) or bool(_IN_CACHE.fullmatch(target))

    def _is_archive(self, path: str) -> bool:
        """Whether images are read from this file, which has to lie in the folder in their stead."""
        return os.path.isfile(os.path.join(self._root, path))  # noqa: PTH113, PTH118

    def _is_inner(self, folder: str) -> bool:
        return self._below(os.path.realpath(os.path.join(self._root, folder)) + os.sep)  # noqa: PTH118

    def _below(self, path: str) -> bool:
        return path.startswith(self._root + os.sep)


def _row(path: Path, number: int, cells: dict[str, str], images: _Images) -> Row:
    if None in cells or None in cells.values():
        raise UserError(f"{path}, line {number}: wrong number of columns; run `dvc repro` to rebuild it")
    if cells["class"] not in CLASSES:
        raise UserError(f"{path}, line {number}: {_shown(cells['class'])} is not one of {', '.join(CLASSES)}")
    if not Path(cells["path"]).name:
        raise UserError(f"{path}, line {number}: path {_shown(cells['path'])} names no image")
    if "\0" in cells["path"] or not images.holds(Path(cells["path"])):
        raise UserError(f"{path}, line {number}: {_shown(cells['path'])} leaves {images.folder}")
    for name in ("seed", "size"):
        if not (cells[name].isascii() and cells[name].isdecimal()) or len(cells[name]) > _DIGITS:
            raise UserError(
                f"{path}, line {number}: {name} {_shown(cells[name])} is not a whole number of at most {_DIGITS} digits"
            )
    if not LEAST_SIZE <= int(cells["size"]) <= LARGEST_SIZE:
        raise UserError(f"{path}, line {number}: size {cells['size']} is not from {LEAST_SIZE} to {LARGEST_SIZE} px")
    values = {name: value for name, value in cells.items() if name not in ("class", "seed", "size")}
    return Row(label=cells["class"], seed=int(cells["seed"]), size=int(cells["size"]), **values)


def _shown(cell: str) -> str:
    """A cell as messages show it."""
    return repr(cell if len(cell) <= 80 else f"{cell[:77]}...")
