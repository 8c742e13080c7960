"""Crack: broken or hollow solder in cross-section. Each image has a main defect and sometimes a second."""

import math
from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter

from ..canvas import FRAME, Canvas, Field
from ..fields import (
    Track,
    coverage,
    polyline_sdf,
    random_angle,
    random_walk,
    rough_edges,
    sample_blob,
    texture,
)
from ..painting import paint
from ..registry import family
from ..sampling import Rng, chance, integer, log_uniform, pick, recorded, uniform
from ..scene import Scene
from ..solder import Solder, porous_pattern, sample_solder

Defect = Callable[[Rng, Canvas, Solder], Field]
_KNOTS = 26


def _crack_track(rng: Rng, x0: float, y0: float, angle: float, length: float, widening: float = 1.0) -> Track:
    """Draw a crack along an axis: correlated wander, zig-zag in 30 %, width LU(.8, 7) varying ×.4–1.6."""
    wander = rough_edges(rng, (_KNOTS,), log_uniform(rng, 0.6, 6), 4, 0.6)
    wander -= wander[0]
    if chance(rng, 0.3):
        wander += np.where(recorded(rng, rng.random(_KNOTS)) > 0.5, 1, -1) * uniform(rng, 0.3, 2.5)
    width = widening * log_uniform(rng, 0.8, 7) * recorded(rng, rng.uniform(0.4, 1.6, _KNOTS))
    width *= 1.0 - 0.8 * np.abs(np.linspace(-1, 1, _KNOTS)) ** 4
    fine, knots = np.linspace(0, 1, 256), np.linspace(0, 1, _KNOTS)
    ragged = rough_edges(rng, (256,), uniform(rng, 0.1, 0.6), 3, 0.4)
    centre = (np.interp(fine, knots, wander) + ragged).astype(np.float32)
    return Track(x0, y0, angle, length, centre, np.interp(fine, knots, width).astype(np.float32))


def _with_branches(rng: Rng, canvas: Canvas, track: Track, most: int = 2) -> Field:
    """Return the coverage (S, S) of a crack with up to ``most`` branches."""
    sdf = track.sdf(canvas)
    widest = float(track.width.max())
    for _ in range(integer(rng, 0, most)):
        x, y = track.point(uniform(rng, 0.15, 0.85))
        steps = integer(rng, 3, 9)
        points = random_walk(rng, x, y, random_angle(rng), steps, 3.5, 0.5)
        widths = np.linspace(max(widest * 0.45, 0.8), 0.6, steps).tolist()
        sdf = np.maximum(sdf, polyline_sdf(canvas, points, widths))
    return coverage(sdf)


def _interface(rng: Rng, canvas: Canvas, solder: Solder) -> Field:
    """Return a crack of at least 50 units along the seam."""
    length = uniform(rng, 50, 120)
    x0 = uniform(rng, -10, max(FRAME - length + 10, -5))
    column = min(max(int((x0 + length / 2) * canvas.scale), 0), canvas.size - 1)
    y = min(max(float(solder.seam[column]) + uniform(rng, -5, 5), 12.0), 116.0)
    crack = _crack_track(rng, x0, y, uniform(rng, -0.12, 0.12), length)
    return _with_branches(rng, canvas, crack, 1) * coverage(solder.body + 6)


def _body_crack(rng: Rng, canvas: Canvas, solder: Solder) -> Field:
    """Return a crack through the body in any direction."""
    length, angle = log_uniform(rng, 35, 130), random_angle(rng)
    x = FRAME / 2 + uniform(rng, -25, 25) - math.cos(angle) * length / 2
    y = FRAME / 2 + uniform(rng, -25, 25) - math.sin(angle) * length / 2
    # A frame-filling plate is seen closer, and so is its crack.
    widening = uniform(rng, 1.0, 2.5) if solder.kind == "plate" else 1.0
    crack = _crack_track(rng, x, y, angle, length, widening)
    return _with_branches(rng, canvas, crack) * coverage(solder.body + 3)


def _voids(rng: Rng, canvas: Canvas, solder: Solder) -> Field:
    """Return one to four voids, mostly round."""
    cover = canvas.full()
    smooth = chance(rng, 0.4)
    for _ in range(integer(rng, 1, 4) if chance(rng, 0.4) else 1):
        size = log_uniform(rng, 2.2, 11)
        roughness = 0.04 if smooth else 0.25
        void = sample_blob(
            rng,
            uniform(rng, 0.25, 0.75) * FRAME,
            uniform(rng, 0.2, 0.8) * FRAME,
            size,
            size * log_uniform(rng, 0.5, 1.3),
            roughness,
            uniform(rng, 0, 3),
        )
        cover = np.maximum(cover, coverage(void.sdf(canvas)))
    return cover * coverage(solder.body - 0.5)


