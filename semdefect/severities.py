"""Fourteen kinds of damage to an SEM image, each at five severities, none of which changes the class.

spoilt = corrupted(image, "defocus", severity=3, seed=1)      # uint8 [S, S], as the image

The plan, kinds times five severities and a mean over all, is that of Hendrycks, Dietterich, "Benchmarking Neural
Network Robustness to Common Corruptions and Perturbations", 2019; the kinds are those of an electron microscope.

What keeps the class. Lines 6 units apart (a unit is 1/128 of the frame) keep a tenth of their contrast under the
strongest blur, and the finest that the renderer draws, 4.5 apart, are not aliased. Noise stays near what it draws
itself. Rows move by no more than 0.3 units out of line, above which straight lines become rough ones
(`semdefect.synthesis.imaging.DRIFT_CAP`); a constant drift bends nothing. A class says what is there, not in which
direction, and corners that turn out of the picture hold few defects; overlays are thin strokes near the border. How
many defects these hide, and how each severity looks to a student: docs/robustness.md.
"""

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.signal import fftconvolve

from semdefect.errors import UserError
from semdefect.synthesis import imaging
from semdefect.synthesis.canvas import FRAME
from semdefect.synthesis.imaging import DRIFT_CAP

#: Severities run from 1 to this.
SEVERITIES = 5
#: Length of charging streaks, in units; as in `semdefect.synthesis.corrupt`.
_STREAK = 15.0
#: Width of a beam along the line where it is in focus, standard deviation in units.
_SHARP = 0.3
#: Percentiles that count as the darkest and the brightest grey.
_ENDS = (1, 99)

Pixels = NDArray[np.uint8]
Grey = NDArray[np.floating[Any]]
Rng = np.random.Generator


@dataclass(frozen=True)
class Corruption:
    """One kind of damage.

    Attributes:
        apply: generator, image uint8 ``[S, S]`` and strength → the damaged image, of the same type and shape.
        strengths: at severities 1 to 5.
        unit: what a strength means, and in which unit.
    """

    apply: Callable[[Rng, Pixels, float], Pixels]
    strengths: tuple[float, float, float, float, float]
    unit: str


def corrupted(image: Pixels, kind: str, severity: int, seed: int) -> Pixels:
    """A damaged copy of ``image``.

    The same arguments give the same bytes. What is drawn (noise, direction, place) is the same at each severity.

    Args:
        image: uint8 ``[S, S]``.
        kind: a key of `CORRUPTIONS`.
        severity: 1 to 5.
        seed: of this image; >= 0.

    Raises:
        UserError: no such kind or severity.
        ValueError: the image has another shape or type.
    """
    if kind not in CORRUPTIONS:
        raise UserError(f"unknown corruption {kind!r}: use one of {', '.join(CORRUPTIONS)}")
    if severity not in range(1, SEVERITIES + 1):
        raise UserError(f"severity {severity} of {kind}: use 1 to {SEVERITIES}")
    if image.ndim != 2 or image.shape[0] != image.shape[1] or image.dtype != np.uint8:
        raise ValueError(f"expected a square uint8 image, got {image.dtype} {list(image.shape)}")
    corruption = CORRUPTIONS[kind]
    rng = np.random.default_rng([seed, zlib.crc32(kind.encode())])  # another kind in the list changes no other
    return corruption.apply(rng, image, corruption.strengths[severity - 1])


def _on_grey(change: Callable[[Rng, Grey, float], Grey]) -> Callable[[Rng, Pixels, float], Pixels]:
    """A change of greys in [0, 1] as one of bytes."""

    def apply(rng: Rng, image: Pixels, strength: float) -> Pixels:
        return imaging.to_bytes(change(rng, image.astype(np.float32) * np.float32(1 / 255), strength))

    return apply


def _beam_blur(_: Rng, image: Grey, sigma: float) -> Grey:
    return imaging.beam_blur(image, sigma * _scale(image))


