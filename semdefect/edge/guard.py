"""The guard: which predictions are accepted, and why a person has to look at the others."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semdefect.edge.checks import field, number, wrong

#: Why a person has to look at an image; the first means that it is accepted.
REASONS = ("", "ambiguous", "unknown", "blank", "hurried")
#: Their numbers, `Guard.codes`; the last is not a guard's but of adaptive inference that ran out of time.
ACCEPTED, AMBIGUOUS, UNKNOWN, BLANK, HURRIED = range(5)


@dataclass(frozen=True)
class Guard:
    """Thresholds, and what they promise.

    Attributes:
        thresholds: for each class, the confidence from which on a prediction of it is accepted; >= 0, and above 1
            the guard accepts none.
        unknown: an image whose score, 0..1, is above this is unlike anything that was trained on.
        target_purity: share of accepted predictions that should be right, 0..1.
        confidence: probability, over validation images drawn anew, that the thresholds keep ``target_purity``, 0..1.

    Raises:
        UserError: when a value is outside its range, naming the field.
    """

    thresholds: tuple[float, ...]
    unknown: float
    target_purity: float
    confidence: float

    def __post_init__(self) -> None:
        """Check every field, so that neither a writer nor a reader can hold an invalid one."""
        if not isinstance(self.thresholds, (list, tuple)):
            raise wrong("guard.thresholds", "a list of numbers", self.thresholds)
        thresholds = tuple(number(value, "guard.thresholds", 0.0, math.inf) for value in self.thresholds)
        object.__setattr__(self, "thresholds", thresholds)
        object.__setattr__(self, "unknown", number(self.unknown, "guard.unknown", 0.0, math.inf))
        for name in ("target_purity", "confidence"):
            object.__setattr__(self, name, number(getattr(self, name), f"guard.{name}", 0.0, 1.0))

    def codes(self, probabilities: ArrayLike, unknown: ArrayLike, blank: ArrayLike = False) -> NDArray[np.int64]:
        """`ACCEPTED`, `AMBIGUOUS`, `UNKNOWN` or `BLANK` for each image, ``[N]``.

        Args:
            probabilities: calibrated, ``[N, classes]``.
            unknown: the model's score of each image, ``[N]``, 0..1; higher is stranger.
            blank: whether each image shows nothing, ``[N]``.
        """
        table = np.asarray(probabilities, dtype=np.float64)
        sure = table.max(axis=1) >= np.array(self.thresholds)[table.argmax(axis=1)]
        codes = np.where(sure, ACCEPTED, AMBIGUOUS)
        codes = np.where(np.asarray(unknown) > self.unknown, UNKNOWN, codes)
        return np.where(blank, BLANK, codes)

    def content(self) -> dict[str, Any]:
        """What `from_content` reads, as JSON can hold it."""
        return {
            "thresholds": list(self.thresholds),
            "unknown": self.unknown,
            "target_purity": self.target_purity,
            "confidence": self.confidence,
        }

    @classmethod
    def from_content(cls, content: Any) -> "Guard":
        """Read what `content` gave.

        Raises:
            UserError: when it is something else, naming the field.
        """
        if not isinstance(content, dict):
            raise wrong("guard", "a JSON object", content)
        names = ("thresholds", "unknown", "target_purity", "confidence")
        return cls(*(field(content, name, "guard.") for name in names))