def _porous_band(rng: Rng, canvas: Canvas, solder: Solder) -> Field:
    """Return a band of pores along the seam, often arched."""
    arch = uniform(rng, 0, 12) * np.cos((canvas.axis - FRAME / 2) * 0.05)
    middle = np.clip(solder.seam, 16, 112) + uniform(rng, -4, 4) - arch
    pores = porous_pattern(rng, canvas, middle.astype(np.float32), log_uniform(rng, 2.5, 9))
    return pores * coverage(FRAME * uniform(rng, 0.25, 0.5) - np.abs(canvas.x - FRAME / 2), 6.0)


def _micro_cracks(rng: Rng, canvas: Canvas, solder: Solder) -> Field:
    """Return a few short hairline cracks, or small pits opening at random."""
    inside = coverage(solder.body - 1)
    if chance(rng, 0.4):
        return np.clip((texture(rng, canvas, uniform(rng, 3, 6)) - uniform(rng, 1.6, 2.2)) * 3, 0, 1) * inside
    sdf = canvas.full(-99.0)
    for _ in range(integer(rng, 2, 8)):
        x, y = uniform(rng, 0.2, 0.8) * FRAME, uniform(rng, 0.2, 0.8) * FRAME
        steps = integer(rng, 3, 8)
        points = random_walk(rng, x, y, random_angle(rng), steps, uniform(rng, 2, 4), 0.5)
        sdf = np.maximum(sdf, polyline_sdf(canvas, points, [uniform(rng, 0.8, 1.8)] * steps))
    return coverage(sdf) * inside


_DEFECTS: dict[Defect, float] = {
    _interface: 30,
    _body_crack: 25,
    _voids: 20,
    _porous_band: 15,
    _micro_cracks: 10,
}


def _cracked(rng: Rng, canvas: Canvas, main: Defect, kind: str) -> Scene:
    """Paint the main defect, and in 30 % a second one, dark (rarely bright) on a solder section."""
    solder = sample_solder(rng, canvas)
    mask = main(rng, canvas, solder)
    if chance(rng, 0.3):
        mask = np.maximum(mask, pick(rng, _DEFECTS)(rng, canvas, solder))
    grey = 1.0 if chance(rng, 0.07) else uniform(rng, 0, 0.2)
    signal = paint(solder.image, mask, grey)
    if chance(rng, 0.25):
        rim = np.clip(gaussian_filter(mask, canvas.scale) - mask, 0, 1)
        signal = signal + uniform(rng, 0.1, 0.4) * rim
    params = {"layout": "solder", "body": solder.kind}
    twin = solder.image
    if chance(rng, 0.04):
        signal, twin, mask = (np.rot90(part).copy() for part in (signal, twin, mask))
    if chance(rng, 0.25):
        signal, twin, mask = (part[::-1].copy() for part in (signal, twin, mask))
    return Scene(signal, twin, mask, kind, 40.0, painted=True, params=params)


@family("crack", "interface", weight=30)
def interface_crack(rng: Rng, canvas: Canvas) -> Scene:
    """Draw a crack along the edge of a pad or layer."""
    return _cracked(rng, canvas, _interface, "interface")


@family("crack", "body", weight=25)
def body_crack(rng: Rng, canvas: Canvas) -> Scene:
    """Draw a crack through the body."""
    return _cracked(rng, canvas, _body_crack, "body")


@family("crack", "void", weight=20)
def voids(rng: Rng, canvas: Canvas) -> Scene:
    """Draw voids in the body."""
    return _cracked(rng, canvas, _voids, "void")


@family("crack", "porous_band", weight=15)
def porous_band(rng: Rng, canvas: Canvas) -> Scene:
    """Draw a porous band along the seam."""
    return _cracked(rng, canvas, _porous_band, "porous_band")


@family("crack", "micro_cracks", weight=10)
def micro_cracks(rng: Rng, canvas: Canvas) -> Scene:
    """Draw hairline cracks and small pits."""
    return _cracked(rng, canvas, _micro_cracks, "micro_cracks")
