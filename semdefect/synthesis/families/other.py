"""Other: particles, lines pushed apart, and whole pictures that belong to none of the named classes."""

import math

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter, map_coordinates

from ..canvas import FRAME, Canvas, Field
from ..fields import coverage, sample_blob, smooth_min
from ..layouts import sample_lines, sample_pitch
from ..painting import outline, paint, strata
from ..particles import add_particle
from ..registry import family
from ..sampling import Rng, chance, integer, log_uniform, normal, uniform
from ..scene import Scene
from ..shading import sample_surface, slopes
from ..topdown import sample_background, sample_orientation, slanted, turned

#: Particles are often found by detectors that show relief.
MODES = {"binary": 4, "mixed": 4, "edges": 2, "gauss": 2, "emboss": 4, "trench": 0.5}


def _with_particles(rng: Rng, canvas: Canvas, kinds: dict[str, float]) -> Scene:
    """Draw a background and one particle on it, in a quarter of the cases two or three."""
    background = sample_background(rng, canvas, kinds, MODES)
    orientation = sample_orientation(rng, 0.55, 0.38)
    plain = orientation.apply(background.signal)
    signal, mask, names = plain, canvas.full(), []
    for _ in range(1 if chance(rng, 0.75) else integer(rng, 2, 3)):
        signal, cover, name = add_particle(rng, canvas, signal)
        mask = np.maximum(mask, cover)
        names.append(name)
    params = background.params | {"orientation": round(orientation.angle, 2), "particles": names}
    return Scene(
        signal,
        plain,
        mask,
        "particle",
        background.pitch,
        clutter=background.surface.clutter,
        params=params,
        twin_params={"particles": []},
    )


@family("other", "particle_lines", weight=31)
def particle_lines(rng: Rng, canvas: Canvas) -> Scene:
    """Draw a particle on lines."""
    return _with_particles(rng, canvas, {"lines": 1})


@family("other", "particle_array", weight=18)
def particle_array(rng: Rng, canvas: Canvas) -> Scene:
    """Draw a particle on an array, on large shapes or on a blank film."""
    return _with_particles(rng, canvas, {"array": 5, "shapes": 4, "film": 2})


@family("other", "eye", weight=6)
def eye(rng: Rng, canvas: Canvas) -> Scene:
    """Push lines apart into an eye, often with the centre missing."""
    lines = sample_lines(rng, canvas, sample_pitch(rng, 4.5, 16))
    cx, cy = uniform(rng, 0.3, 0.7) * FRAME, uniform(rng, 0.3, 0.7) * FRAME
    a, b = lines.pitch * uniform(rng, 1, 3.5), lines.pitch * uniform(rng, 2, 6)
    dx, dy = canvas.x - cx, canvas.y - cy
    bump = np.exp(-((dx * (1 / a)) ** 2) - (dy * (1 / b)) ** 2)
    push = np.sign(dx) * bump * np.exp(np.abs(dx) * (-0.5 / a)) * (a * uniform(rng, 0.4, 0.9))
    rows, cols = canvas.y * canvas.scale - 0.5, (canvas.x - push) * canvas.scale - 0.5
    after = map_coordinates(lines.sdf, [rows, cols], order=1, mode="nearest")
    if chance(rng, 0.6):
        after = np.minimum(after, -sample_blob(rng, cx, cy, a * 0.8, b * 0.6, 0.15).sdf(canvas))
    surface = sample_surface(rng, canvas, lines.pitch, {"binary": 2, "edges": 3, "mixed": 3})
    params = {"layout": "lines", "pitch": round(lines.pitch, 3)} | surface.params
    mask = coverage(bump - 0.4, 0.2)
    signal, twin = surface.render(after), surface.render(lines.sdf)
    scene = Scene(signal, twin, mask, "eye", lines.pitch, clutter=surface.clutter, params=params)
    return turned(scene, sample_orientation(rng))


def _segments(rng: Rng, canvas: Canvas) -> Field:
    """Draw one level of Manhattan segments; coverage (S, S), pitch LU(6, 18)."""
    factor = 2 if canvas.size < 160 else 1
    picture = Image.new("L", (canvas.size * factor, canvas.size * factor), 0)
    pen, zoom = ImageDraw.Draw(picture), canvas.scale * factor
    pitch, across = log_uniform(rng, 6, 18), chance(rng, 0.5)

    def box(x: float, y: float, half: float, length: float) -> None:
        corners = [(x - half) * zoom, y * zoom, (x + half) * zoom, (y + length) * zoom]
        if across:
            corners = [corners[1], corners[0], corners[3], corners[2]]
        pen.rectangle(corners, fill=255)

    for track in range(-1, int(FRAME / pitch) + 2):
        if chance(rng, 0.25):
            continue
        x, y = track * pitch + uniform(rng, -0.1, 0.1) * pitch, -10.0
        while y < FRAME + 10:
            length, half = log_uniform(rng, 8, 90), pitch * uniform(rng, 0.12, 0.3)
            box(x, y, half, length)
            if chance(rng, 0.3):
                box(x, y, pitch * uniform(rng, 0.5, 1.5), 2 * half)
            y += length + log_uniform(rng, 3, 30)
    return np.asarray(picture.resize((canvas.size, canvas.size), Image.Resampling.BOX), np.float32) / np.float32(255)


