"""The manifest: one row an image, with its lineage."""

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from semdefect import CLASSES
from semdefect.atomic import replacing
from semdefect.errors import UserError

#: Where `synthesize` writes and every path of a manifest starts.
IMAGES = Path("data/synthetic")
SPLITS = Path("data/splits")
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


_COLUMNS = ["class" if field.name == "label" else field.name for field in fields(Row)]


def write_manifest(path: Path, rows: Iterable[Row]) -> None:
    """Write ``rows`` as CSV, sorted by path, whole or not at all."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(asdict(row).values() for row in sorted(rows, key=lambda row: row.path))


def read_manifest(path: Path) -> list[Row]:
    """The rows of a manifest or of a split.

    Raises:
        UserError: the file is missing, a column or value is wrong, or an image path leaves the data folder.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != _COLUMNS:
                raise UserError(f"{path}: the columns must be {', '.join(_COLUMNS)}; run `dvc repro` to rebuild it")
            rows = [_row(path, number, cells) for number, cells in enumerate(reader, start=2)]
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro`") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder: pass the manifest.csv in it") from None
    except (csv.Error, UnicodeDecodeError) as broken:
        raise UserError(f"{path} is not a manifest ({broken}); run `dvc repro` to rebuild it") from None
    if not rows:
        raise UserError(f"{path} lists no images: give the split a share in params.yaml, or rebuild it by `dvc repro`")
    return rows


def _row(path: Path, number: int, cells: dict[str, str]) -> Row:
    if None in cells or None in cells.values():
        raise UserError(f"{path}, line {number}: wrong number of columns; run `dvc repro` to rebuild it")
    if cells["class"] not in CLASSES:
        raise UserError(f"{path}, line {number}: {cells['class']!r} is not one of {', '.join(CLASSES)}")
    image = Path(cells["path"])
    if image.is_absolute() or ".." in image.parts:
        raise UserError(f"{path}, line {number}: {cells['path']!r} leaves {IMAGES}")
    for name in ("seed", "size"):
        if not cells[name].isdecimal():
            raise UserError(f"{path}, line {number}: {name} {cells[name]!r} is not a whole number")
    if not LEAST_SIZE <= int(cells["size"]) <= LARGEST_SIZE:
        raise UserError(f"{path}, line {number}: size {cells['size']} is not from {LEAST_SIZE} to {LARGEST_SIZE} px")
    values = {name: value for name, value in cells.items() if name not in ("class", "seed", "size")}
    return Row(label=cells["class"], seed=int(cells["seed"]), size=int(cells["size"]), **values)
