"""Draws of single numbers and names. Every function takes the image's own generator."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

Rng = np.random.Generator
T = TypeVar("T")


def uniform(rng: Rng, low: float, high: float) -> float:
    """Return a number from U(low, high), as a Python float so that float32 arrays stay float32."""
    return float(rng.uniform(low, high))


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """Return a number whose logarithm is uniform between ``log(low)`` and ``log(high)``; both positive."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def clipped_normal(rng: Rng, mean: float, sigma: float, low: float, high: float) -> float:
    """Return a normal deviate, clipped to [low, high]."""
    return float(min(max(rng.normal(mean, sigma), low), high))


def integer(rng: Rng, low: int, high: int) -> int:
    """Return an integer from low to high, both included."""
    return int(rng.integers(low, high + 1))


def chance(rng: Rng, probability: float) -> bool:
    """Return True with the given probability."""
    return bool(rng.random() < probability)


def sign(rng: Rng) -> float:
    """Return -1 or +1."""
    return 1.0 if rng.random() < 0.5 else -1.0


def pick(rng: Rng, weights: Mapping[T, float]) -> T:
    """Return one key of ``weights``, drawn in proportion to its weight (≥ 0, any sum > 0)."""
    draw = rng.random() * sum(weights.values())
    for key, weight in weights.items():
        draw -= weight
        if draw < 0:
            return key
    return key


def one_of(rng: Rng, items: Sequence[T]) -> T:
    """Return one item, all equally likely."""
    return items[int(rng.integers(len(items)))]