def _tiled(rng: Rng, canvas: Canvas, cell: Field) -> Field:
    """Return a memory-like array: a corner of ``cell`` repeated, rows mirrored or shifted."""
    step_x, step_y = (
        integer(rng, canvas.size // 8, canvas.size // 3),
        integer(rng, canvas.size // 8, canvas.size // 3),
    )
    tile = cell[:step_y, :step_x]
    if chance(rng, 0.6):
        tile = np.concatenate([tile, tile[::-1]], axis=0)
    if chance(rng, 0.4):
        tile = np.concatenate([tile, tile[:, ::-1]], axis=1)
    repeats = (canvas.size // tile.shape[0] + 1, canvas.size // tile.shape[1] + 1)
    return np.ascontiguousarray(np.tile(tile, repeats)[: canvas.size, : canvas.size])


@family("other", "circuit", weight=7, paired=False)
def circuit(rng: Rng, canvas: Canvas) -> Scene:
    """Draw one to three levels of wiring with relief, often tiled, slanted or turned."""
    height, levels = canvas.full(), integer(rng, 1, 3)
    tiled = chance(rng, 0.35)
    for level in range(1, levels + 1):
        cover = _segments(rng, canvas)
        if tiled:
            cover = _tiled(rng, canvas, cover)
        height = np.maximum(height, cover * (level * uniform(rng, 0.7, 1.3)))
    slope, steepness = slopes(height, canvas, uniform(rng, 0, 2 * math.pi), uniform(rng, 0.5, 0.9))
    around = gaussian_filter(height, uniform(rng, 2, 6) * canvas.scale, truncate=2.5)
    signal = 0.3 + uniform(rng, 0.0, 0.3) * height * (1.0 / levels) + uniform(rng, 0.05, 0.4) * slope
    signal += uniform(rng, 0.0, 0.4) * np.minimum(steepness, 1.0)
    signal -= uniform(rng, 0, 0.12) * np.clip(around - height, 0, 2)
    orientation = sample_orientation(rng, 0.4, 0.1)
    signal = orientation.apply(signal.astype(np.float32))
    if chance(rng, 0.3):
        signal = slanted(rng, signal)
    params = {
        "layout": "circuit",
        "levels": levels,
        "tiled": tiled,
        "orientation": round(orientation.angle, 2),
    }
    return Scene(signal, None, canvas.full(1.0), "circuit", 6.0, structural=True, params=params)


@family("other", "odd_section", weight=5, paired=False)
def odd_section(rng: Rng, canvas: Canvas) -> Scene:
    """Draw layers with odd bodies in cross-section."""
    signal = strata(rng, canvas)
    for _ in range(integer(rng, 2, 7)):
        cx, cy = uniform(rng, 0, FRAME), uniform(rng, 0.2, 0.9) * FRAME
        power = uniform(rng, 2, 8)
        sdf = sample_blob(rng, cx, cy, log_uniform(rng, 6, 35), log_uniform(rng, 6, 35), 0.08, power=power).sdf(canvas)
        signal = paint(signal, coverage(sdf), uniform(rng, 0.05, 0.95))
        signal = outline(signal, sdf, uniform(rng, 0, 0.3), 1.2)
    return Scene(signal, None, canvas.full(1.0), "odd_section", 12.0, structural=True, params={"layout": "section"})


@family("other", "fins", weight=5, paired=False)
def fins(rng: Rng, canvas: Canvas) -> Scene:
    """Draw standing fins seen at a slant: lines that end on a ragged foot, darker towards the top."""
    lines = sample_lines(rng, canvas, uniform(rng, 8, 28))
    foot = uniform(rng, 0.5, 0.9) * FRAME
    sdf = np.minimum(lines.sdf, foot + normal(rng) * 3 - canvas.y)
    if chance(rng, 0.6):
        sdf = smooth_min(sdf, canvas.y - uniform(rng, 0.05, 0.35) * FRAME, uniform(rng, 1, 6))
    surface = sample_surface(rng, canvas, 14.0, {"mixed": 2, "edges": 1, "binary": 1})
    signal = surface.render(sdf) * (0.6 + 0.6 * canvas.y * (1 / FRAME))
    if chance(rng, 0.5):
        signal = signal + uniform(rng, 0.05, 0.3) * coverage(canvas.y - foot - 3)
    if chance(rng, 0.3):
        signal = signal[::-1].copy()
    return Scene(
        signal.astype(np.float32),
        None,
        canvas.full(1.0),
        "fins",
        lines.pitch,
        structural=True,
        params={"layout": "fins"},
    )
