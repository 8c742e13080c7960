"""Marks that microscopes and people leave on pictures. One code path and one set of rates for every class."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from .sampling import Rng, chance, integer, one_of, pick, uniform

#: Name → share of all images that get it.
RATES = {
    "frame": 0.10,
    "margin": 0.05,
    "scale_bar": 0.08,
    "arrow": 0.02,
    "star": 0.03,
    "rotation": 0.04,
    "annotation": 0.01,
}

#: An overlay that would hide more than this share of the defect is left out.
MOST_HIDDEN = 0.30


@dataclass(frozen=True)
class Overlaid:
    """Image uint8 (S, S), mask bool (S, S) moved along with it, and the names of the overlays drawn."""

    image: np.ndarray
    mask: np.ndarray
    names: list[str]


def add_overlays(rng: Rng, image: np.ndarray, mask: np.ndarray) -> Overlaid:
    """Draw each overlay with its rate; ``mask`` bool (S, S) is the defect that must stay visible."""
    chosen = [name for name, rate in RATES.items() if chance(rng, rate)]
    drawn = []
    for name in chosen:
        if name == "rotation":
            changed, moved = _rotate(rng, image, mask)
        else:
            changed, moved = _DRAW[name](rng, image), mask
        hidden = 1.0 - moved.sum() / max(mask.sum(), 1) if name == "rotation" else _hidden(image, changed, mask)
        if mask.any() and hidden > MOST_HIDDEN:
            continue
        image, mask = changed, moved
        drawn.append(name)
    return Overlaid(image, mask, drawn)


def _hidden(before: np.ndarray, after: np.ndarray, mask: np.ndarray) -> float:
    """Return the share of the mask whose pixels changed."""
    return float(((before != after) & mask).sum()) / max(int(mask.sum()), 1)


def _rotate(rng: Rng, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotate by up to ±8° with black or white corners, as careless scans are."""
    angle, corner = uniform(rng, -8, 8), one_of(rng, (0, 255))
    picture = Image.fromarray(image).rotate(angle, Image.Resampling.BICUBIC, fillcolor=corner)
    moved = Image.fromarray(mask.astype(np.uint8) * 255).rotate(angle, Image.Resampling.BILINEAR)
    return np.asarray(picture), np.asarray(moved) > 127


class _Pen:
    """Draws in units (1/128 of the frame) on a copy of the image."""

    def __init__(self, image: np.ndarray) -> None:
        self.picture = Image.fromarray(image)
        self.draw = ImageDraw.Draw(self.picture)
        self.zoom = image.shape[0] / 128

    def line(self, points: list[float], grey: int, width: float = 1.0) -> None:
        self.draw.line([value * self.zoom for value in points], fill=grey, width=max(1, round(width * self.zoom)))

    def box(self, corners: list[float], grey: int) -> None:
        self.draw.rectangle([value * self.zoom for value in corners], fill=grey)

    def text(self, x: float, y: float, text: str, grey: int, size: float) -> None:
        self.draw.text((x * self.zoom, y * self.zoom), text, fill=grey, font_size=max(5, size * self.zoom))

    def done(self) -> np.ndarray:
        return np.asarray(self.picture)


def _frame(rng: Rng, image: np.ndarray) -> np.ndarray:
    """Draw remnants of a thin frame on some of the four sides."""
    pen, grey = _Pen(image), one_of(rng, (255, 255, 0, 200))
    sides: list[list[float]] = [
        [0, 0, 128, 0],
        [0, 127.4, 128, 127.4],
        [0, 0, 0, 128],
        [127.4, 0, 127.4, 128],
    ]
    kept = [side for side in sides if chance(rng, 0.4)] or [one_of(rng, sides)]
    for side in kept:
        pen.line(side, grey, integer(rng, 1, 2))
    return pen.done()


def _margin(rng: Rng, image: np.ndarray) -> np.ndarray:
    """Draw a black or white band along one side."""
    pen, width = _Pen(image), uniform(rng, 3, 12)
    bands: list[list[float]] = [
        [0, 0, 128, width],
        [0, 128 - width, 128, 128],
        [0, 0, width, 128],
        [128 - width, 0, 128, 128],
    ]
    pen.box(one_of(rng, bands), one_of(rng, (0, 255, 235)))
    return pen.done()


def _scale_bar(rng: Rng, image: np.ndarray) -> np.ndarray:
    """Draw a scale bar near the bottom, most with tiny text."""
    pen, grey = _Pen(image), one_of(rng, (0, 255))
    x, y, length = uniform(rng, 4, 90), uniform(rng, 112, 125), uniform(rng, 12, 35)
    pen.line([x, y, x + length, y], grey, uniform(rng, 0.6, 2))
    if chance(rng, 0.6):
        unit = pick(rng, {"nm": 3, "um": 2, "µm": 1})
        pen.text(
            x + uniform(rng, 0, 6),
            y - 9 if chance(rng, 0.5) else y + 1,
            f"{integer(rng, 1, 500)}{unit}",
            grey,
            6,
        )
    return pen.done()


def _arrow(rng: Rng, image: np.ndarray) -> np.ndarray:
    """Draw an arrow anywhere: it need not point at a defect."""
    pen, grey = _Pen(image), one_of(rng, (0, 255))
    x, y, length, angle = (
        uniform(rng, 20, 100),
        uniform(rng, 20, 100),
        uniform(rng, 8, 20),
        uniform(rng, 0, 6.28),
    )
    pen.line([x, y, x + length * math.cos(angle), y + length * math.sin(angle)], grey)
    for turn in (0.5, -0.5):
        pen.line([x, y, x + 5 * math.cos(angle + turn), y + 5 * math.sin(angle + turn)], grey)
    return pen.done()


def _star(rng: Rng, image: np.ndarray) -> np.ndarray:
    """Draw a four-pointed watermark star at the bottom right."""
    pen, x, y = _Pen(image), uniform(rng, 118, 122), uniform(rng, 118, 122)
    size, grey = uniform(rng, 3, 5), integer(rng, 200, 255)
    points = []
    for i in range(8):
        radius = size if i % 2 == 0 else size * 0.3
        points.append(
            (
                (x + radius * math.cos(i * math.pi / 4)) * pen.zoom,
                (y + radius * math.sin(i * math.pi / 4)) * pen.zoom,
            )
        )
    pen.draw.polygon(points, fill=grey)
    return pen.done()


def _annotation(rng: Rng, image: np.ndarray) -> np.ndarray:
    """Draw a panel letter or an ellipse."""
    pen, grey = _Pen(image), one_of(rng, (0, 255))
    if chance(rng, 0.5):
        pen.text(uniform(rng, 2, 12), uniform(rng, 2, 12), f"({one_of(rng, 'abcdef')})", grey, uniform(rng, 7, 12))
        return pen.done()
    x, y, rx, ry = uniform(rng, 30, 98), uniform(rng, 30, 98), uniform(rng, 8, 26), uniform(rng, 8, 26)
    corners = [value * pen.zoom for value in (x - rx, y - ry, x + rx, y + ry)]
    pen.draw.ellipse(corners, outline=grey, width=max(1, round(pen.zoom)))
    return pen.done()


_DRAW: dict[str, Callable[[Rng, np.ndarray], np.ndarray]] = {
    "frame": _frame,
    "margin": _margin,
    "scale_bar": _scale_bar,
    "arrow": _arrow,
    "star": _star,
    "annotation": _annotation,
}
