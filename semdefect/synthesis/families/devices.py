"""Other, seen from above: devices and chip layouts, which are no test pattern of lines and carry no named defect."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..canvas import FAR, FRAME, Canvas, Field
from ..fields import box_sdf, coverage, polyline_sdf, sample_blob
from ..layouts import sample_array, sample_lines
from ..painting import paint
from ..registry import family
from ..sampling import Rng, chance, integer, log_uniform, one_of, pick, recorded, sign, uniform
from ..scene import Scene
from ..shading import sample_surface
from ..topdown import sample_orientation, slanted

MODES = {"binary": 3, "mixed": 4, "edges": 3, "emboss": 3, "trench": 1}

Part = Callable[[Rng, Canvas], Field]


def _place(rng: Rng) -> tuple[float, float]:
    return uniform(rng, 0.1, 0.9) * FRAME, uniform(rng, 0.1, 0.9) * FRAME


def _frames(rng: Rng, canvas: Canvas) -> Field:
    """Draw boxes inside each other: rings of a chip seal, of a guard ring, of a spiral."""
    cx, cy = _place(rng)
    hx, hy = log_uniform(rng, 15, 60), log_uniform(rng, 15, 60)
    box = box_sdf(canvas.x, canvas.y, cx, cy, hx, hy, uniform(rng, 0, 0.4) * min(hx, hy))
    period = log_uniform(rng, 5, 18)
    ring = uniform(rng, 0.15, 0.35) * period - np.abs(np.mod(box, period) - period / 2)
    return np.minimum(box, np.where(box < period * integer(rng, 1, 6), ring, sign(rng) * 9.0))


def _wiring(rng: Rng, canvas: Canvas) -> Field:
    """Draw one to four parallel wires that turn by 90° or 45° together, with a pad at the end."""
    x, y = _place(rng)
    width = log_uniform(rng, 2, 9)
    pitch, count = width * uniform(rng, 1.6, 3), integer(rng, 1, 4)
    heading = integer(rng, 0, 7) * np.pi / 4
    corners = [(x, y)]
    for _ in range(integer(rng, 2, 5)):
        length = log_uniform(rng, 15, 70)
        x, y = x + float(np.cos(heading)) * length, y + float(np.sin(heading)) * length
        corners.append((x, y))
        heading += sign(rng) * np.pi / one_of(rng, (2, 2, 4))
    sdf = canvas.full(FAR)
    for wire in range(count):
        points = _beside(corners, wire * pitch)
        sdf = np.maximum(sdf, polyline_sdf(canvas, points, [width] * (len(points) - 1)))
    if chance(rng, 0.6):
        side = width * uniform(rng, 1, 4)
        sdf = np.maximum(sdf, box_sdf(canvas.x, canvas.y, *corners[0], side, side * log_uniform(rng, 0.5, 2), 1.0))
    return sdf


def _beside(corners: list[tuple[float, float]], distance: float) -> list[tuple[float, float]]:
    """Return a path parallel to ``corners``, which turns by less than 180°, at a ``distance`` in units."""
    path = np.array(corners)
    along = np.diff(path, axis=0)
    normals = np.stack([along[:, 1], -along[:, 0]], axis=1) / np.hypot(along[:, 0], along[:, 1])[:, None]
    before, after = np.concatenate([normals[:1], normals]), np.concatenate([normals, normals[-1:]])
    mitre = (before + after) / (1.0 + (before * after).sum(axis=1, keepdims=True))
    return [(float(x), float(y)) for x, y in path + distance * mitre]


def _comb(rng: Rng, canvas: Canvas) -> Field:
    """Draw a comb, or two that mesh: fingers between two bars."""
    cx, cy = _place(rng)
    hx, hy, period = uniform(rng, 18, 60), uniform(rng, 14, 50), log_uniform(rng, 5, 20)
    u, v = canvas.x - cx, canvas.y - cy
    finger = np.floor(u * (1 / period))
    stripe = uniform(rng, 0.15, 0.35) * period - np.abs(u - (finger + 0.5) * period)
    free = uniform(rng, 2, 8)
    odd = np.mod(finger, 2) > 0
    meshed = np.where(odd, hy - free - v, v + hy - free) if chance(rng, 0.7) else v + hy - free
    inside = np.minimum(np.minimum(stripe, meshed), np.minimum(hy - np.abs(v), hx - np.abs(u)))
    bars = np.minimum(uniform(rng, 2, 6) - np.abs(np.abs(v) - hy), hx - np.abs(u))
    return np.maximum(inside, bars)


def _disc(rng: Rng, canvas: Canvas) -> Field:
    """Draw a disc or a ring."""
    cx, cy = _place(rng)
    radius = log_uniform(rng, 8, 45)
    disc = sample_blob(rng, cx, cy, radius, radius * log_uniform(rng, 0.7, 1.4), 0.01).sdf(canvas)
    return np.minimum(disc, uniform(rng, 2, 8) - disc) if chance(rng, 0.4) else disc


def _matrix(rng: Rng, canvas: Canvas) -> Field:
    """Draw a rectangle full of cells or of lines."""
    cx, cy = _place(rng)
    box = box_sdf(canvas.x, canvas.y, cx, cy, uniform(rng, 15, 60), uniform(rng, 15, 60))
    return np.minimum(box, _filled(rng, canvas))


def _filled(rng: Rng, canvas: Canvas) -> Field:
    if chance(rng, 0.5):
        return sample_array(rng, canvas, uniform(rng, 5, 20))[0]
    lines = sample_lines(rng, canvas, log_uniform(rng, 4, 16)).sdf
    return lines if chance(rng, 0.5) else np.ascontiguousarray(lines.T)


PARTS: dict[Part, float] = {_frames: 2, _wiring: 4, _comb: 1.5, _disc: 1, _matrix: 2}


def _level(rng: Rng, canvas: Canvas, least: int, most: int) -> Field:
    """Draw ``least`` to ``most`` parts on one level; up to four times, until they fill 5–90 % of the frame."""
    for _ in range(4):
        sdf = canvas.full(-50.0)
        for _ in range(integer(rng, least, most)):
            sdf = np.maximum(sdf, pick(rng, PARTS)(rng, canvas))
        if 0.05 < float((sdf > 0).mean()) < 0.9:
            break
    return -sdf if chance(rng, 0.15) else sdf


def _whole(rng: Rng, canvas: Canvas, signal: Field, kind: str, params: dict[str, Any]) -> Scene:
    signal = sample_orientation(rng, 0.5, 0.1).apply(signal.astype(np.float32))
    if chance(rng, 0.25):
        signal = slanted(rng, signal)
    return Scene(signal, None, canvas.full(1.0), kind, 12.0, structural=True, params={"layout": kind} | params)


@family("other", "device", weight=7, paired=False)
def device(rng: Rng, canvas: Canvas) -> Scene:
    """Draw one to three levels of pads, wires, combs, frames and needles."""
    surface = sample_surface(rng, canvas, 14.0, MODES, top_texture=0.3)
    signal, above = surface.render(_level(rng, canvas, 2, 4)), integer(rng, 0, 2)
    for _ in range(above):
        sdf = _level(rng, canvas, 1, 3)
        top = uniform(rng, 0.1, 0.9) + uniform(rng, 0, 0.5) * (signal - 0.4)  # what lies below shows through
        signal = paint(signal, coverage(sdf), top)
        signal = signal + uniform(rng, 0.05, 0.4) * np.exp(np.abs(sdf) * (-1 / log_uniform(rng, 0.5, 2)))
    return _whole(rng, canvas, signal, "device", {"levels": 1 + above} | surface.params)


def _cuts(rng: Rng, count: int) -> Field:
    """Draw ``count`` places in the frame, in units, at least a seventh of it apart."""
    room = FRAME / (count + 1)
    return np.asarray((np.arange(count) + 1 + recorded(rng, rng.uniform(-0.2, 0.2, count))) * room, np.float32)


@family("other", "blocks", weight=5, paired=False)
def blocks(rng: Rng, canvas: Canvas) -> Scene:
    """Draw a chip divided into blocks, each full of cells, lines or nothing."""
    edges_x, edges_y = _cuts(rng, integer(rng, 1, 3)), _cuts(rng, integer(rng, 0, 3))
    column = np.searchsorted(edges_x, canvas.axis)[None, :]
    row = np.searchsorted(edges_y, canvas.axis)[:, None]
    block = row * (len(edges_x) + 1) + column
    street = uniform(rng, 0.5, 5)
    border = canvas.full(-FAR)
    for edge in edges_x.tolist():
        border = np.minimum(border, np.abs(canvas.x - edge) - street)
    for edge in edges_y.tolist():
        border = np.minimum(border, np.abs(canvas.y - edge) - street)
    sdf = canvas.full(FAR)
    for number in range(int(block.max()) + 1):
        kind = pick(rng, {"filled": 6, "plate": 1, "bare": 1.5}) if number > 1 else "filled"
        cells = _filled(rng, canvas) if kind == "filled" else canvas.full(20.0 if kind == "plate" else FAR)
        sdf = np.where(block == number, np.minimum(cells, border), sdf)
    surface = sample_surface(rng, canvas, 10.0, MODES, top_texture=0.3)
    params = {"blocks": int(block.max()) + 1, "street": round(street, 2)} | surface.params
    return _whole(rng, canvas, surface.render(sdf.astype(np.float32)), "blocks", params)
