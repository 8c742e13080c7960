"""The cross-section engine's brushes: filled shapes, outlines and layers in painter's order."""

import numpy as np

from .canvas import FRAME, Canvas, Field
from .fields import coverage, rough_edges
from .sampling import Rng, integer, log_uniform, uniform


def paint(image: Field, cover: Field, value: Field | float) -> Field:
    """Return the image with ``value`` (grey in full-scale units) laid over it where ``cover`` is 1."""
    return image + cover * (value - image)


def outline(image: Field, sdf: Field, strength: float, length: float) -> Field:
    """Return the image with a bright edge line: k·exp(−|e|/λ), ``length`` λ in units."""
    return image + strength * np.exp(np.abs(sdf) * (-1.0 / length))


def band(canvas: Canvas, top: float, bottom: float, wave: Field | float = 0.0) -> Field:
    """Return the coverage of a horizontal layer; ``wave`` (S,) bends both faces, in units."""
    return coverage(np.minimum(canvas.y - top - wave, bottom + wave - canvas.y))


def interface(rng: Rng, canvas: Canvas, sigma: float, xi: float, hurst: float = 0.7) -> Field:
    """Return a wavy face as heights (S,) in units about 0."""
    return rough_edges(rng, (canvas.size,), sigma, xi, hurst, 1.0 / canvas.scale)


def strata(rng: Rng, canvas: Canvas, most: int = 5) -> Field:
    """Draw a background (S, S) of up to ``most`` layers of random grey."""
    image = canvas.full(uniform(rng, 0.1, 0.4))
    for _ in range(integer(rng, 0, most)):
        top = uniform(rng, 0, FRAME)
        wave = interface(rng, canvas, uniform(rng, 0, 0.8), 8)
        image = paint(image, band(canvas, top, top + log_uniform(rng, 2, 40), wave), uniform(rng, 0.05, 0.9))
    return image
