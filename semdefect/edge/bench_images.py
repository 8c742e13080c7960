"""Images to measure speed with: always the same bytes, and as hard to decode as real SEM images."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Sides in pixels: what image collections hold, and what microscopes write.
SIDES = (128, 1024)

#: Electrons a pixel at full white, and lines across an image.
_DOSE, _LINES = 300, 5

#: The detector is slower than the beam: neighbours on a scan line share noise. With these weights a PNG takes 0.6 bytes
#: a pixel; half of 415 real gray images of 128 x 128 take 0.46 to 0.61. Without them it would take 0.75.
_DETECTOR = (0.4, 0.35, 0.25)


def write_images(folder: Path) -> list[Path]:
    """Write one 8-bit gray PNG a side of ``SIDES`` to ``folder``; their paths."""
    paths = [folder / f"{side}.png" for side in SIDES]
    for path, side in zip(paths, SIDES, strict=True):
        Image.fromarray(sem_like(side)).save(path)
    return paths


def sem_like(side: int) -> NDArray[np.uint8]:
    """Rough lines with bright edges under shot noise, uint8 ``[side, side]``; the same for the same ``side``."""
    y, x = np.mgrid[:side, :side] / side
    roughness = 0.006 * np.sin(2 * np.pi * 5.3 * y) + 0.003 * np.sin(2 * np.pi * 17.9 * y)
    wave = np.sin(2 * np.pi * _LINES * (x + roughness))
    bright = 0.35 + 0.2 * np.tanh(4 * wave) + 0.3 * np.exp(-((wave / 0.25) ** 2))
    electrons = np.random.default_rng(0).poisson(_DOSE * bright * (1 - 0.15 * y)) / _DOSE
    seen = sum(weight * np.roll(electrons, shift, axis=1) for shift, weight in enumerate(_DETECTOR))
    return np.clip(np.rint(255 * seen), 0, 255).astype(np.uint8)
