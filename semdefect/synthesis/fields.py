"""Building stones of scenes: signed distances, smooth unions, rough edges and textures.

A signed distance (SDF) is in units and positive inside the shape, so that ``coverage`` gives its anti-aliased
area.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from .canvas import FAR, FRAME, Canvas, Field
from .sampling import Rng, normal, recorded, uniform

_TABLE = 1024


def coverage(sdf: Field, width: float = 1.0) -> Field:
    """Return the share of each pixel inside the shape, [0, 1], with an edge ``width`` units wide."""
    return np.clip(sdf * (1.0 / width) + 0.5, 0.0, 1.0)


def smooth_max(a: Field, b: Field, radius: float) -> Field:
    """Return the union of two shapes with fillets of about ``radius`` units (polynomial smooth maximum)."""
    h = np.clip((a - b) * (0.5 / radius) + 0.5, 0.0, 1.0)
    return b + (a - b) * h + radius * h * (1.0 - h)


def smooth_min(a: Field, b: Field, radius: float) -> Field:
    """Return the intersection of two shapes with rounded corners of about ``radius`` units."""
    return -smooth_max(-a, -b, radius)


def box_sdf(x: Field, y: Field, cx: float, cy: float, hx: float, hy: float, radius: float = 0.0) -> Field:
    """Return the SDF of a box of half-sizes ``hx``, ``hy`` with corners of ``radius`` units."""
    qx = np.abs(x - cx) - (hx - radius)
    qy = np.abs(y - cy) - (hy - radius)
    inside = np.minimum(np.maximum(qx, qy), 0.0)
    if radius <= 0.05:
        return -np.maximum(qx, qy)
    return radius - np.hypot(np.maximum(qx, 0.0), np.maximum(qy, 0.0)) - inside


@dataclass(frozen=True)
class Blob:
    """A superellipse whose radius varies with angle: resist blobs, particles, voids, solder balls.

    ``radii`` holds the relative radius at 1024 angles; ``power`` 2 is an ellipse, 8 nearly a box, 1 a
    diamond.
    """

    cx: float
    cy: float
    rx: float
    ry: float
    angle: float
    power: float
    radii: Field

    def sdf(self, canvas: Canvas, margin: float = 8.0) -> Field:
        """Return the (S, S) SDF, exact in sign; computed to ``margin`` units outside and FAR beyond."""
        out = canvas.full(FAR)
        reach = max(self.rx, self.ry) * float(self.radii.max()) * 1.45 + margin
        window = canvas.window(self.cx, self.cy, reach, reach)
        dx, dy = window.x - self.cx, window.y - self.cy
        c, s = math.cos(self.angle), math.sin(self.angle)
        u, v = (c * dx + s * dy) / self.rx, (c * dy - s * dx) / self.ry
        if self.power == 2.0:
            radius = np.hypot(u, v)
        else:
            radius = (np.abs(u) ** self.power + np.abs(v) ** self.power) ** (1.0 / self.power)
        step = ((np.arctan2(v, u) + math.pi) * (_TABLE / (2 * math.pi))).astype(np.int32) % _TABLE
        out[window.index] = (self.radii[step] - radius) * min(self.rx, self.ry)
        return out


def sample_blob(
    rng: Rng,
    cx: float,
    cy: float,
    rx: float,
    ry: float,
    roughness: float = 0.15,
    angle: float = 0.0,
    power: float = 2.0,
) -> Blob:
    """Draw a blob: seven harmonics of amplitude 1.5 · ``roughness`` · N(0, 1) / i^1.15 on its radius."""
    order = np.arange(2, 9, dtype=np.float32)[:, None]
    amplitude = 1.5 * roughness * recorded(rng, rng.standard_normal((7, 1), np.float32)) / order**1.15
    phase = recorded(rng, rng.random((7, 1), np.float32)) * np.float32(2 * math.pi)
    theta = np.linspace(-math.pi, math.pi, _TABLE, endpoint=False, dtype=np.float32)
    radii = 1.0 + (amplitude * np.cos(order * theta[None, :] + phase)).sum(axis=0)
    return Blob(cx, cy, max(rx, 0.3), max(ry, 0.3), angle, power, np.maximum(radii, 0.15).astype(np.float32))


def rough_edges(rng: Rng, shape: tuple[int, ...], sigma: float, xi: float, hurst: float, step: float = 1.0) -> Field:
    """Return edge displacements of RMS ``sigma``, shape ``(..., length)``, by Fourier synthesis.

    Power spectrum after Palasantzas: PSD(f) ∝ σ²ξ / (1 + (2πfξ)²)^(½ + H), correlation length ``xi`` and
    sampling ``step`` in the same unit, Hurst exponent ``hurst``. Twice the length is made and cropped: no
    periodic ends.
    """
    count = 2 * shape[-1]
    frequency = np.fft.rfftfreq(count, step)
    density = 1.0 / (1.0 + (2 * math.pi * frequency * xi) ** 2) ** (0.5 + hurst)
    density[0] = 0.0
    amplitude = np.sqrt(density / density.sum()).astype(np.float32) * np.float32(sigma * count / 2)
    noise = rng.standard_normal((*shape[:-1], 2, len(frequency)), np.float32)
    spectrum = (noise[..., 0, :] + 1j * noise[..., 1, :]) * amplitude
    return np.fft.irfft(spectrum, count, axis=-1)[..., : shape[-1]].astype(np.float32)


def resample(image: Field, size: int, method: Image.Resampling = Image.Resampling.BICUBIC) -> Field:
    """Return a float image resampled to (size, size)."""
    return np.asarray(Image.fromarray(image).resize((size, size), method), np.float32)


def texture(rng: Rng, canvas: Canvas, grain: float) -> Field:
    """Return an (S, S) random texture of zero mean and unit deviation with grains of ``grain`` units."""
    cells = max(4, round(FRAME / max(0.7 * grain, 0.5)))
    if cells >= canvas.size:
        return rng.standard_normal((canvas.size, canvas.size), np.float32)
    coarse = rng.standard_normal((cells, cells), np.float32)
    # Blurring before the enlargement hides the lattice, which would look like square pixels.
    field = resample(gaussian_filter(coarse, 0.7, mode="wrap", truncate=3.0), canvas.size)
    return (field - field.mean()) / (field.std() + np.float32(1e-6))


def fractal(rng: Rng, canvas: Canvas, grain: float = 32.0, octaves: int = 4, gain: float = 0.55) -> Field:
    """Return a unit-deviation sum of textures: each octave has half the grain, ``gain`` times the size."""
    field = canvas.full()
    for octave in range(octaves):
        field += gain**octave * texture(rng, canvas, grain / 2**octave)
    return field / field.std()


@dataclass(frozen=True)
class Track:
    """A line with a wandering centre and a varying width along a straight axis: scratches and cracks.

    ``centre`` and ``width`` are tables (N,) in units over the length; the axis starts at (x0, y0).
    """

    x0: float
    y0: float
    angle: float
    length: float
    centre: Field
    width: Field

    def sdf(self, canvas: Canvas) -> Field:
        """Return the (S, S) SDF, positive on the track; slope-corrected, so steep parts keep their width."""
        dx, dy = canvas.x - self.x0, canvas.y - self.y0
        c, s = math.cos(self.angle), math.sin(self.angle)
        along, across = c * dx + s * dy, c * dy - s * dx
        last = len(self.centre) - 1
        index = np.clip(along * (last / self.length), 0, last).astype(np.int32)
        slope = np.gradient(self.centre) * np.float32(last / self.length)
        cosine = (1.0 / np.sqrt(1.0 + slope * slope)).astype(np.float32)
        side = self.width[index] * 0.5 - np.abs(across - self.centre[index]) * cosine[index]
        return np.minimum(side, np.minimum(along, self.length - along))

    def point(self, share: float) -> tuple[float, float]:
        """Return the (x, y) of the centre line at a share [0, 1] of the length."""
        across = float(self.centre[int(share * (len(self.centre) - 1))])
        c, s = math.cos(self.angle), math.sin(self.angle)
        along = share * self.length
        return self.x0 + c * along - s * across, self.y0 + s * along + c * across


def polyline_sdf(canvas: Canvas, points: list[tuple[float, float]], widths: list[float]) -> Field:
    """Return the SDF of joined segments, ``widths`` one per segment; 4 units around it, FAR beyond."""
    out = canvas.full(FAR)
    for (x0, y0), (x1, y1), width in zip(points[:-1], points[1:], widths, strict=True):
        pad = width / 2 + 4.0
        window = canvas.window((x0 + x1) / 2, (y0 + y1) / 2, abs(x1 - x0) / 2 + pad, abs(y1 - y0) / 2 + pad)
        ex, ey = x1 - x0, y1 - y0
        px, py = window.x - x0, window.y - y0
        t = np.clip((px * ex + py * ey) * (1.0 / max(ex * ex + ey * ey, 1e-6)), 0.0, 1.0)
        part = width / 2 - np.hypot(px - t * ex, py - t * ey)
        np.maximum(out[window.index], part, out=out[window.index])
    return out


def random_walk(
    rng: Rng, x: float, y: float, angle: float, steps: int, step: float, turn: float
) -> list[tuple[float, float]]:
    """Return ``steps`` + 1 points of a walk that turns by N(0, ``turn``) rad every ``step`` units."""
    points = [(x, y)]
    for _ in range(steps):
        angle += normal(rng) * turn
        x, y = x + math.cos(angle) * step, y + math.sin(angle) * step
        points.append((x, y))
    return points


def random_angle(rng: Rng) -> float:
    """Return an angle in [0, 2π)."""
    return uniform(rng, 0.0, 2 * math.pi)
