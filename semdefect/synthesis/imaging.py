"""The imaging chain: what column, detector and file format do to a scene.

Each step is a function of a float32 image (H, W) in [0, 1] of any size with strengths in plain numbers, so
that the same steps also make corrupted test images. Lengths here are pixels of the image at hand.
``image_scene`` draws strengths and applies the steps in their physical order.
"""

import io
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import convolve1d, gaussian_filter

from .canvas import Canvas, Field
from .fields import resample, rough_edges
from .sampling import Rng, chance, integer, log_uniform, pick, recorded, uniform
from .scene import Scene

#: Row shifts beyond this (units) would turn straight lines into rough ones, clean into ler.
DRIFT_CAP = 0.3
#: The grey scale is never stretched over less than this range of the signal.
LEAST_RANGE = 0.2
#: Share of a section's own texture that counts as noise when a painted defect is searched in it.
CLUTTER_SHARE = 0.5


def uneven_brightness(image: Field, strength: float, pattern: Field) -> Field:
    """Add a slowly varying pattern: I + α·std(I)·B, with B of unit deviation."""
    return image + strength * float(image.std()) * pattern


def brightness_pattern(rng: Rng, size: int, cells: int) -> Field:
    """Return a smooth random pattern (size, size): 2–5 random cells, bicubic between them."""
    return resample(recorded(rng, rng.standard_normal((cells, cells), np.float32)), size)


def vignette(image: Field, strength: float) -> Field:
    """Darken towards the corners by the share ``strength`` in [0, 1]."""
    height, width = image.shape
    y = (np.arange(height, dtype=np.float32) / height - 0.5)[:, None]
    x = (np.arange(width, dtype=np.float32) / width - 0.5)[None, :]
    return image * (1.0 - 2.0 * strength * (x * x + y * y))


