"""How a cheap model and a full one answer together: the full one is asked where the cheap one is unsure."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semdefect.edge.checks import digits, field, number, wrong
from semdefect.edge.guard import Guard

#: What the export stage calls the cheap model's file, beside the full one's.
CHEAP = "student_fast.onnx"


def unsure(probabilities: ArrayLike, enough: float) -> NDArray[np.bool_]:
    """Whether the full model is asked, ``[N]``, by calibrated ``probabilities [N, classes]`` of the cheap one."""
    return np.asarray(np.asarray(probabilities).max(axis=-1) < enough)


@dataclass(frozen=True)
class Pair:
    """What the file of a cheap model says of its use with a full one.

    Attributes:
        full_sha256: hash of the checkpoint that the full model's file was exported from, 64 hexadecimal digits.
        enough: confidence of the cheap model from which on its answer stands; >= 0, above 1 the full one is always
            asked.
        guard: of what both answer together.

    Raises:
        UserError: when a value is outside its range, naming the field.
    """

    full_sha256: str
    enough: float
    guard: Guard

    def __post_init__(self) -> None:
        """Check the fields."""
        digits(self.full_sha256, "pairs.full_sha256")
        object.__setattr__(self, "enough", number(self.enough, "pairs.enough", 0.0, math.inf))

    def unsure(self, probabilities: ArrayLike) -> NDArray[np.bool_]:
        """Whether the full model is asked, ``[N]``; see the function `unsure`."""
        return unsure(probabilities, self.enough)

    def content(self) -> dict[str, Any]:
        """What `from_content` reads, as JSON can hold it."""
        return {"full_sha256": self.full_sha256, "enough": self.enough, "guard": self.guard.content()}

    @classmethod
    def from_content(cls, content: Any) -> "Pair":
        """Read what `content` gave.

        Raises:
            UserError: when it is something else, naming the field.
        """
        if not isinstance(content, dict):
            raise wrong("pairs", "JSON objects", content)
        full_sha256, enough, guard = (field(content, name, "pairs.") for name in ("full_sha256", "enough", "guard"))
        return cls(full_sha256, enough, Guard.from_content(guard))
