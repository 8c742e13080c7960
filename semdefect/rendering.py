"""Rendered images to look at and to keep: contact sheets, and images with their masks and records."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joblib import delayed
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from semdefect.archive import open_image
from semdefect.atomic import replacing, write_json
from semdefect.balance import redraw
from semdefect.base_images import REAL
from semdefect.errors import UserError
from semdefect.manifest import read_manifest
from semdefect.sheet import TILE, contact_sheet
from semdefect.synthesis import families_of, render
from semdefect.workers import in_processes

#: Images on a line of a sheet; with masks each takes two places.
COLUMNS = 12
#: Larger pages open in few programs.
LARGEST_SHEET = 2000


@dataclass(frozen=True)
class Picture:
    """An image to write.

    ``pixels`` and ``mask`` are ``[S, S]``, uint8 and bool; ``record`` holds everything that was drawn, as JSON values.
    A real image has no mask, and its record is its row of the manifest.
    """

    name: str
    label: str
    caption: str
    pixels: NDArray[np.uint8]
    mask: NDArray[np.bool_] | None
    record: dict[str, Any]


def family_list(labels: Sequence[str]) -> str:
    """Classes, their families and each one's share of the class, one a line."""
    lines = []
    for label in labels:
        members = families_of(label)
        total = sum(member.weight for member in members.values())
        lines += [f"{label:<8}{name:<16}{member.weight / total:>6.1%}" for name, member in members.items()]
    return "\n".join(lines)


def pictures(labels: Sequence[str], n: int, seed: int, size: int, family: str | None = None) -> Iterator[Picture]:
    """``n`` images of ``size``² px of each class, of the seeds from ``seed`` on, drawn on all cores.

    Raises:
        UserError: the class has no such ``family``.
    """
    if family and family not in families_of(labels[0]):
        raise UserError(f"{labels[0]} has no family {family}; it has {', '.join(families_of(labels[0]))}")
    jobs = [(label, seed + index, size, family) for label in labels for index in range(n)]
    drawn = in_processes((delayed(_draw)(*job) for job in jobs), -1 if len(jobs) > 50 else 1)
    return iter(tqdm(drawn, total=len(jobs), desc="render", unit="image", disable=None, leave=False))


def _draw(label: str, seed: int, size: int, family: str | None) -> Picture:
    one = render(label, seed, size, family)
    name = f"{label}_{family}_{seed}" if family else f"{label}_{seed}"
    return Picture(name, label, f"{one.family} {seed}", one.image, one.mask, one.record)


def picture_of_row(path: str, manifest: Path) -> Picture:
    """The image of the data set that ``manifest`` lists under ``path``, drawn again.

    Raises:
        UserError: it lists no such image, the base image of a real one is gone, or what is drawn now is not what the
            manifest or the file beside it shows.
    """
    rows = {row.path: row for row in read_manifest(manifest, manifest.parent)}
    below = Path(path)
    path = (below.relative_to(manifest.parent) if below.is_relative_to(manifest.parent) else below).as_posix()
    if path not in rows:
        raise UserError(f"{manifest} lists no {path}; it has, for one, {min(rows)}")
    row = rows[path]
    beside = manifest.parent.resolve().parent / REAL.name  # not where a linked manifest leads
    pixels, drawn = redraw(row, beside if beside.is_dir() else REAL)
    stored = manifest.parent / path
    there = stored.is_file() or any(part.suffix == ".tar" and part.is_file() for part in stored.parents)
    other_box = drawn and " ".join(map(str, drawn.bbox or ())) != row.bbox
    if other_box or (there and not np.array_equal(np.asarray(open_image(stored)), pixels)):
        raise UserError(f"{path} would look different now (another renderer or base image): run `dvc repro synthesize`")
    mask, record = (drawn.mask, drawn.record) if drawn else (None, asdict(row))
    return Picture(Path(path).with_suffix("").as_posix(), row.label, f"{row.family} {row.seed}", pixels, mask, record)


def write(drawn: Iterable[Picture], sheet: Path | None, masks: bool, folder: Path | None) -> None:
    """Write each picture as it comes to ``folder``, and all of them to a contact ``sheet``, where asked for.

    On the sheet each class has lines of its own; with ``masks`` an image stands twice, then with all but its defect
    dimmed. Below the folder lie ``<name>.png``, its record ``<name>.json`` and, where it has one, its mask
    ``<name>_mask.png`` (0 or 255).
    """
    tiles: dict[str, list[tuple[Image.Image, str]]] = {}
    for picture in drawn:
        if folder:
            _write_picture(picture, folder)
        if sheet:
            tiles.setdefault(picture.label, []).extend(_tiles(picture, masks))
    if sheet:
        lines = [
            (label, members[start : start + COLUMNS])
            for label, members in sorted(tiles.items())
            for start in range(0, len(members), COLUMNS)
        ]
        contact_sheet(lines, sheet)


def _tiles(picture: Picture, masks: bool) -> list[tuple[Image.Image, str]]:
    tiles = [(_tile(picture.pixels), picture.caption)]
    if masks and picture.mask is not None:
        lit = np.where(picture.mask, picture.pixels, picture.pixels // 4)
        tiles.append((_tile(lit), "its defect" if picture.mask.any() else "no defect"))
    return tiles


def _tile(pixels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(pixels).resize((TILE, TILE), Image.Resampling.BILINEAR)


def _write_picture(picture: Picture, folder: Path) -> None:
    _save(picture.pixels, folder / f"{picture.name}.png")
    if picture.mask is not None:
        _save(picture.mask.astype(np.uint8) * 255, folder / f"{picture.name}_mask.png")
    write_json(folder / f"{picture.name}.json", picture.record, digits=9)


def _save(pixels: NDArray[np.uint8], path: Path) -> None:
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary)
