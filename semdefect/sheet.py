"""Contact sheets: many small images on one page, for eyes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from PIL import Image, ImageDraw, ImageFont

from semdefect import CLASSES
from semdefect.atomic import replacing
from semdefect.edge.image import open_gray
from semdefect.manifest import Row

TILE, GAP, CAPTION = 112, 4, 14

Item = TypeVar("Item")


def sample_sheet(rows: Sequence[Row], folder: Path, path: Path, columns: int = 12) -> None:
    """One line of ``columns`` images for each class, spread evenly over its images; the name stands before it."""
    lines = []
    for label in CLASSES:
        members = [row for row in rows if row.label == label]
        lines.append((label, [(open_gray(folder / row.path), "") for row in spread(members, columns)]))
    contact_sheet(lines, path)


def spread(members: Sequence[Item], count: int) -> list[Item]:
    """At most ``count`` of the ``members``, evenly spread over them."""
    count = min(count, len(members))
    return [members[index * len(members) // count] for index in range(count)]


def contact_sheet(lines: Sequence[tuple[str, Sequence[tuple[Image.Image, str]]]], path: Path) -> None:
    """Save a page of tiles as PNG.

    Args:
        lines: a heading and (image, caption) tiles for each line; captions take room only where there is one, and the
            page has colours only where a tile has.
        path: of the PNG.
    """
    font = ImageFont.load_default(11)
    caption = CAPTION if any(text for _, tiles in lines for _, text in tiles) else 0
    margin = GAP + max(int(font.getlength(heading)) for heading, _ in lines) + GAP
    width = margin + max(len(tiles) for _, tiles in lines) * (TILE + GAP)
    height = GAP + len(lines) * (TILE + caption + GAP)
    mode = "RGB" if any(image.mode != "L" for _, tiles in lines for image, _ in tiles) else "L"
    page = Image.new(mode, (width, height), "white")
    draw = ImageDraw.Draw(page)
    for number, (heading, tiles) in enumerate(lines):
        top = GAP + number * (TILE + caption + GAP)
        draw.text((GAP, top + TILE // 2 - 6), heading, fill="black", font=font)
        for column, (image, text) in enumerate(tiles):
            left = margin + column * (TILE + GAP)
            page.paste(image.resize((TILE, TILE), Image.Resampling.BILINEAR), (left, top))
            if text:
                draw.text((left, top + TILE + 1), text, fill="black", font=font)
    with replacing(path) as temporary:
        page.save(temporary, optimize=True)
