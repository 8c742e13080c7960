"""Other, in cross-section: rows of devices and films that follow a shape, with no column or solder to fail."""

import numpy as np

from ..canvas import FAR, FRAME, Canvas, Field
from ..fields import box_sdf, coverage, smooth_max, smooth_min, texture
from ..painting import interface, outline, paint, strata
from ..registry import family
from ..sampling import Rng, chance, integer, log_uniform, pick, uniform
from ..scene import Scene


def _row(rng: Rng, canvas: Canvas, top: float, height: float) -> tuple[Field, Field]:
    """Draw a row of boxes, trapezoids, domes or wedges, upright or hanging; their SDF and the number of each."""
    period = log_uniform(rng, 10, 60)
    across = canvas.x - uniform(rng, 0, period)
    number = np.floor(across * (1 / period))
    u = across - (number + 0.5) * period
    up = (top + height - canvas.y) if chance(rng, 0.6) else (canvas.y - top)
    share = np.clip(up * (1 / height), 0.0, 1.0)
    half = period * uniform(rng, 0.15, 0.45)
    kind = pick(rng, {"box": 3, "trapezoid": 3, "dome": 2, "wedge": 1.5})
    ends = np.minimum(up + 1.0, height - up)
    if kind == "trapezoid":
        half = half * (1.0 - uniform(rng, -0.4, 0.6) * share)
    elif kind == "dome":
        half = half * np.sqrt(np.maximum(1.0 - share * share, 0.0))
    elif kind == "wedge":
        half = half * (1.0 - share) + 0.5
    side = half - np.abs(u)
    sdf = np.minimum(side, ends) if kind == "dome" else smooth_min(side, ends, uniform(rng, 0.5, 4))
    return sdf.astype(np.float32), number


def _section(canvas: Canvas, signal: Field, kind: str, count: int) -> Scene:
    params = {"layout": "section", kind: count}
    signal = signal.astype(np.float32)
    return Scene(signal, None, canvas.full(1.0), kind, 20.0, structural=True, params=params)


@family("other", "rows", weight=5, paired=False)
def rows(rng: Rng, canvas: Canvas) -> Scene:
    """Draw layers with one to three rows of structures, one below the other, each of its own period and shape."""
    signal, count = strata(rng, canvas, 4), integer(rng, 1, 3)
    if chance(rng, 0.4):
        face = uniform(rng, 0.6, 0.95) * FRAME + interface(rng, canvas, uniform(rng, 0, 4), 10)
        foot = uniform(rng, 0.05, 0.9) + uniform(rng, 0, 0.15) * texture(rng, canvas, log_uniform(rng, 1.5, 12))
        signal = paint(signal, coverage(canvas.y - face[None, :]), foot)
    room = FRAME / count
    for row in range(count):
        height = min(log_uniform(rng, 8, 60), 0.9 * room)
        sdf, number = _row(rng, canvas, row * room + uniform(rng, 0, room - height), height)
        grey = canvas.full(uniform(rng, 0.05, 0.95))
        if chance(rng, 0.3):
            grey = np.where(np.mod(number, 2) > 0, uniform(rng, 0.05, 0.95), grey)
        if chance(rng, 0.4):
            grey = grey + uniform(rng, 0.02, 0.1) * texture(rng, canvas, log_uniform(rng, 1.5, 10))
        if chance(rng, 0.4):  # a film that covers every structure
            signal = paint(signal, coverage(sdf + uniform(rng, 1.5, 7)), uniform(rng, 0.1, 1.0))
        signal = outline(paint(signal, coverage(sdf), grey), sdf, uniform(rng, 0, 0.3), log_uniform(rng, 0.6, 2))
    return _section(canvas, signal, "rows", count)


@family("other", "conformal", weight=5, paired=False)
def conformal(rng: Rng, canvas: Canvas) -> Scene:
    """Draw films that follow the shape of the bumps, gates or trenches below them."""
    ground, body = uniform(rng, 0.6, 0.95) * FRAME, canvas.full(FAR)
    for _ in range(integer(rng, 1, 3)):
        half, top = log_uniform(rng, 6, 35), ground - log_uniform(rng, 10, 70)
        radius, depth = half * uniform(rng, 0.1, 1.0), FRAME - top + 20  # so deep that no film closes below it
        box = box_sdf(canvas.x, canvas.y, uniform(rng, 0.1, 0.9) * FRAME, top + depth, half, depth, radius)
        body = np.maximum(body, box)
    body = smooth_max(body, canvas.y - ground, uniform(rng, 0.5, 8))
    if chance(rng, 0.25):
        body = body[::-1].copy()
    signal, films = canvas.full(uniform(rng, 0.0, 0.5)), integer(rng, 2, 5)
    thickness = np.cumsum([log_uniform(rng, 1.5, 18) for _ in range(films)])[::-1]
    for distance in [*thickness.tolist(), 0.0]:
        signal = paint(signal, coverage(body + distance), uniform(rng, 0.05, 0.95))
        if chance(rng, 0.3):
            signal = outline(signal, body + distance, uniform(rng, 0.05, 0.3), 1.0)
    return _section(canvas, signal, "films", films)
