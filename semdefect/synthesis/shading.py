"""From shape to secondary-electron signal: analytical line scans for patterns, slopes for height maps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from .canvas import Canvas, Field
from .fields import coverage, random_angle, texture
from .sampling import Rng, chance, log_uniform, pick, uniform

#: Weights of the signal modes: which contrast dominates the picture.
MODES: Mapping[str, float] = {"binary": 4, "mixed": 4, "edges": 2, "gauss": 3, "emboss": 2, "trench": 1}


@dataclass(frozen=True)
class Surface:
    """One drawn way to turn a signed distance into signal; call ``render`` on the pattern and on its twin.

    Greys are in full-scale units, lengths in units: ``width`` edge width w, ``inner`` λ_in and ``outer``
    λ_out decay of the edge bloom ``edge`` k_e, ``shade`` k_s and ``shade_length`` λ_s of the shadow in
    spaces, ``relief`` k_r of the slope along ``angle``.
    """

    canvas: Canvas
    mode: str
    base: float
    contrast: float
    width: float
    edge: float
    inner: float
    outer: float
    shade: float
    shade_length: float
    relief: float
    relief_blur: float
    angle: float
    grain: Field | None
    grain_on_top: bool

    @property
    def params(self) -> dict[str, Any]:
        """Return what the record keeps of the surface."""
        drawn = ("base", "contrast", "width", "edge", "inner", "outer", "shade", "shade_length", "relief", "angle")
        return {"mode": self.mode} | {name: round(getattr(self, name), 4) for name in drawn}

    @property
    def clutter(self) -> float:
        """Return the deviation of the surface texture in signal units."""
        return 0.0 if self.grain is None else float(self.grain[::4, ::4].std())

    def render(self, sdf: Field) -> Field:
        """Return the signal (S, S): I = a + Δ·cov + k_e·bloom − k_s·shadow + k_r·∂_θ + texture."""
        top = coverage(sdf, self.width)
        if self.mode == "gauss":
            # Distances are taken across the lines; a defocused probe blurs along them as well.
            top = gaussian_filter1d(top, 0.35 * self.width * self.canvas.scale, axis=0, mode="nearest", truncate=2.5)
        signal = self.base + self.contrast * top
        if self.edge:
            # −d/λ_in inside, d/λ_out outside: the smaller of the two is the right one on either side.
            signal += self.edge * np.exp(np.minimum(sdf * (-1.0 / self.inner), sdf * (1.0 / self.outer)))
        if self.shade:
            signal -= self.shade * np.exp(np.minimum(sdf, 0.0) * (1.0 / self.shade_length)) * (1.0 - top)
        if self.relief:
            slope, _ = slopes(top, self.canvas, self.angle, self.relief_blur)
            signal += self.relief * slope
        if self.grain is not None:
            signal += self.grain * top if self.grain_on_top else self.grain
        return signal


def sample_surface(
    rng: Rng,
    canvas: Canvas,
    pitch: float,
    modes: Mapping[str, float] = MODES,
    top_texture: float = 0.35,
    grain_bounds: tuple[float, float] = (0.01, 0.05),
) -> Surface:
    """Draw a surface for a pattern of this pitch; ``top_texture``: chance of a grainy surface."""
    mode = pick(rng, modes)
    base, contrast = uniform(rng, 0.08, 0.45), uniform(rng, 0.15, 0.6)
    if mode == "edges":
        base, contrast = uniform(rng, 0.3, 0.5), uniform(rng, -0.08, 0.12)
    elif mode == "emboss":
        base, contrast = uniform(rng, 0.35, 0.55), uniform(rng, -0.06, 0.12)
    elif mode == "trench":
        base, contrast = uniform(rng, 0.4, 0.6), -uniform(rng, 0.1, 0.3)
    bloom = {
        "binary": (0, 0.12),
        "edges": (0.2, 0.6),
        "emboss": (0.02, 0.25),
        "mixed": (0.08, 0.4),
        "trench": (0.1, 0.3),
    }
    width = max(1.0, pitch * uniform(rng, 0.2, 0.5)) if mode == "gauss" else uniform(rng, 0.8, 1.6)
    relief = uniform(rng, 0.3, 1.0) if mode == "emboss" else uniform(rng, 0.05, 0.35) if chance(rng, 0.25) else 0.0
    grain = None
    if chance(rng, top_texture):
        grain = uniform(rng, *grain_bounds) * texture(rng, canvas, log_uniform(rng, 1, 5))
    return Surface(
        canvas,
        mode,
        base,
        contrast,
        width,
        edge=uniform(rng, *bloom[mode]) if mode in bloom else 0.0,
        inner=log_uniform(rng, 0.5, 3.0),
        outer=log_uniform(rng, 0.3, 1.5),
        shade=uniform(rng, 0.03, 0.2) if chance(rng, 0.6) else 0.0,
        shade_length=log_uniform(rng, 1.5, 8),
        relief=relief,
        relief_blur=uniform(rng, 0.5, 1.1),
        angle=random_angle(rng),
        grain=grain,
        grain_on_top=chance(rng, 0.5),
    )


def slopes(height: Field, canvas: Canvas, angle: float, blur: float = 0.6) -> tuple[Field, Field]:
    """Return the slope of a height map along ``angle`` and the steepness |∇h|, both per unit, (S, S).

    The map is first blurred by a Gaussian of ``blur`` units. Light from one side gives the look of a detector
    on one side or of a laser microscope.
    """
    smooth = gaussian_filter(height, blur * canvas.scale, mode="nearest", truncate=3.0)
    dx, dy = np.empty_like(smooth), np.empty_like(smooth)
    half = 0.5 * canvas.scale
    dx[:, 1:-1] = (smooth[:, 2:] - smooth[:, :-2]) * half
    dy[1:-1, :] = (smooth[2:, :] - smooth[:-2, :]) * half
    dx[:, 0], dx[:, -1], dy[0], dy[-1] = dx[:, 1], dx[:, -2], dy[1], dy[-2]
    return dx * math.cos(angle) + dy * math.sin(angle), np.sqrt(dx * dx + dy * dy)
