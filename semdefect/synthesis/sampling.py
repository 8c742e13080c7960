"""Draws of single numbers and names. Every function takes the image's own generator, which keeps what it drew."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Rng = np.random.Generator
T = TypeVar("T")
N = TypeVar("N", bound=np.generic)


class Draws(np.random.Generator):
    """A generator that remembers what the functions of this module drew with it, and for whom.

    ``log`` holds a pair for each draw, in order: the function it was drawn for, as ``devices._comb``, and the value.
    Fields of noise are no parameters and are not kept; the seed draws them again.
    """

    def __init__(self, seeds: np.random.SeedSequence) -> None:
        """Start where ``np.random.default_rng(seeds)`` starts."""
        super().__init__(np.random.PCG64(seeds))
        self.log: list[tuple[str, Any]] = []

    def parameters(self) -> list[list[Any]]:
        """Return the log as JSON values, ``[function, value, value, ...]`` for each run of draws of one function."""
        runs: list[list[Any]] = []
        for place, value in self.log:
            if not runs or runs[-1][0] != place:
                runs.append([place])
            runs[-1].append(_json_value(value))
        return runs


def _json_value(value: Any) -> Any:
    """Return a drawn value as JSON can hold it; numbers to six digits, functions by name."""
    if isinstance(value, np.ndarray):
        return _json_value(value.ravel().tolist())
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, list | tuple):
        return [_json_value(part) for part in value]
    return value if isinstance(value, str | int | None) else getattr(value, "__name__", str(value))


def _kept(rng: Rng, value: T) -> T:
    """Return ``value`` after noting it down for the function that called the caller of this one."""
    if isinstance(rng, Draws):
        frame = sys._getframe(2)
        while frame.f_code.co_name.startswith("<") and frame.f_back:  # a comprehension is part of its function
            frame = frame.f_back
        place = f"{frame.f_globals['__name__'].rpartition('.')[2]}.{frame.f_code.co_name}"
        rng.log.append((place, value.copy() if isinstance(value, np.ndarray) else value))
    return value


def recorded(rng: Rng, values: NDArray[N]) -> NDArray[N]:
    """Return an array drawn with ``rng``, noted down as parameters: the jitter of a few cells, not a field of noise."""
    return _kept(rng, values)


def uniform(rng: Rng, low: float, high: float) -> float:
    """Return a number from U(low, high), as a Python float so that float32 arrays stay float32."""
    return _kept(rng, float(rng.uniform(low, high)))


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """Return a number whose logarithm is uniform between ``log(low)`` and ``log(high)``; both positive."""
    return _kept(rng, float(np.exp(rng.uniform(np.log(low), np.log(high)))))


def normal(rng: Rng, mean: float = 0.0, sigma: float = 1.0) -> float:
    """Return a normal deviate."""
    return _kept(rng, float(rng.normal(mean, sigma)))


def clipped_normal(rng: Rng, mean: float, sigma: float, low: float, high: float) -> float:
    """Return a normal deviate, clipped to [low, high]."""
    return _kept(rng, float(min(max(rng.normal(mean, sigma), low), high)))


def integer(rng: Rng, low: int, high: int) -> int:
    """Return an integer from low to high, both included."""
    return _kept(rng, int(rng.integers(low, high + 1)))


def chance(rng: Rng, probability: float) -> bool:
    """Return True with the given probability."""
    return _kept(rng, bool(rng.random() < probability))


def sign(rng: Rng) -> float:
    """Return -1 or +1."""
    return _kept(rng, 1.0 if rng.random() < 0.5 else -1.0)


def pick(rng: Rng, weights: Mapping[T, float]) -> T:
    """Return one key of ``weights``, drawn in proportion to its weight (≥ 0, any sum > 0)."""
    draw = rng.random() * sum(weights.values())
    for key, weight in weights.items():
        draw -= weight
        if draw < 0:
            return _kept(rng, key)
    return _kept(rng, key)


def one_of(rng: Rng, items: Sequence[T]) -> T:
    """Return one item, all equally likely."""
    return _kept(rng, items[int(rng.integers(len(items)))])
