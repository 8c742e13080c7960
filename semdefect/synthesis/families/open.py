"""Open: a line that should be whole is cut, notched or missing in part."""

from collections.abc import Callable

import numpy as np

from ..canvas import FRAME, Canvas, Field
from ..fields import Track, rough_edges, sample_blob, smooth_min
from ..layouts import LineSpace, sample_lines, sample_pitch
from ..registry import family
from ..sampling import Rng, chance, clipped_normal, integer, log_uniform, normal, one_of, pick, sign, uniform
from ..scene import Scene
from ..shading import sample_surface
from ..topdown import edited_lines, sample_orientation, shifted

Edit = Callable[[Rng, Canvas, LineSpace], Field]

MODES = {"binary": 6, "edges": 1.5, "mixed": 3, "gauss": 2.5, "trench": 0.4, "emboss": 0.4}


def _opened(
    rng: Rng,
    canvas: Canvas,
    pitch: tuple[float, float],
    edit: Edit,
    kind: str,
    modes: dict[str, float] = MODES,
) -> Scene:
    """Shade lines (mean duty .56) with and without the break; its tone varies around the space's."""
    lines = sample_lines(rng, canvas, sample_pitch(rng, *pitch), duty_mean=0.56, irregular=0.15)
    orientation = sample_orientation(rng, 0.74, 0.22)
    surface = sample_surface(rng, canvas, lines.pitch, modes)
    scene = edited_lines(lines, surface, edit(rng, canvas, lines), kind, orientation)
    draw = uniform(rng, 0, 1)
    if draw < 0.25:
        return shifted(scene, -uniform(rng, 0.05, 0.25))
    return shifted(scene, uniform(rng, 0.02, 0.15)) if draw < 0.45 else scene


def _cutter(rng: Rng, canvas: Canvas, lines: LineSpace, index: int, y: float, gap: float) -> Field:
    """Return the SDF of a piece that cuts line ``index`` over ``gap`` units around height ``y``."""
    width = float(lines.widths[index]) + 2.5 * lines.sigma
    cx = float(lines.centres[index]) + uniform(rng, -0.1, 0.1) * width
    half = width / 2 + uniform(rng, 0.2, 0.4) * lines.space + 0.6
    angle = uniform(rng, -0.25, 0.25) if chance(rng, 0.4) else 0.0
    power = pick(rng, {2.0: 3, 4.0: 2, 8.0: 0.6})
    return sample_blob(rng, cx, y, half, gap / 2 + 0.8, uniform(rng, 0.02, 0.2), angle, power).sdf(canvas)


def _subtract(rng: Rng, sdf: Field, cutter: Field, width: float) -> Field:
    return smooth_min(sdf, -cutter, max(0.5, width * uniform(rng, 0.05, 0.35)))


def _line(rng: Rng, lines: LineSpace, margin: float = 10.0) -> tuple[int, float]:
    """Draw a line: its index and its width in units."""
    index = one_of(rng, lines.visible(margin))
    return index, float(lines.widths[index])


@family("open", "cut", weight=28)
def cut(rng: Rng, canvas: Canvas) -> Scene:
    """Cut one line, sometimes two, straight through, with round or ragged ends."""

    def edit(rng: Rng, canvas: Canvas, lines: LineSpace) -> Field:
        sdf = lines.sdf
        for _ in range(2 if chance(rng, 0.25) else 1):
            index, width = _line(rng, lines)
            gap = min(log_uniform(rng, 0.3, 2.0) * max(width, 2.0), 40.0)
            cutter = _cutter(rng, canvas, lines, index, uniform(rng, 19, 109), gap)
            sdf = _subtract(rng, sdf, cutter, width)
        return sdf

    return _opened(rng, canvas, (8, 45), edit, "cut")


@family("open", "notch", weight=15)
def notch(rng: Rng, canvas: Canvas) -> Scene:
    """Bite a notch into one edge, or pinch a line from both sides."""

    def edit(rng: Rng, canvas: Canvas, lines: LineSpace) -> Field:
        index, width = _line(rng, lines)
        centre, y = float(lines.centres[index]), uniform(rng, 19, 109)
        pinch = chance(rng, 0.4)
        height = width * log_uniform(rng, 0.35, 1.0) + 0.6
        sdf = lines.sdf
        for side in (-1.0, 1.0) if pinch else (sign(rng),):
            depth = width * (uniform(rng, 0.35, 0.48) if pinch else uniform(rng, 0.6, 0.95))
            bite = sample_blob(rng, centre + side * width / 2, y, depth, height, 0.2).sdf(canvas)
            sdf = _subtract(rng, sdf, bite, width)
        return sdf

    return _opened(rng, canvas, (9, 45), edit, "notch")