def charging(image: Field, strength: float, length: float) -> Field:
    """Darken what the scan meets just after bright areas: streaks that fade over ``length`` px to the right.

    ``strength`` is about the share of the bright areas' excess over the mean that is lost behind them.
    """
    excess = np.clip(image - float(image.mean()) - 0.5 * float(image.std()), 0.0, None)
    reach = max(round(2.5 * length), 1)
    trail = np.exp(np.arange(reach, dtype=np.float32) * np.float32(-1.0 / length))
    streaks = convolve1d(excess, trail / trail.sum(), axis=1, mode="nearest", origin=-(reach // 2))
    return image - 4.0 * strength * (1.0 - np.clip(excess * 8.0, 0.0, 1.0)) * streaks


def row_shifts(rng: Rng, rows: int, sigma_px: float, correlation: float, skew: float = 0.0) -> Field:
    """Return each row's shift in px: noise of RMS ``sigma_px`` over ``correlation`` rows, plus skew.

    ``skew`` in px per row, about the middle row.
    """
    noise = rough_edges(rng, (rows,), sigma_px, correlation, 0.5)
    return (noise + skew * (np.arange(rows, dtype=np.float32) - rows / 2)).astype(np.float32)


def shift_rows(image: Field, shifts: Field) -> Field:
    """Shift each row sideways by a fraction of a pixel (linear), repeating the border."""
    width = image.shape[1]
    whole = np.floor(shifts)
    part = (shifts - whole)[:, None]
    column = np.arange(width)[None, :] + whole.astype(np.int64)[:, None]
    near = np.take_along_axis(image, np.clip(column, 0, width - 1), axis=1)
    far = np.take_along_axis(image, np.clip(column + 1, 0, width - 1), axis=1)
    return near + (far - near) * part


def drift(rng: Rng, image: Field, sigma_px: float, correlation: float, skew: float = 0.0) -> Field:
    """Shift the rows by correlated noise: stage drift and vibration."""
    return shift_rows(image, row_shifts(rng, image.shape[0], sigma_px, correlation, skew))


def beam_blur(image: Field, sigma: float, astigmatism: float = 1.0) -> Field:
    """Blur by a Gaussian probe of ``sigma`` px, ``astigmatism`` times wider in x than in y."""
    if sigma <= 0.0:
        return image
    return gaussian_filter(image, (sigma, sigma * astigmatism), mode="nearest", truncate=3.0)


def contrast_loss(image: Field, factor: float) -> Field:
    """Pull all greys towards the mean: ``factor`` 1 changes nothing, 0 leaves a flat image."""
    mean = float(image.mean())
    return mean + factor * (image - mean)


def shot_noise(rng: Rng, image: Field, sigma: float, signal_dependent: bool = True, correlation: float = 0.0) -> Field:
    """Add noise of about ``sigma`` full-scale units.

    Signal-dependent noise has the variance σ²(.3 + 1.4·I) of counted electrons. ``correlation`` px blurs the
    noise, as in images that were resized; its deviation stays the same.
    """
    if sigma <= 0.0:
        return image
    noise = rng.standard_normal(image.shape, np.float32)
    if correlation > 0.0:
        noise = gaussian_filter(noise, correlation, mode="wrap", truncate=3.0)
        noise *= 1.0 / float(noise.std())
    if signal_dependent:
        noise *= np.sqrt(0.3 + 1.4 * np.clip(image, 0.0, 1.0))
    return image + np.float32(sigma) * noise


def row_noise(rng: Rng, image: Field, sigma: float) -> Field:
    """Add one random grey offset per scan row."""
    return image + np.float32(sigma) * rng.standard_normal((image.shape[0], 1), np.float32)


def low_resolution(image: Field, size: int, down: str = "box", up: str = "bilinear") -> Field:
    """Resample a square image through ``size`` px, as if taken or stored smaller."""
    small = resample(image, size, Image.Resampling[down.upper()])
    return resample(small, image.shape[0], Image.Resampling[up.upper()])


def unsharp(image: Field, amount: float, radius: float = 1.0) -> Field:
    """Sharpen by adding ``amount`` times the difference to a blur of ``radius`` px."""
    return image + amount * (image - gaussian_filter(image, radius, mode="nearest", truncate=3.0))


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Return a uint8 image after JPEG compression."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("L"))


def to_bytes(image: Field) -> np.ndarray:
    """Quantise [0, 1] to uint8, clipping."""
    return (np.clip(image, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


@dataclass(frozen=True)
class Optics:
    """Drawn strengths of everything up to the grey scale, in pixels; deterministic once drawn.

    It is applied to a scene and to its twin alike, which gives the defect's noiseless contrast.
    """

    pattern: Field | None
    pattern_strength: float
    vignette: float
    charging: tuple[float, float] | None
    shifts: Field | None
    blur: float
    astigmatism: float
    percentiles: tuple[float, float]
    greys: tuple[float, float]
    gamma: float

    def project(self, signal: Field) -> Field:
        """Return the signal after uneven brightness, charging, drift and the beam's point spread."""
        image = signal
        if self.pattern is not None:
            image = uneven_brightness(image, self.pattern_strength, self.pattern)
        if self.vignette:
            image = vignette(image, self.vignette)
        if self.charging:
            image = charging(image, *self.charging)
        return beam_blur(self.move(image), self.blur, self.astigmatism)

    def move(self, image: Field) -> Field:
        """Return an image or mask after the geometric part alone."""
        return image if self.shifts is None else shift_rows(image, self.shifts)

    def range_of(self, image: Field) -> tuple[float, float]:
        """Return the two percentiles that the grey scale is stretched between."""
        low, high = np.percentile(image[::2, ::2], self.percentiles)
        # A flat film must stay flat and mid-grey instead of having its texture blown up to full contrast.
        middle, half = (float(low) + float(high)) / 2, max(float(high) - float(low), LEAST_RANGE) / 2
        return middle - half, middle + half

    def to_grey(self, image: Field, bounds: tuple[float, float]) -> Field:
        """Map the bounds to the drawn greys and apply the gamma; returns about [0, 1]."""
        low, high = bounds
        dark, bright = self.greys
        scaled = np.clip(dark + (image - low) * ((bright - dark) / (high - low)), 0.0, 1.2)
        return scaled if abs(self.gamma - 1.0) < 0.02 else scaled**self.gamma


def sample_optics(rng: Rng, canvas: Canvas, feature: float) -> Optics:
    """Draw the strengths of the first five steps; blur stays below a seventh of ``feature`` (units)."""
    scale = canvas.scale
    uneven = chance(rng, 0.45)
    sigma = log_uniform(rng, 0.35, 1.1) if chance(rng, 0.88) else log_uniform(rng, 1.1, 2.2)
    greys = (uniform(rng, 0.0, 0.34), uniform(rng, 0.55, 0.97))
    if chance(rng, 0.12):
        greys = (uniform(rng, 0.2, 0.4), uniform(rng, 0.45, 0.6))
    shifts = None
    if chance(rng, 0.12):
        # Capped: the largest of the drawn deviations is the limit for a single row as well.
        raw = row_shifts(rng, canvas.size, log_uniform(rng, 0.05, DRIFT_CAP), log_uniform(rng, 2, 20) * scale)
        skew = uniform(rng, -0.02, 0.02) * (canvas.axis - 64.0)
        shifts = ((np.clip(raw, -DRIFT_CAP, DRIFT_CAP) + skew) * scale).astype(np.float32)
    return Optics(
        pattern=brightness_pattern(rng, canvas.size, integer(rng, 2, 5)) if uneven else None,
        pattern_strength=uniform(rng, 0.03, 0.35),
        vignette=uniform(rng, 0, 0.5) if chance(rng, 0.12) else 0.0,
        charging=(uniform(rng, 0.03, 0.15), uniform(rng, 8, 25) * scale) if chance(rng, 0.1) else None,
        shifts=shifts,
        blur=min(sigma, max(0.35, feature / 7)) * scale,
        astigmatism=log_uniform(rng, 0.8, 1.25),
        percentiles=(uniform(rng, 0, 2), uniform(rng, 98, 100)),
        greys=greys,
        gamma=log_uniform(rng, 0.75, 1.4),
    )


@dataclass(frozen=True)
class Recording:
    """Drawn strengths of noise, resampling and file format; σ in full-scale units, lengths in pixels."""

    sigma: float
    signal_dependent: bool
    correlation: float
    row_sigma: float
    low_size: int
    low_filters: tuple[str, str]
    unsharp: float
    quality: int

    def noisy(self, rng: Rng, image: Field) -> Field:
        """Return the image with noise."""
        image = shot_noise(rng, image, self.sigma, self.signal_dependent, self.correlation)
        return row_noise(rng, image, self.row_sigma) if self.row_sigma else image

    def stored(self, image: Field, scale: float) -> np.ndarray:
        """Return the uint8 image after resampling, sharpening and compression."""
        if self.low_size:
            image = low_resolution(image, self.low_size, *self.low_filters)
        if self.unsharp:
            image = unsharp(image, self.unsharp, scale)
        quantised = to_bytes(image)
        return jpeg(quantised, self.quality) if self.quality else quantised


def sample_noise_sigma(rng: Rng) -> float:
    """Draw a noise σ: none 12 %, LU(.003, .012) 50 %, LU(.012, .04) 30 %, LU(.04, .13) 8 %."""
    level = pick(rng, {"none": 12, "low": 50, "middle": 30, "high": 8})
    bounds = {"low": (0.003, 0.012), "middle": (0.012, 0.04), "high": (0.04, 0.13)}
    return log_uniform(rng, *bounds[level]) if level in bounds else 0.0


def sample_recording(rng: Rng, canvas: Canvas, noise_factor: float = 1.0) -> Recording:
    """Draw the strengths of the last steps; ``noise_factor`` scales the noise down for faint defects."""
    scale = canvas.scale
    low_size = 0
    if chance(rng, 0.2):
        low_size = round(uniform(rng, 48, 110) * scale)
    elif canvas.size > 128 and chance(rng, 0.35):
        # Many real images are stored at about 128 px and enlarged afterwards.
        low_size = integer(rng, 112, min(160, canvas.size))
    return Recording(
        sigma=sample_noise_sigma(rng) * noise_factor,
        signal_dependent=chance(rng, 0.7),
        correlation=uniform(rng, 0.4, 1.2) * scale if chance(rng, 0.45) else 0.0,
        row_sigma=log_uniform(rng, 0.003, 0.015) * noise_factor if chance(rng, 0.08) else 0.0,
        low_size=low_size,
        low_filters=(
            pick(rng, {"box": 1, "bilinear": 1}),
            pick(rng, {"nearest": 0.5, "bilinear": 2, "bicubic": 3}),
        ),
        unsharp=uniform(rng, 0.3, 1.0) if chance(rng, 0.12) else 0.0,
        quality=integer(rng, 35, 92) if chance(rng, 0.3) else 0,
    )


@dataclass(frozen=True)
class Exposure:
    """An imaged scene: ``image`` uint8 (S, S) and ``mask`` float32 moved along with it.

    All in full-scale units: ``contrast`` is the mean absolute (painted defects: signed) grey difference to the twin
    over the mask before noise, None without a twin; ``noise`` the deviation of the noise there; ``structure`` the
    deviation of the whole picture before noise.
    """

    image: np.ndarray
    mask: Field
    contrast: float | None
    noise: float
    structure: float
    params: dict[str, Any] = field(default_factory=dict)


def image_scene(rng: Rng, scene: Scene, canvas: Canvas, noise_factor: float = 1.0) -> Exposure:
    """Draw imaging conditions and apply them in order: optics, grey scale, noise, storage."""
    optics = sample_optics(rng, canvas, scene.feature)
    recording = sample_recording(rng, canvas, noise_factor)
    projected = optics.project(scene.signal)
    bounds = optics.range_of(projected)
    clear = optics.to_grey(projected, bounds)
    noisy = recording.noisy(rng, clear)
    mask = optics.move(scene.mask)
    inside = mask > 0.5
    contrast, noise = None if scene.twin is None else 0.0, 0.0
    if inside.any():
        noise = float((noisy[inside] - clear[inside]).std())
        if scene.twin is not None:
            plain = optics.to_grey(optics.project(scene.twin), bounds)
            change = clear[inside] - plain[inside]
            contrast = float(np.abs(change).mean())
            gain = (optics.greys[1] - optics.greys[0]) / (bounds[1] - bounds[0])
            noise = math.hypot(noise, gain * scene.clutter)
            if scene.painted:
                contrast = abs(float(change.mean()))
                noise = math.hypot(noise, CLUTTER_SHARE * float(plain[inside].std()))
    return Exposure(
        recording.stored(noisy, canvas.scale),
        mask,
        contrast,
        noise,
        float(clear.std()),
        _record(optics, recording, contrast, noise),
    )


def _record(optics: Optics, recording: Recording, contrast: float | None, noise: float) -> dict[str, Any]:
    """Return the drawn strengths as JSON values."""
    return {
        "uneven": round(optics.pattern_strength, 4) if optics.pattern is not None else 0.0,
        "vignette": round(optics.vignette, 4),
        "charging": [round(value, 4) for value in optics.charging or ()],
        "drift_px": 0.0 if optics.shifts is None else round(float(optics.shifts.std()), 4),
        "blur_px": round(optics.blur, 4),
        "astigmatism": round(optics.astigmatism, 4),
        "greys": [round(value, 4) for value in optics.greys],
        "gamma": round(optics.gamma, 4),
        "noise_sigma": round(recording.sigma, 5),
        "noise_correlation_px": round(recording.correlation, 4),
        "signal_dependent": recording.signal_dependent,
        "row_sigma": round(recording.row_sigma, 5),
        "low_size": recording.low_size,
        "unsharp": round(recording.unsharp, 4),
        "jpeg_quality": recording.quality,
        "contrast": None if contrast is None else round(contrast, 5),
        "noise": round(noise, 5),
    }
