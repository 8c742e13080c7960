"""Class-preserving variation of one real image: what another session at the same microscope could have given.

Nothing here may remove a defect or make one: shifts, warps and noise stay small, and smaller still for clean
and ler, whose difference is small movements of edges.
"""

import math
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import map_coordinates

from semdefect import CLASSES
from semdefect.errors import UserError

from .canvas import FRAME, Field
from .fields import resample
from .imaging import beam_blur, drift, jpeg, low_resolution, shot_noise, to_bytes
from .sampling import Rng, chance, integer, log_uniform, pick, uniform

#: Seen from above, these have no up or down; cross-sections do, and may not be turned by 90°.
TOP_DOWN = ("bridge", "cmp", "ler", "open")
#: Classes told apart by small movements of edges: jitter, warp and noise are halved.
DELICATE = ("clean", "ler")
#: Without a mask, more than this share of width and height is kept, so that the defect stays in the picture.
LEAST_CROP = 0.88


def augment(rng: Rng, image: np.ndarray, class_name: str) -> tuple[np.ndarray, dict[str, Any]]:
    """Return a varied copy (uint8, same shape) of a square uint8 image and the drawn parameters (JSON values)."""
    if class_name not in CLASSES:
        raise UserError(f"unknown class {class_name!r}: use one of {', '.join(CLASSES)}")
    if image.ndim != 2 or image.shape[0] != image.shape[1] or image.dtype != np.uint8:
        raise UserError(f"augmentation needs a square uint8 image, not {image.dtype} of shape {image.shape}")
    limit = 0.5 if class_name in DELICATE else 1.0
    params: dict[str, Any] = {}
    turned = _turned(rng, image, class_name, params)
    grey = turned.astype(np.float32) * np.float32(1 / 255)
    grey = _framed(rng, grey, params)
    grey = _moved(rng, grey, limit, params)
    grey = _toned(rng, grey, params)
    grey = _blurred(rng, grey, params)
    if chance(rng, 0.5):
        params["noise"] = round(log_uniform(rng, 0.004, 0.04 * limit), 5)
        grey = shot_noise(rng, grey, params["noise"], signal_dependent=chance(rng, 0.7))
    varied = to_bytes(grey)
    if chance(rng, 0.3):
        params["jpeg"] = integer(rng, 45, 92)
        varied = jpeg(varied, params["jpeg"])
    return varied, params


def _turned(rng: Rng, image: np.ndarray, class_name: str, params: dict[str, Any]) -> np.ndarray:
    """Flip, and turn top-down pictures by multiples of 90°."""
    params["flip_x"], params["flip_y"] = chance(rng, 0.5), chance(rng, 0.5)
    params["rot90"] = integer(rng, 0, 3) if class_name in TOP_DOWN else 0
    image = image[:, ::-1] if params["flip_x"] else image
    image = image[::-1] if params["flip_y"] else image
    return np.ascontiguousarray(np.rot90(image, params["rot90"]))


def _framed(rng: Rng, image: Field, params: dict[str, Any]) -> Field:
    """Rotate by up to ±8° and crop to 88–100 %, in one resampling; no corner lies outside the picture."""
    size = image.shape[0]
    degrees = uniform(rng, -8, 8) if chance(rng, 0.4) else 0.0
    share = uniform(rng, LEAST_CROP, 1.0)
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    share = min(share, 1.0 / (abs(c) + abs(s)))
    room = (1.0 - share * (abs(c) + abs(s))) * size / 2
    x, y = size / 2 + uniform(rng, -room, room), size / 2 + uniform(rng, -room, room)
    params["rotation"], params["crop"] = round(degrees, 3), round(share, 4)
    a, b = share * c, share * s
    affine = (a, b, x - (a + b) * size / 2, -b, a, y - (a - b) * size / 2)
    framed = Image.fromarray(image).transform((size, size), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)
    return np.asarray(framed, np.float32)


def _moved(rng: Rng, image: Field, limit: float, params: dict[str, Any]) -> Field:
    """Shift rows by up to .3 units RMS and warp smoothly by up to .5 units; ``limit`` scales both."""
    size = image.shape[0]
    scale = size / FRAME
    if chance(rng, 0.2):
        params["drift"] = round(uniform(rng, 0.03, 0.3) * limit, 4)
        image = drift(rng, image, params["drift"] * scale, log_uniform(rng, 2, 20) * scale)
    if chance(rng, 0.25):
        params["warp"] = round(uniform(rng, 0.1, 0.5) * limit, 4)
        # Cells of 16 units or more keep the warp smoother than any roughness.
        cells = integer(rng, 3, 8)
        shift = [resample(rng.uniform(-1, 1, (cells, cells)).astype(np.float32), size) for _ in range(2)]
        rows, cols = np.indices((size, size), np.float32)
        reach = params["warp"] * scale
        at = [rows + np.clip(shift[0], -1, 1) * reach, cols + np.clip(shift[1], -1, 1) * reach]
        image = map_coordinates(image, at, order=1, mode="nearest")
    return image


def _toned(rng: Rng, image: Field, params: dict[str, Any]) -> Field:
    """Change contrast ×.6–1.4, brightness ±15 % and gamma .75–1.4."""
    params["contrast"] = round(uniform(rng, 0.6, 1.4), 4)
    params["brightness"] = round(uniform(rng, -0.15, 0.15), 4)
    params["gamma"] = round(log_uniform(rng, 0.75, 1.4), 4)
    mean = float(image.mean())
    toned = np.clip(mean + params["contrast"] * (image - mean) + params["brightness"], 0.0, 1.0)
    return toned ** params["gamma"]


def _blurred(rng: Rng, image: Field, params: dict[str, Any]) -> Field:
    """Blur, or resample through 64–110 units; the total stays below a sixth of the period found in the image."""
    size = image.shape[0]
    scale = size / FRAME
    room = period_of(image) / 6
    if chance(rng, 0.35):
        params["blur"] = round(min(uniform(rng, 0.2, 0.8), 0.7 * room / scale), 4)
        image = beam_blur(image, params["blur"] * scale)
    elif chance(rng, 0.3):
        # Resampling through n of N pixels blurs by about .4 · N / n pixels.
        least = max(64.0, 0.4 * FRAME / max(room / scale, 0.3))
        if least < 110:
            params["resample"] = round(uniform(rng, least, 110) * scale)
            method = pick(rng, {"bilinear": 1, "bicubic": 1})
            image = low_resolution(image, params["resample"], "box", method)
    return image


def period_of(image: Field) -> float:
    """Return the strongest line period of an image in pixels, from the spectra of its row and column means.

    The frame's size stands for "no period"; slow changes over more than a quarter of the frame do not count.
    """
    size = image.shape[0]
    window = np.hanning(size).astype(np.float32)
    best_power, best_period = 0.0, float(size)
    for profile in (image.mean(axis=0), image.mean(axis=1)):
        power = np.abs(np.fft.rfft((profile - profile.mean()) * window)) ** 2
        power[:4] = 0.0
        peak = int(np.argmax(power))
        # Noise has a flat spectrum; lines stand out of it.
        if power[peak] > best_power and power[peak] > 8 * float(np.median(power[4:])):
            best_power, best_period = float(power[peak]), size / peak
    return best_period
