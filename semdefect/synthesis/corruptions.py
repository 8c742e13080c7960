"""Stated damage to finished images, for test sets that ask how much noise and blur a model bears."""

import numpy as np

from . import imaging
from .canvas import FRAME

#: Correlation of the row shifts and length of charging streaks, in units (px at 128).
_DRIFT_CORRELATION = 8.0
_STREAK = 15.0


def corrupt(
    image: np.ndarray,
    seed: int,
    shot_noise: float,
    blur: float,
    contrast: float,
    drift: float,
    charging: float,
) -> np.ndarray:
    """Return a uint8 (S, S) image after charging, drift, blur, contrast loss and noise, in this order.

    Noise σ is in full-scale units, ``blur`` and drift σ in px at 128 px frame width, ``contrast`` a factor (1 keeps
    it), charging a share of the brightest greys. Neutral strengths are 0, and 1 for contrast.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed]))
    scale = image.shape[1] / FRAME
    grey = image.astype(np.float32) * np.float32(1 / 255)
    if charging > 0:
        grey = imaging.charging(grey, charging, _STREAK * scale)
    if drift > 0:
        grey = imaging.drift(rng, grey, drift * scale, _DRIFT_CORRELATION * scale)
    grey = imaging.contrast_loss(imaging.beam_blur(grey, blur * scale), contrast)
    return imaging.to_bytes(imaging.shot_noise(rng, grey, shot_noise))
