"""The frame that scenes are drawn on.

Lengths in scenes are *units*: 1/128 of the frame, that is one pixel of a 128 × 128 image. A canvas of any
size holds the coordinates of its pixel centres in units, so a scene drawn from the same numbers looks the
same at 64, 128 or 224 px (noise and textures draw a number a pixel, so one seed gives other numbers at
another size). Only filters, which work in pixels, need ``scale``.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: An array of float32. numpy's stubs widen many float32 results to float64, so the type says only floating.
Field = NDArray[np.floating[Any]]

#: Frame width and height in units.
FRAME = 128.0
#: Stands for "far outside" in signed distances; small enough to keep float32 precision in smooth unions.
FAR = -200.0


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels for ``array[window.index]``; ``x``, ``y`` are its coordinates in units."""

    index: tuple[slice, slice]
    x: Field
    y: Field


class Canvas:
    """A square frame of ``size`` × ``size`` pixels with coordinates in units.

    Attributes: ``x``, ``y`` (size, size) and ``axis`` (size,), float32 pixel centres in [0, 128]; ``scale``
    in pixels per unit.
    """

    def __init__(self, size: int) -> None:
        """Lay out the coordinate grids; use :func:`canvas_of` to share them between images."""
        self.size = size
        self.scale = size / FRAME
        self.axis: Field = ((np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(self.scale)).astype(
            np.float32
        )
        self.x: Field = np.ascontiguousarray(np.broadcast_to(self.axis[None, :], (size, size)))
        self.y: Field = np.ascontiguousarray(np.broadcast_to(self.axis[:, None], (size, size)))
        for grid in (self.axis, self.x, self.y):
            grid.flags.writeable = False

    def full(self, value: float = 0.0) -> Field:
        """Return a new (size, size) float32 field of one value."""
        return np.full((self.size, self.size), value, np.float32)

    def window(self, cx: float, cy: float, reach_x: float, reach_y: float) -> Window:
        """Return the pixels within ``reach`` units of (cx, cy), clipped to the frame (perhaps none)."""
        rows = self._span(cy - reach_y, cy + reach_y)
        cols = self._span(cx - reach_x, cx + reach_x)
        return Window((rows, cols), self.x[rows, cols], self.y[rows, cols])

    def _span(self, low: float, high: float) -> slice:
        start = min(max(int(low * self.scale), 0), self.size)
        stop = min(max(int(high * self.scale) + 1, start), self.size)
        return slice(start, stop)


@lru_cache(maxsize=8)
def canvas_of(size: int) -> Canvas:
    """Return the shared canvas of this size; its grids are read-only."""
    return Canvas(size)