def _defocus(_: Rng, image: Grey, radius: float) -> Grey:
    """Convolve with a disk, its rim softened over a pixel."""
    radius *= _scale(image)
    x, y = _kernel_grid(radius + 1)
    return _convolved(image, np.clip(radius + 0.5 - np.hypot(x, y), 0, 1))


def _astigmatism(rng: Rng, image: Grey, sigma: float) -> Grey:
    """Convolve with a Gaussian line in a random direction."""
    angle, scale = rng.uniform(0, math.pi), _scale(image)
    x, y = _kernel_grid(3 * sigma * scale)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    return _convolved(image, np.exp(-0.5 * ((along / (sigma * scale)) ** 2 + (across / (_SHARP * scale)) ** 2)))


def _charging(_: Rng, image: Grey, strength: float) -> Grey:
    return imaging.charging(image, strength, _STREAK * _scale(image))


def _drift(rng: Rng, image: Grey, skew: float) -> Grey:
    """Shift each row further than the last, as a stage does that moves during the scan."""
    return imaging.drift(rng, image, 0.0, 1.0, skew * rng.choice([-1, 1]))


def _vibration(rng: Rng, image: Grey, amplitude: float) -> Grey:
    """Shift the rows by a sine of 3 to 12 units."""
    scale, rows = _scale(image), np.arange(len(image), dtype=np.float32)
    period, phase = rng.uniform(3, 12) * scale, rng.uniform(0, 2 * math.pi)
    shifts = amplitude * scale * np.sin(2 * math.pi / period * rows + phase)
    return imaging.shift_rows(image, shifts.astype(np.float32))


def _contrast(_: Rng, image: Grey, left: float) -> Grey:
    low, high = np.percentile(image, _ENDS)
    return imaging.contrast_loss(image, min(1.0, left / max(float(high - low), 1 / 255)))


def _brightness(rng: Rng, image: Grey, share: float) -> Grey:
    """Move all greys up or down until a share of their range, or of the pixels, is out of scale and so is clipped."""
    bright = rng.random() < 0.5
    low, level, high = np.percentile(image, (_ENDS[0], 100 * (1 - share if bright else share), _ENDS[1]))
    out = share * (high - low)
    offset = 1 - max(high - out, level) if bright else -min(low + out, level)
    return image + np.float32(offset)


def _resolution(_: Rng, image: Grey, units: float) -> Grey:
    return imaging.low_resolution(image, round(len(image) / (units * _scale(image))))


def _jpeg(_: Rng, image: Pixels, quality: float) -> Pixels:
    return imaging.jpeg(image, round(quality))


def _rotation(rng: Rng, image: Pixels, degrees: float) -> Pixels:
    """Turn either way, with black or white corners, as the renderer's overlay of that name."""
    angle, corner = degrees * rng.choice([-1, 1]), int(rng.choice([0, 255]))
    return np.asarray(Image.fromarray(image).rotate(angle, Image.Resampling.BICUBIC, fillcolor=corner))


def _scale_bar(rng: Rng, image: Pixels, length: float) -> Pixels:
    """Draw a bar at the bottom with its length above; both grow together."""
    picture, grey, zoom = Image.fromarray(image), int(rng.choice([0, 255])), _scale(image)
    thick, high = 1 + length / 40, 5 + length / 20
    left, top = rng.uniform(2, FRAME - 2 - length), FRAME - 2 - thick
    text = f"{rng.integers(1, 500)} {rng.choice(['nm', 'um'])}"
    pen = ImageDraw.Draw(picture)
    pen.rectangle([value * zoom for value in (left, top, left + length, top + thick)], fill=grey)
    pen.text((left * zoom, (top - 1) * zoom), text, grey, font_size=high * zoom, anchor="lb")
    return np.asarray(picture)


