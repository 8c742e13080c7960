"""Other, in cross-section: rows of devices and films that follow a shape, with no column or solder to fail."""

import numpy as np

from ..canvas import FAR, FRAME, Canvas, Field
from ..fields import coverage, sample_blob, smooth_min, texture
from ..painting import interface, outline, paint, strata
from ..registry import family
from ..sampling import Rng, chance, integer, log_uniform, pick, uniform
from ..scene import Scene


def _row(rng: Rng, canvas: Canvas, y: float, height: float) -> tuple[Field, Field]:
    """Draw a row of boxes, trapezoids, domes or wedges that stand on or hang from ``y``; SDF and number of each."""
    period = log_uniform(rng, 10, 60)
    across = canvas.x - uniform(rng, 0, period)
    number = np.floor(across * (1 / period))
    u = across - (number + 0.5) * period
    up = (y - canvas.y) if chance(rng, 0.6) else (canvas.y - y)
    share = np.clip(up * (1 / height), 0.0, 1.0)
    half = period * uniform(rng, 0.15, 0.45)
    kind = pick(rng, {"box": 3, "trapezoid": 3, "dome": 2, "wedge": 1.5})
    if kind == "trapezoid":
        half = half * (1.0 - uniform(rng, -0.4, 0.6) * share)
    elif kind == "dome":
        half = half * np.sqrt(np.maximum(1.0 - share * share, 0.0))
    elif kind == "wedge":
        half = half * (1.0 - share) + 0.5
    ends = np.minimum(up + 1.0, height - up)
    sdf = (
        smooth_min(half - np.abs(u), ends, uniform(rng, 0.5, 4))
        if kind != "dome"
        else np.minimum(half - np.abs(u), ends)
    )
    return sdf.astype(np.float32), number


def _scene(canvas: Canvas, signal: Field, kind: str) -> Scene:
    return Scene(signal, None, canvas.full(1.0), kind, 10.0, structural=True, params={"layout": "section"})


@family("other", "rows", weight=5, paired=False)
def rows(rng: Rng, canvas: Canvas) -> Scene:
    """Draw layers with one to three rows of structures, each row of its own period and shape."""
    signal = strata(rng, canvas, 4)
    for _ in range(integer(rng, 1, 3)):
        sdf, number = _row(rng, canvas, uniform(rng, 0.15, 0.95) * FRAME, log_uniform(rng, 8, 60))
        grey = canvas.full(uniform(rng, 0.05, 0.95))
        if chance(rng, 0.3):
            grey = np.where(np.mod(number, 2) > 0, uniform(rng, 0.05, 0.95), grey)
        if chance(rng, 0.4):
            grey = grey + uniform(rng, 0.02, 0.1) * texture(rng, canvas, log_uniform(rng, 1.5, 10))
        shell = uniform(rng, 1.5, 7) if chance(rng, 0.4) else 0.0  # a film that covers every structure
        if shell:
            signal = paint(signal, coverage(sdf + shell), uniform(rng, 0.1, 1.0))
        signal = outline(paint(signal, coverage(sdf), grey), sdf, uniform(rng, 0, 0.3), log_uniform(rng, 0.6, 2))
    if chance(rng, 0.4):
        face = uniform(rng, 0.6, 0.95) * FRAME + interface(rng, canvas, uniform(rng, 0, 4), 10)
        foot = uniform(rng, 0.05, 0.9) + uniform(rng, 0, 0.15) * texture(rng, canvas, log_uniform(rng, 1.5, 12))
        signal = paint(signal, coverage(canvas.y - face[None, :]), foot)
    return _scene(canvas, signal.astype(np.float32), "rows")


@family("other", "conformal", weight=5, paired=False)
def conformal(rng: Rng, canvas: Canvas) -> Scene:
    """Draw films that follow the shape of a bump, gate or trench below them."""
    body = canvas.full(FAR)
    for _ in range(integer(rng, 1, 3)):
        cx, cy = uniform(rng, 0.1, 0.9) * FRAME, uniform(rng, 0.5, 1.05) * FRAME
        blob = sample_blob(
            rng, cx, cy, log_uniform(rng, 10, 45), log_uniform(rng, 10, 50), 0.03, power=uniform(rng, 2, 7)
        )
        body = np.maximum(body, blob.sdf(canvas, 160))
    ground = uniform(rng, 0.6, 0.95) * FRAME
    body = np.maximum(body, canvas.y - ground) if chance(rng, 0.7) else body
    if chance(rng, 0.25):
        body = body[::-1].copy()
    signal = canvas.full(uniform(rng, 0.0, 0.5))
    thickness = np.cumsum([log_uniform(rng, 1.5, 18) for _ in range(integer(rng, 2, 5))])[::-1]
    for distance in [*thickness.tolist(), 0.0]:
        signal = paint(signal, coverage(body + distance), uniform(rng, 0.05, 0.95))
        if chance(rng, 0.3):
            signal = outline(signal, body + distance, uniform(rng, 0.05, 0.3), 1.0)
    return _scene(canvas, signal.astype(np.float32), "conformal")