@family("open", "dots", weight=19)
def dots(rng: Rng, canvas: Canvas) -> Scene:
    """Scatter one to nine dark dots over fine lines."""

    def edit(rng: Rng, canvas: Canvas, lines: LineSpace) -> Field:
        sdf = lines.sdf
        home = uniform(rng, 25, 103)
        for _ in range(integer(rng, 1, 9) if chance(rng, 0.6) else 1):
            index, width = _line(rng, lines)
            size = min(max(width, 2.0), 9.0) * log_uniform(rng, 0.5, 2.0)
            y = min(max(normal(rng, home, 25), 14.0), 114.0)
            sdf = smooth_min(sdf, -_cutter(rng, canvas, lines, index, y, size), 0.6)
        return sdf

    return _opened(rng, canvas, (4.5, 12), edit, "dots")


@family("open", "multi_gap", weight=13)
def multi_gap(rng: Rng, canvas: Canvas) -> Scene:
    """Cut two to six neighbouring lines at about the same height, with parallel ends."""

    def edit(rng: Rng, canvas: Canvas, lines: LineSpace) -> Field:
        first, width = _line(rng, lines)
        y = uniform(rng, 25, 103)
        gap = min(log_uniform(rng, 0.4, 3.0) * max(width, 2.0), 60.0)
        sdf = lines.sdf
        for index in range(first, min(first + integer(rng, 2, 6), len(lines.centres))):
            if index > first and chance(rng, 0.1):
                continue
            cutter = _cutter(rng, canvas, lines, index, y + uniform(rng, -0.15, 0.15) * gap, gap)
            sdf = smooth_min(sdf, -cutter, 0.8)
        return sdf

    return _opened(rng, canvas, (5, 30), edit, "multi_gap")


@family("open", "hole", weight=7)
def hole(rng: Rng, canvas: Canvas) -> Scene:
    """Remove everything within a large round hole."""

    def edit(rng: Rng, canvas: Canvas, lines: LineSpace) -> Field:
        rx = min(lines.pitch * uniform(rng, 0.8, 2.5), 38)
        ry = rx * log_uniform(rng, 0.6, 1.5)
        index, _ = _line(rng, lines, 20.0)
        roughness = uniform(rng, 0.03, 0.2)
        cutter = sample_blob(rng, float(lines.centres[index]), uniform(rng, 30, 98), rx, ry, roughness)
        return smooth_min(lines.sdf, -cutter.sdf(canvas), 1.0)

    return _opened(rng, canvas, (4.5, 30), edit, "hole")


@family("open", "long_piece", weight=8)
def long_piece(rng: Rng, canvas: Canvas) -> Scene:
    """Remove a long piece of one line; a fragment may remain in the gap."""

    def edit(rng: Rng, canvas: Canvas, lines: LineSpace) -> Field:
        index, width = _line(rng, lines)
        gap = min(uniform(rng, 1.5, 6.0) * max(width, 4.0), 90.0)
        y = uniform(rng, 30, 98)
        sdf = _subtract(rng, lines.sdf, _cutter(rng, canvas, lines, index, y, gap), width)
        if chance(rng, 0.3):
            centre = float(lines.centres[index])
            at = y + uniform(rng, -0.2, 0.2) * gap
            fragment = sample_blob(rng, centre, at, width * 0.4, min(width * 0.5, gap * 0.2), 0.3)
            sdf = np.maximum(sdf, fragment.sdf(canvas))
        return sdf

    return _opened(rng, canvas, (5, 40), edit, "long_piece")


@family("open", "crack_line", weight=5)
def crack_line(rng: Rng, canvas: Canvas) -> Scene:
    """Run a thin crack across several lines."""

    def edit(rng: Rng, canvas: Canvas, lines: LineSpace) -> Field:
        length = max(lines.pitch * uniform(rng, 1.2, 5), 30.0)
        wander = rough_edges(rng, (256,), uniform(rng, 1.5, 9), uniform(rng, 5, 20), 0.7, length / 256)
        width = log_uniform(rng, 1.2, 5) * (1 + 0.2 * rng.standard_normal(256, np.float32))
        start = uniform(rng, -10, max(FRAME - length, 0))
        angle = clipped_normal(rng, 0, 0.3, -0.7, 0.7)
        y = uniform(rng, 35, 93) - 0.5 * length * angle
        crack = Track(start, y, angle, length, wander, width.astype(np.float32))
        return smooth_min(lines.sdf, -crack.sdf(canvas), 0.7)

    return _opened(rng, canvas, (8, 45), edit, "crack_line")


@family("open", "trench", weight=5)
def trench(rng: Rng, canvas: Canvas) -> Scene:
    """Interrupt a dark line or trench in a bright film: dark lines, wide spaces."""

    def edit(rng: Rng, canvas: Canvas, lines: LineSpace) -> Field:
        index, width = _line(rng, lines)
        gap = min(log_uniform(rng, 0.8, 4.0) * max(width, 3.0), 50.0)
        return _subtract(rng, lines.sdf, _cutter(rng, canvas, lines, index, uniform(rng, 25, 103), gap), width)

    return _opened(rng, canvas, (12, 60), edit, "trench", {"trench": 1})
