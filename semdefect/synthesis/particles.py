"""Foreign particles: a dome of rough height with its own grey, relief and soft shadow."""

import math

import numpy as np
from scipy.ndimage import gaussian_filter

from .canvas import FAR, Canvas, Field
from .fields import coverage, fractal, polyline_sdf, random_angle, random_walk, sample_blob
from .painting import paint
from .sampling import Rng, chance, integer, log_uniform, normal, pick, uniform
from .shading import slopes

PARTICLES = {
    "rock": 3,
    "smooth": 2,
    "flake": 1.5,
    "small": 2.5,
    "dark": 0.8,
    "aggregate": 2.5,
    "rod": 1,
    "fibre": 0.7,
    "moated": 2,
    "buried": 1,
    "shard": 1,
    "smudge": 0.8,
}
_ROUGHNESS = {
    "rock": 0.22,
    "smooth": 0.05,
    "flake": 0.3,
    "small": 0.15,
    "dark": 0.2,
    "moated": 0.15,
    "buried": 0.15,
    "smudge": 0.2,
}
_BUMPY = ("rock", "aggregate", "small", "dark", "buried")


def add_particle(rng: Rng, canvas: Canvas, signal: Field) -> tuple[Field, Field, str]:
    """Lay a particle of radius LU(2, 22) units on a signal; return signal, coverage and kind.

    ``moated`` ones lie in a dark pit of their own, ``buried`` ones under the film, whose pattern stays visible, and a
    ``smudge`` is out of focus or a residue without an edge.
    """
    kind = pick(rng, PARTICLES)
    if kind == "smudge":
        return *_smudge(rng, canvas, signal), kind
    size = log_uniform(rng, 2, 5) if kind in ("small", "moated") else log_uniform(rng, 4.5, 22)
    sdf = _particle_sdf(rng, canvas, kind, size)
    cover = coverage(sdf, 1.2)
    height = np.sqrt(np.maximum(sdf, 0.0) * (2 * size)) * (0.3 if kind in ("flake", "shard") else 1.2)
    if kind in _BUMPY:
        height += cover * uniform(rng, 0.5, 2.0) * fractal(rng, canvas, max(size * 0.6, 3.0), 3, 0.7)
    slope, steepness = slopes(height, canvas, random_angle(rng))
    base = uniform(rng, 0.05, 0.25) if kind == "dark" else uniform(rng, 0.4, 0.95)
    grey = base + uniform(rng, 0.1, 0.35) * slope + uniform(rng, 0.05, 0.25) * np.minimum(steepness, 2.0)
    grey += uniform(rng, 0, 0.3) * np.exp(np.maximum(sdf, 0.0) * (-1 / 1.5))
    if kind == "moated":
        cover = coverage(sdf + size * uniform(rng, 0.6, 1.6), 1.5)
        signal = paint(signal, cover, uniform(rng, 0.0, 0.15))
        return paint(signal, coverage(sdf, 1.2), grey), cover, kind
    if kind == "buried":
        seen = uniform(rng, 0.35, 0.8)  # share of the pattern's contrast that is left
        return signal + cover * ((1.0 - seen) * (base - signal) + (grey - base)), cover, kind
    if chance(rng, 0.7):
        shadow = gaussian_filter(coverage(sdf + uniform(rng, 1, 4), 1.5), uniform(rng, 1, 3) * canvas.scale)
        if chance(rng, 0.5):  # light from one side
            shadow = _moved(shadow, random_angle(rng), uniform(rng, 0.2, 0.6) * size * canvas.scale)
        signal = signal * (1.0 - uniform(rng, 0.2, 0.6) * shadow)
    return paint(signal, cover, grey), cover, kind


def _smudge(rng: Rng, canvas: Canvas, signal: Field) -> tuple[Field, Field]:
    """Lay a spot with a soft edge on a signal, brighter or darker than it; return signal and coverage."""
    size = log_uniform(rng, 3, 14)
    spot = coverage(_particle_sdf(rng, canvas, "smudge", size))
    soft = gaussian_filter(spot, size * uniform(rng, 0.3, 0.7) * canvas.scale, truncate=2.5)
    grey = uniform(rng, 0.75, 1.1) if chance(rng, 0.6) else uniform(rng, 0.0, 0.2)
    return signal + uniform(rng, 0.4, 0.95) * soft * (grey - signal), soft


def _moved(field: Field, angle: float, distance: float) -> Field:
    """Return a field moved by whole pixels; what comes in from outside is 0."""
    dx, dy = round(np.cos(angle) * distance), round(np.sin(angle) * distance)
    size = len(field)
    out = np.zeros_like(field)
    out[max(dy, 0) : size + min(dy, 0), max(dx, 0) : size + min(dx, 0)] = field[
        max(-dy, 0) : size + min(-dy, 0), max(-dx, 0) : size + min(-dx, 0)
    ]
    return out


def _particle_sdf(rng: Rng, canvas: Canvas, kind: str, size: float) -> Field:
    cx, cy = uniform(rng, 14, 114), uniform(rng, 14, 114)
    rx, ry, angle = size, size * log_uniform(rng, 0.5, 1.7), uniform(rng, 0, 3.14)
    if kind == "fibre":
        steps = integer(rng, 6, 16)
        points = random_walk(rng, cx, cy, angle, steps, max(size * 0.35, 2.0), uniform(rng, 0.1, 0.6))
        return polyline_sdf(canvas, points, np.linspace(size * 0.4, size * 0.2 + 0.8, steps).tolist())
    if kind == "rod":
        return sample_blob(rng, cx, cy, rx, rx * uniform(rng, 0.2, 0.5), 0.06, angle, uniform(rng, 3, 8)).sdf(canvas)
    if kind == "shard":
        return _shard_sdf(rng, canvas, cx, cy, size)
    if kind != "aggregate":
        power = uniform(rng, 1, 1.6) if kind == "flake" else uniform(rng, 1.6, 3)
        return sample_blob(rng, cx, cy, rx, ry, _ROUGHNESS[kind], angle, power).sdf(canvas)
    sdf = canvas.full(FAR)
    for _ in range(integer(rng, 4, 14)):
        x, y = cx + normal(rng) * rx * 0.6, cy + normal(rng) * ry * 0.6
        grain = sample_blob(rng, x, y, size * uniform(rng, 0.15, 0.45), size * uniform(rng, 0.15, 0.45), 0.2)
        sdf = np.maximum(sdf, grain.sdf(canvas))
    return sdf


def _shard_sdf(rng: Rng, canvas: Canvas, cx: float, cy: float, size: float) -> Field:
    """Return the SDF of a splinter: four to seven straight edges around (cx, cy)."""
    edges = integer(rng, 4, 7)
    sdf = canvas.full(-FAR)
    turn, stretch = random_angle(rng), log_uniform(rng, 0.5, 2.0)
    for edge in range(edges):
        angle = turn + (edge + uniform(rng, -0.35, 0.35)) * 2 * math.pi / edges
        reach = size * uniform(rng, 0.6, 1.2) * (stretch if edge % 2 else 1.0)
        sdf = np.minimum(sdf, reach - math.cos(angle) * (canvas.x - cx) - math.sin(angle) * (canvas.y - cy))
    return np.asarray(sdf, np.float32)