def _text(rng: Rng, image: Pixels, lines: float) -> Pixels:
    """Write what a microscope writes about itself, lines of 7 units into one of the corners."""
    picture, grey, zoom = Image.fromarray(image), int(rng.choice([0, 255])), _scale(image)
    right, bottom = rng.random(2) < 0.5
    words = [
        f"HV {rng.integers(1, 30)}.0 kV",
        f"mag {rng.integers(10, 500)},000 x",
        f"WD {rng.uniform(2, 9):.1f} mm",
        f"tilt {rng.integers(0, 53)} deg",
        f"lot {rng.integers(1000, 9999)}-{rng.integers(1, 26)}",
    ][: round(lines)]
    place = (FRAME - 2 if right else 2) * zoom, (FRAME - 2 if bottom else 2) * zoom
    anchor, side = ("r" if right else "l") + ("d" if bottom else "a"), "right" if right else "left"
    ImageDraw.Draw(picture).text(place, "\n".join(words), grey, font_size=7 * zoom, anchor=anchor, align=side)
    return np.asarray(picture)


def _scale(image: NDArray[Any]) -> float:
    """Pixels in a unit."""
    return float(image.shape[1] / FRAME)


def _kernel_grid(reach: float) -> tuple[Grey, Grey]:
    """Coordinates x and y in px of a kernel that reaches at least that far."""
    steps = np.arange(-math.ceil(reach), math.ceil(reach) + 1, dtype=np.float32)
    return steps[None, :], steps[:, None]


def _convolved(image: Grey, kernel: Grey) -> Grey:
    """Convolve with a kernel that is scaled to sum one, the border repeated outwards."""
    padded = np.pad(image, len(kernel) // 2, mode="edge")
    return fftconvolve(padded, (kernel / kernel.sum()).astype(np.float32), mode="valid")


#: Every kind, by name. A unit is 1/128 of the frame, 1.75 px at 224 px.
CORRUPTIONS: dict[str, Corruption] = {
    "shot_noise": Corruption(
        _on_grey(imaging.shot_noise), (0.03, 0.06, 0.09, 0.12, 0.16), "standard deviation at mid grey, full scale 1"
    ),
    "beam_blur": Corruption(
        _on_grey(_beam_blur), (0.5, 0.75, 1.0, 1.25, 1.5), "standard deviation of the beam in units"
    ),
    "defocus": Corruption(_on_grey(_defocus), (1.0, 1.4, 1.8, 2.1, 2.4), "radius of the disk in units"),
    "astigmatism": Corruption(
        _on_grey(_astigmatism),
        (0.6, 0.9, 1.2, 1.6, 2.0),
        "standard deviation of the beam along its longer axis in units",
    ),
    "charging": Corruption(
        _on_grey(_charging), (0.06, 0.12, 0.2, 0.3, 0.4), "share of the bright areas' excess that is lost behind them"
    ),
    "drift": Corruption(_on_grey(_drift), (0.03, 0.06, 0.1, 0.14, 0.18), "shift of a row against the last, in rows"),
    "vibration": Corruption(
        _on_grey(_vibration), (0.1, 0.15, 0.2, 0.25, DRIFT_CAP), "amplitude of the row shifts in units"
    ),
    "contrast": Corruption(
        _on_grey(_contrast), (0.3, 0.18, 0.12, 0.09, 0.07), "range of greys that is left, full scale 1"
    ),
    "brightness": Corruption(
        _on_grey(_brightness),
        (0.1, 0.2, 0.3, 0.4, 0.5),
        "share of the range of greys, or of the pixels, that is clipped",
    ),
    "resolution": Corruption(_on_grey(_resolution), (1.0, 1.4, 1.7, 1.9, 2.1), "side of a recorded pixel in units"),
    "jpeg": Corruption(_jpeg, (40, 25, 16, 11, 8), "quality, 1 to 95"),
    "rotation": Corruption(_rotation, (4, 8, 12, 16, 20), "angle in degrees"),
    "scale_bar": Corruption(_scale_bar, (16, 28, 44, 64, 90), "length of the bar in units"),
    "text": Corruption(_text, (1, 2, 3, 4, 5), "lines of text"),
}
