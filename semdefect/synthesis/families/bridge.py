"""Bridge: material joins lines that should be apart. Line/space only, mostly in the lines' tone."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..canvas import Canvas, Field
from ..fields import coverage, sample_blob, smooth_max
from ..layouts import LineSpace, sample_lines, sample_pitch
from ..registry import family
from ..sampling import Rng, chance, integer, log_uniform, one_of, uniform
from ..scene import Scene
from ..shading import sample_surface
from ..topdown import edited_lines, grained, grey_of, repainted, sample_orientation

Edit = Callable[[Rng, Canvas, LineSpace], Field]

#: Dark lines (trench) are rare here: a dark bridge between them would pass for an open.
MODES = {"binary": 4, "mixed": 4, "edges": 2, "gauss": 3, "emboss": 1.5, "trench": 0.3}


def _bridged(rng: Rng, canvas: Canvas, lines: LineSpace, edit: Edit, kind: str, flat: float = 0.35) -> Scene:
    """Shade lines with and without the bridge; with chance ``flat`` the bridge gets a grey of its own."""
    orientation = sample_orientation(rng, 0.77, 0.20)
    surface = sample_surface(rng, canvas, lines.pitch, MODES)
    after = edit(rng, canvas, lines)
    scene = edited_lines(lines, surface, after, kind, orientation)
    if chance(rng, flat):
        scene = repainted(rng, canvas, scene, grey_of(rng, scene.signal, 45, 98))
    if chance(rng, 0.15):
        scene = grained(rng, canvas, scene, uniform(rng, 0.02, 0.08))
    return scene


def _place(rng: Rng, canvas: Canvas, lines: LineSpace) -> tuple[float, float, float]:
    """Draw a place in a space: its left end, its width and the height y, in units."""
    index = one_of(rng, lines.spaces(12.0))
    y = uniform(rng, 20, 108)
    left, right = lines.gap(canvas, index, y)
    return left, max(right - left, 1.0), y


def _fillet(rng: Rng, space: float) -> float:
    return max(0.6, space * uniform(rng, 0.15, 0.6))


@family("bridge", "neck", weight=42)
def neck(rng: Rng, canvas: Canvas) -> Scene:
    """Draw one or two necks over a space, with the concave meniscus of real resist bridges."""

    def edit(rng: Rng, canvas: Canvas, lines: LineSpace) -> Field:
        sdf = lines.sdf
        for _ in range(2 if chance(rng, 0.15) else 1):
            left, space, y = _place(rng, canvas, lines)
            height = log_uniform(rng, 0.25, 1.2) * space + 0.8
            power = 5.0 if chance(rng, 0.15) else 2.0
            blob = sample_blob(rng, left + space / 2, y, space * 0.8 + 1, height, 0.12, power=power)
            sdf = smooth_max(sdf, blob.sdf(canvas), _fillet(rng, space))
        return sdf

    return _bridged(rng, canvas, sample_lines(rng, canvas, sample_pitch(rng, 6, 45)), edit, "neck")


@family("bridge", "blob", weight=30)
def blob_over_lines(rng: Rng, canvas: Canvas) -> Scene:
    """Draw a blob over two to five lines, some with holes left inside or as a chain of blobs."""

    def edit(rng: Rng, canvas: Canvas, lines: LineSpace) -> Field:
        left, space, y = _place(rng, canvas, lines)
        cx = left + space / 2 + uniform(rng, -0.5, 0.5) * lines.pitch
        half = min(lines.pitch * (integer(rng, 1, 4) / 2 + uniform(rng, 0.1, 0.5)), 44.0)
        height = half * log_uniform(rng, 0.4, 1.6)
        power = uniform(rng, 1.8, 4)
        blob = sample_blob(rng, cx, y, half, height, uniform(rng, 0.05, 0.25), power=power)
        sdf = smooth_max(lines.sdf, blob.sdf(canvas), _fillet(rng, space))
        if chance(rng, 0.2):
            for side in (-1, 1):
                link = sample_blob(rng, cx, y + side * height, space * 0.8 + 0.5, space * 0.7 + 0.5, 0.15)
                sdf = np.maximum(sdf, link.sdf(canvas))
        if chance(rng, 0.3):
            for _ in range(integer(rng, 1, 3)):
                hole = sample_blob(
                    rng,
                    cx + uniform(rng, -0.5, 0.5) * half,
                    y + uniform(rng, -0.5, 0.5) * height,
                    space * uniform(rng, 0.2, 0.5),
                    space * uniform(rng, 0.3, 1),
                    0.3,
                )
                # A hole may not eat into the lines, or the scene becomes an open.
                sdf = np.maximum(lines.sdf, np.minimum(sdf, -hole.sdf(canvas)))
        return sdf

    return _bridged(rng, canvas, sample_lines(rng, canvas, sample_pitch(rng, 4.5, 30)), edit, "blob")


@family("bridge", "micro", weight=15)
def micro(rng: Rng, canvas: Canvas) -> Scene:
    """Draw one to four micro-bridges at fine pitch."""

    def edit(rng: Rng, canvas: Canvas, lines: LineSpace) -> Field:
        sdf = lines.sdf
        for _ in range(integer(rng, 2, 4) if chance(rng, 0.3) else 1):
            left, space, y = _place(rng, canvas, lines)
            cx = left + space * uniform(rng, 0.35, 0.65)
            blob = sample_blob(
                rng,
                cx,
                y,
                space * uniform(rng, 0.5, 0.75) + 0.8,
                log_uniform(rng, 0.35, 0.9) * space + 1,
                0.15,
            )
            sdf = smooth_max(sdf, blob.sdf(canvas), _fillet(rng, space))
        return sdf

    return _bridged(rng, canvas, sample_lines(rng, canvas, sample_pitch(rng, 4.5, 11)), edit, "micro", flat=0.25)


@family("bridge", "patch", weight=6)
def patch(rng: Rng, canvas: Canvas) -> Scene:
    """Draw a bright, ragged, flat patch that shorts lines; with texture or shadow it would be a particle."""
    lines = sample_lines(rng, canvas, sample_pitch(rng, 4.5, 22))
    orientation = sample_orientation(rng, 0.77, 0.20)
    surface = sample_surface(rng, canvas, lines.pitch, MODES)
    left, space, y = _place(rng, canvas, lines)
    half = min(lines.pitch * uniform(rng, 0.5, 1.6), 24)
    sdf = sample_blob(
        rng,
        left + space / 2,
        y,
        half,
        half * log_uniform(rng, 0.4, 1.5),
        0.3,
        uniform(rng, 0, 3),
        uniform(rng, 1, 2),
    ).sdf(canvas)
    after = smooth_max(lines.sdf, sdf, max(0.5, space * 0.2))
    scene = edited_lines(lines, surface, after, "patch", orientation)
    top = orientation.apply(coverage(sdf))
    grey = grey_of(rng, scene.signal, 90, 100) + uniform(rng, 0.0, 0.25)
    signal = scene.signal * (1 - 0.8 * top) + 0.8 * grey * top
    merged = replace(scene, signal=signal, mask=np.maximum(scene.mask, top))
    return grained(rng, canvas, merged, uniform(rng, 0.01, 0.05))


@family("bridge", "fork", weight=7)
def fork(rng: Rng, canvas: Canvas) -> Scene:
    """Draw two lines that merge over .8–3 pitches, some with a seam left between them."""

    def edit(rng: Rng, canvas: Canvas, lines: LineSpace) -> Field:
        left, space, y = _place(rng, canvas, lines)
        cx = left + space / 2
        length = min(lines.pitch * uniform(rng, 0.8, 3), 45)
        joint = sample_blob(rng, cx, y, space * 0.65 + 0.8, length, 0.1).sdf(canvas)
        if chance(rng, 0.4):
            joint = np.minimum(joint, np.abs(canvas.x - cx) - space * uniform(rng, 0.03, 0.12))
        return smooth_max(lines.sdf, joint, _fillet(rng, space))

    return _bridged(rng, canvas, sample_lines(rng, canvas, sample_pitch(rng, 6, 40)), edit, "fork", flat=0.15)
