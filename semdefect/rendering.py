"""Rendered images to look at and to keep: contact sheets, and images with their masks and records."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from semdefect.atomic import replacing, write_json
from semdefect.balance import redraw
from semdefect.errors import UserError
from semdefect.manifest import read_manifest
from semdefect.sheet import contact_sheet
from semdefect.synthesis import families_of, render

REAL = Path("data/real")
#: Images on a line of a sheet; with masks each takes two places.
COLUMNS = 12


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


def pictures(labels: Sequence[str], n: int, seed: int, size: int, family: str | None = None) -> list[Picture]:
    """``n`` images of ``size``² px of each class, of the seeds from ``seed`` on, drawn on all cores.

    Raises:
        UserError: the class has no such ``family``.
    """
    if family and family not in families_of(labels[0]):
        raise UserError(f"{labels[0]} has no family {family}; it has {', '.join(families_of(labels[0]))}")
    jobs = [(label, seed + index, size, family) for label in labels for index in range(n)]
    drawn = Parallel(n_jobs=-1 if len(jobs) > 50 else 1, return_as="generator")(delayed(_draw)(*job) for job in jobs)
    return list(tqdm(drawn, total=len(jobs), desc="render", unit="image", disable=None, leave=False))


def _draw(label: str, seed: int, size: int, family: str | None) -> Picture:
    one = render(label, seed, size, family)
    return Picture(f"{label}_{seed}", label, f"{one.family} {seed}", one.image, one.mask, one.record)


def picture_of_row(path: str, manifest: Path) -> Picture:
    """The image of the data set that ``manifest`` lists under ``path``, drawn again.

    Raises:
        UserError: it lists no such image, or the base image of a real one is gone.
    """
    rows = {row.path: row for row in read_manifest(manifest)}
    if path not in rows:
        raise UserError(f"{manifest} lists no {path}; it has, for one, {min(rows)}")
    row = rows[path]
    pixels, drawn = redraw(row, REAL)
    mask, record = (drawn.mask, drawn.record) if drawn else (None, asdict(row))
    return Picture(Path(path).with_suffix("").as_posix(), row.label, f"{row.family} {row.seed}", pixels, mask, record)


def write_sheet(drawn: Sequence[Picture], path: Path, masks: bool) -> None:
    """A contact sheet, each class on lines of its own; with ``masks`` each image stands twice, then all else dimmed."""
    per_line = COLUMNS // 2 if masks else COLUMNS
    lines = []
    for label in sorted({picture.label for picture in drawn}):
        members = [picture for picture in drawn if picture.label == label]
        for start in range(0, len(members), per_line):
            tiles = [tile for picture in members[start : start + per_line] for tile in _tiles(picture, masks)]
            lines.append((label, tiles))
    contact_sheet(lines, path)


def _tiles(picture: Picture, masks: bool) -> list[tuple[Image.Image, str]]:
    tiles = [(Image.fromarray(picture.pixels), picture.caption)]
    if masks and picture.mask is not None:
        lit = np.where(picture.mask, picture.pixels, picture.pixels // 4)
        tiles.append((Image.fromarray(lit), "its defect" if picture.mask.any() else "no defect"))
    return tiles


def write_pictures(drawn: Sequence[Picture], folder: Path) -> None:
    """``<name>.png`` with its record ``<name>.json`` and, where it has one, its mask ``<name>_mask.png`` (0 or 255)."""
    for picture in drawn:
        _save(picture.pixels, folder / f"{picture.name}.png")
        if picture.mask is not None:
            _save(picture.mask.astype(np.uint8) * 255, folder / f"{picture.name}_mask.png")
        write_json(folder / f"{picture.name}.json", picture.record, digits=6)


def _save(pixels: NDArray[np.uint8], path: Path) -> None:
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary)
