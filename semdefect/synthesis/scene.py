"""What a defect family draws: the signal before imaging, its defect-free twin and the defect's mask."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .canvas import Field


@dataclass(frozen=True)
class Scene:
    """One scene before imaging; all arrays (S, S) float32.

    ``signal`` is in arbitrary grey units, roughly [0, 1]. ``twin`` is the same scene from the same random
    numbers with the defect off, or None where no such scene exists. ``mask`` is the defect's coverage in
    [0, 1]. ``feature`` is the smallest pitch or line period in units; it limits the blur. ``structural``
    marks scenes that carry their class as a whole (roughness, odd structures): no local mask, and a milder
    visibility gate. ``painted`` marks defects of one grey on a section whose own texture could hide them.
    ``clutter`` is the deviation of a pattern's surface texture, which hides defects as noise does. ``twin_params``
    holds the parameters that are others in the twin.
    """

    signal: Field
    twin: Field | None
    mask: Field
    kind: str
    feature: float = 99.0
    structural: bool = False
    painted: bool = False
    clutter: float = 0.0
    params: dict[str, Any] = field(default_factory=dict)
    twin_params: dict[str, Any] = field(default_factory=dict)

    def defect_off(self) -> "Scene":
        """Return the defect-free twin as a scene of its own, with an empty mask."""
        if self.twin is None:
            raise ValueError(f"scene {self.kind} has no defect-free twin")
        params = self.params | self.twin_params
        return replace(
            self, signal=self.twin, twin=None, mask=np.zeros_like(self.mask), structural=False, params=params
        )
