"""The top-down engine: one pattern, shaded with and without its defect, then turned as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from .canvas import Canvas, Field
from .fields import coverage, fractal, texture
from .layouts import LineSpace, blank_film, sample_array, sample_lines, sample_pitch, sample_shapes
from .sampling import Rng, chance, log_uniform, pick, sign, uniform
from .scene import Scene
from .shading import MODES, Surface, sample_surface


@dataclass(frozen=True)
class Orientation:
    """How vertical lines lie in the picture: ``angle`` in degrees, 90 transposes."""

    angle: float

    def apply(self, image: Field) -> Field:
        """Return the turned image (S, S); an oblique turn samples the middle, so no corner is empty."""
        if self.angle == 0.0:
            return image
        if self.angle == 90.0:
            return np.ascontiguousarray(image.T)
        size = image.shape[0]
        zoom = 1.0 / (abs(np.cos(np.deg2rad(self.angle))) + abs(np.sin(np.deg2rad(self.angle))))
        c, s = zoom * np.cos(np.deg2rad(self.angle)), zoom * np.sin(np.deg2rad(self.angle))
        middle = size / 2
        affine = (c, s, middle - (c + s) * middle, -s, c, middle - (c - s) * middle)
        turned = Image.fromarray(image).transform(
            (size, size), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR
        )
        return np.asarray(turned, np.float32)


def sample_orientation(rng: Rng, vertical: float = 0.72, horizontal: float = 0.24) -> Orientation:
    """Draw an orientation: vertical, horizontal, else oblique by 2–60°."""
    draw = uniform(rng, 0, 1)
    if draw < vertical:
        return Orientation(0.0)
    if draw < vertical + horizontal:
        return Orientation(90.0)
    return Orientation(sign(rng) * log_uniform(rng, 2, 60))


def slanted(rng: Rng, image: Field) -> Field:
    """Return the image (S, S) seen at a slant: a random quadrilateral inside it, spread over the frame."""
    size = image.shape[0]
    corners = [(0, 0), (0, size), (size, size), (size, 0)]
    quad: list[float] = []
    for x, y in corners:
        inward = uniform(rng, 0, 0.25) * size, uniform(rng, 0, 0.25) * size
        quad += [x + (inward[0] if x == 0 else -inward[0]), y + (inward[1] if y == 0 else -inward[1])]
    seen = Image.fromarray(image).transform((size, size), Image.Transform.QUAD, quad, Image.Resampling.BILINEAR)
    return np.asarray(seen, np.float32)


def turned(scene: Scene, orientation: Orientation) -> Scene:
    """Return the scene with signal, twin and mask turned alike."""
    twin = None if scene.twin is None else orientation.apply(scene.twin)
    params = scene.params | {"orientation": round(orientation.angle, 2)}
    signal, mask = orientation.apply(scene.signal), orientation.apply(scene.mask)
    return replace(scene, signal=signal, twin=twin, mask=mask, params=params)


@dataclass(frozen=True)
class Background:
    """A drawn top-down pattern: its SDF, its surface, its ``kind`` and smallest ``pitch`` in units."""

    sdf: Field
    surface: Surface
    kind: str
    pitch: float

    @property
    def signal(self) -> Field:
        """Return the shaded pattern (S, S)."""
        return self.surface.render(self.sdf)

    @property
    def params(self) -> dict[str, Any]:
        """Return what the record keeps of the pattern."""
        return {"layout": self.kind, "pitch": round(self.pitch, 3)} | self.surface.params


def sample_background(
    rng: Rng, canvas: Canvas, kinds: Mapping[str, float], modes: Mapping[str, float] = MODES
) -> Background:
    """Draw a background of one of ``kinds``: ``lines``, ``array``, ``shapes`` or ``film``."""
    kind = pick(rng, kinds)
    if kind == "lines":
        lines = sample_lines(rng, canvas, sample_pitch(rng, 4.5, 36))
        return Background(lines.sdf, sample_surface(rng, canvas, lines.pitch, modes), kind, lines.pitch)
    if kind == "film":
        sdf, name, period = blank_film(canvas)
    elif kind == "array":
        sdf, name, period = sample_array(rng, canvas)
    else:
        sdf, name, period = sample_shapes(rng, canvas)
    if kind == "film":
        # A film shows nothing but its texture, which the grey scale would blow up to bare noise if strong.
        surface = sample_surface(rng, canvas, 14.0, modes, top_texture=1.0, grain_bounds=(0.004, 0.02))
    else:
        surface = sample_surface(rng, canvas, min(period, 14.0), modes, top_texture=0.5)
    return Background(sdf, surface, name, period)


def edited_lines(lines: LineSpace, surface: Surface, after: Field, kind: str, orientation: Orientation) -> Scene:
    """Return the scene of lines whose SDF a defect changed to ``after``; mask: change in coverage."""
    mask = np.abs(coverage(after) - coverage(lines.sdf))
    params = {
        "layout": "lines",
        "pitch": round(lines.pitch, 3),
        "duty": round(lines.duty, 3),
        "sigma": round(lines.sigma, 4),
    } | surface.params
    scene = Scene(
        surface.render(after),
        surface.render(lines.sdf),
        mask,
        kind,
        lines.pitch,
        clutter=surface.clutter,
        params=params,
    )
    return turned(scene, orientation)


def repainted(rng: Rng, canvas: Canvas, scene: Scene, grey: float, grain: float = 0.03) -> Scene:
    """Return the scene with the defect painted in one grey (full-scale units) and a light texture."""
    paint = grey + grain * texture(rng, canvas, 3.0)
    signal = scene.signal * (1.0 - scene.mask) + scene.mask * paint
    return replace(scene, signal=signal)


def shifted(scene: Scene, offset: float) -> Scene:
    """Return the scene with the defect's grey shifted by ``offset`` full-scale units."""
    return replace(scene, signal=scene.signal + offset * scene.mask)


def grained(rng: Rng, canvas: Canvas, scene: Scene, strength: float) -> Scene:
    """Return the scene with a fractal texture on the defect."""
    return replace(scene, signal=scene.signal + strength * scene.mask * fractal(rng, canvas, 4.0, 2))


def grey_of(rng: Rng, signal: Field, low: float = 30, high: float = 98) -> float:
    """Return a grey between two percentiles of the signal."""
    return float(np.percentile(signal[::2, ::2], uniform(rng, low, high)))


def maybe(rng: Rng, probability: float, low: float, high: float) -> float:
    """Return U(low, high) with the given probability, else 0."""
    return uniform(rng, low, high) if chance(rng, probability) else 0.0
