"""Polishing damage: scratches, chatter marks and gouges, drawn as height maps lit from one side."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from ..canvas import FRAME, Canvas, Field
from ..fields import Track, coverage, fractal, random_angle, rough_edges, sample_blob
from ..registry import family
from ..sampling import Rng, chance, integer, log_uniform, normal, recorded, sign, uniform
from ..scene import Scene
from ..shading import slopes
from ..topdown import maybe, sample_background, sample_orientation, turned

KINDS = {"lines": 40, "film": 25, "array": 18, "shapes": 17}
MODES = {"binary": 2.5, "edges": 2, "mixed": 2.5, "gauss": 0.7, "emboss": 4, "trench": 0.5}


@dataclass(frozen=True)
class Damage:
    """Height change (S, S) in units, its coverage (S, S) and a direct change of grey (S, S)."""

    height: Field
    mask: Field
    grey: Field

    def within(self, cover: Field) -> "Damage":
        """Return the part of the damage that is on raised features: polishing leaves the lower ones alone."""
        return Damage(self.height * cover, self.mask * cover, self.grey * cover)


def _damaged(rng: Rng, canvas: Canvas, damage: Damage, kind: str, relief: float = 1.0) -> Scene:
    """Add damage to a low-contrast background: I += k·∂_θ(G*h) + k₂·min(|∇h|, 1.5) + k₃·min(h, 0)."""
    background = sample_background(rng, canvas, KINDS, MODES)
    orientation = sample_orientation(rng, 0.6, 0.3)
    plain = background.signal
    if background.kind != "lines":
        plain = 0.45 + (plain - 0.45) * uniform(rng, 0.4, 1.0)
    if background.kind != "film" and chance(rng, 0.2):
        damage = damage.within(orientation.apply(coverage(background.sdf)))
    scene = turned(Scene(plain, None, damage.mask, kind, background.pitch), orientation)
    # The polishing direction has nothing to do with the pattern's, so damage is added after turning.
    slope, steepness = slopes(damage.height, canvas, random_angle(rng), uniform(rng, 0.4, 0.9))
    signal = scene.signal + uniform(rng, 0.35, 0.9) * relief * slope
    signal += uniform(rng, 0, 0.12) * np.minimum(steepness, 1.5)
    signal += uniform(rng, 0, 0.1) * np.minimum(damage.height, 0.0) + damage.grey
    params = background.params | scene.params
    return Scene(
        signal, scene.signal, damage.mask, kind, background.pitch, clutter=background.surface.clutter, params=params
    )


def _arc(canvas: Canvas, rng: Rng, cx: float, cy: float, angle: float, half: float, bow: float, width: float) -> Field:
    """Return the coverage of one bowed groove of half-length ``half``, thinner towards its ends."""
    reach = half * (1.0 + abs(bow)) + width + 2
    window = canvas.window(cx, cy, reach, reach)
    out = canvas.full()
    c, s = math.cos(angle), math.sin(angle)
    along, across = c * (window.x - cx) + s * (window.y - cy), c * (window.y - cy) - s * (window.x - cx)
    t = across * (1.0 / half)
    wobble = uniform(rng, 0, 0.8) * np.sin(across * uniform(rng, 0.15, 0.6) + uniform(rng, 0, 6.3))
    middle = bow * 0.6 * half * (1.0 - t * t) + wobble
    cosine = 1.0 / np.sqrt(1.0 + (1.2 * bow * t) ** 2)
    side = width / 2 * (1.0 - 0.8 * t * t) - np.abs(along - middle) * cosine
    out[window.index] = coverage(np.minimum(side, half - np.abs(across)))
    return out


@family("cmp", "chatter", weight=24)
def chatter(rng: Rng, canvas: Canvas) -> Scene:
    """Draw a row of 3–12 bowed chatter marks."""
    count, step = integer(rng, 3, 12), log_uniform(rng, 5, 16)
    half, width = log_uniform(rng, 10, 40), log_uniform(rng, 1.2, 4.5)
    angle, bow = random_angle(rng), uniform(rng, 0.3, 1.3) * sign(rng)
    cx, cy = FRAME / 2 + uniform(rng, -25, 25), FRAME / 2 + uniform(rng, -25, 25)
    height, mask = canvas.full(), canvas.full()
    drift = uniform(rng, -0.5, 0.5)
    for i in range(count):
        t = (i - (count - 1) / 2) * step * uniform(rng, 0.9, 1.1)
        x = cx + math.cos(angle) * t - math.sin(angle) * drift * t
        y = cy + math.sin(angle) * t + math.cos(angle) * drift * t
        groove = _arc(
            canvas,
            rng,
            x,
            y,
            angle + uniform(rng, -0.15, 0.15),
            half * uniform(rng, 0.5, 1.2),
            bow,
            width * uniform(rng, 0.5, 1.3),
        )
        depth = uniform(rng, 0.4, 1.3)
        height -= depth * groove
        mask = np.maximum(mask, groove)
    if chance(rng, 0.5):
        height += gaussian_filter(mask, 2.0 * canvas.scale) * uniform(rng, 0.1, 0.6)
    return _damaged(rng, canvas, Damage(height * uniform(rng, 1, 2), mask, canvas.full()), "chatter")


def _track(rng: Rng, length: float, width: float, jitter: float, beaded: bool) -> Track:
    """Draw a slightly curved, tapering track through the middle of the frame; beaded ones are interrupted."""
    knots = np.linspace(-0.5, 0.5, 256, dtype=np.float32)
    bend = uniform(rng, -0.25, 0.25) * length * 2 * knots * knots
    centre = bend + rough_edges(rng, (256,), jitter, 3 / 24, 0.5, 1 / 256)
    profile = np.full(256, width, np.float32)
    if chance(rng, 0.5):
        profile *= 1.0 - np.abs(2 * knots) ** 3
    beads = recorded(rng, rng.uniform(0.6, 1.4, 24)).astype(np.float32)
    if beaded:
        beads *= recorded(rng, rng.random(24)) < uniform(rng, 0.35, 0.7)
        profile *= np.repeat(beads, 11)[:256]
        profile[profile < 0.3] = -4.0
    else:
        profile *= np.interp(np.arange(256), np.linspace(0, 255, 24), beads).astype(np.float32)
    angle = random_angle(rng)
    cx, cy = FRAME / 2 + uniform(rng, -25, 25), FRAME / 2 + uniform(rng, -25, 25)
    x0, y0 = cx - math.cos(angle) * length / 2, cy - math.sin(angle) * length / 2
    return Track(x0, y0, angle, length, centre.astype(np.float32), profile)


@family("cmp", "scratch", weight=31)
def scratch(rng: Rng, canvas: Canvas) -> Scene:
    """Draw a long scratch, continuous (65 %) or beaded, with raised rims; sometimes a parallel second one."""
    beaded = not chance(rng, 0.65)
    width = log_uniform(rng, 1.5, 8)
    track = _track(rng, log_uniform(rng, 50, 190), width, log_uniform(rng, 0.2, 3), beaded)
    mask = coverage(track.sdf(canvas))
    if chance(rng, 0.15):
        other = _track(rng, log_uniform(rng, 40, 150), width * 0.6, log_uniform(rng, 0.2, 3), beaded)
        mask = np.maximum(mask, coverage(other.sdf(canvas)))
    height = -uniform(rng, 0.8, 2.5) * mask
    height += gaussian_filter(mask, uniform(rng, 1, 3) * canvas.scale) * uniform(rng, 0.2, 1)
    if chance(rng, 0.3):
        height += mask * uniform(rng, 0.2, 0.8) * fractal(rng, canvas, 5, 2)
    return _damaged(rng, canvas, Damage(height, mask, mask * maybe(rng, 0.3, -0.25, 0.2)), "scratch")


@family("cmp", "gouge", weight=17)
def gouge(rng: Rng, canvas: Canvas) -> Scene:
    """Draw a pit with a dark floor and a bright crescent rim; half trail arcs behind them."""
    cx, cy = FRAME / 2 + uniform(rng, -30, 30), FRAME / 2 + uniform(rng, -30, 30)
    angle, light = random_angle(rng), random_angle(rng)
    rx = log_uniform(rng, 5, 26)
    sdf = sample_blob(rng, cx, cy, rx, rx * log_uniform(rng, 0.25, 0.9), uniform(rng, 0.05, 0.3), angle).sdf(
        canvas, margin=12
    )
    mask = coverage(sdf, 2.0)
    height = -np.sqrt(np.maximum(sdf, 0.0)) * uniform(rng, 0.5, 1.5)
    if chance(rng, 0.1):
        height = -height
    rim = np.exp(np.minimum(sdf, 0.0) * 0.5) * (sdf < 0)
    facing = ((canvas.x - cx) * math.cos(light) + (canvas.y - cy) * math.sin(light)) * (1.0 / rx)
    grey = uniform(rng, 0, 0.35) * rim * np.clip(facing, 0.0, 1.0) - mask * uniform(rng, 0, 0.35)
    if chance(rng, 0.3):
        height += mask * uniform(rng, 0.2, 1.0) * fractal(rng, canvas, 6, 3)
    if chance(rng, 0.5):
        c, s = math.cos(angle), math.sin(angle)
        bow = uniform(rng, 0.3, 0.9)
        for i in range(integer(rng, 1, 6)):
            t = rx + 4 + i * uniform(rng, 3, 7)
            arc = _arc(canvas, rng, cx + c * t, cy + s * t, angle, uniform(rng, 5, 16), bow, uniform(rng, 1.2, 2.2))
            height -= arc * uniform(rng, 0.4, 1.0)
            mask = np.maximum(mask, arc)
    return _damaged(rng, canvas, Damage(height, mask, grey), "gouge")


@family("cmp", "strung_damage", weight=20)
def strung_damage(rng: Rng, canvas: Canvas) -> Scene:
    """Draw 2–14 small pits, bumps and tears strung along a straight line, or clustered."""
    angle = random_angle(rng)
    c, s = math.cos(angle), math.sin(angle)
    cx, cy = FRAME / 2 + uniform(rng, -20, 20), FRAME / 2 + uniform(rng, -20, 20)
    count = integer(rng, 2, 14)
    along = chance(rng, 0.7)
    places = recorded(rng, np.sort(rng.uniform(-58, 58, count)) if along else rng.normal(0, 12, count))
    tilt = angle + uniform(rng, -1.6, 1.6)
    height, mask = canvas.full(), canvas.full()
    for place in places.tolist():
        x, y = cx + c * place + normal(rng) * 2, cy + s * place + normal(rng) * 2
        blob = sample_blob(
            rng,
            x,
            y,
            log_uniform(rng, 2, 7),
            log_uniform(rng, 2.5, 11),
            0.3,
            tilt + normal(rng) * 0.4,
        )
        part = coverage(blob.sdf(canvas), 1.5)
        mask = np.maximum(mask, part)
        height += part * uniform(rng, -2, 0.8)
    height *= 1.0 + 0.5 * fractal(rng, canvas, 4, 2)
    return _damaged(rng, canvas, Damage(height, mask, -mask * uniform(rng, -0.1, 0.3)), "strung_damage", relief=0.6)


@family("cmp", "ragged_track", weight=8)
def ragged_track(rng: Rng, canvas: Canvas) -> Scene:
    """Draw a wide ragged track of torn film or residue."""
    track = _track(rng, log_uniform(rng, 60, 190), log_uniform(rng, 6, 24), log_uniform(rng, 0.5, 5), False)
    rough = fractal(rng, canvas, uniform(rng, 4, 10), 3, 0.8)
    sdf = track.sdf(canvas)
    mask = coverage(sdf + rough * uniform(rng, 0.5, 2.5))
    height = mask * (rough * uniform(rng, 0.5, 1.5) + uniform(rng, -1.5, 0.5))
    grey = mask * maybe(rng, 0.6, -0.25, 0.3)
    return _damaged(rng, canvas, Damage(height, mask, grey), "ragged_track")
