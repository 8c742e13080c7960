"""Adaptive inference: a cheap model answers, and a full one where the cheap one is unsure and there is time for it.

classifier = AdaptiveClassifier(EdgeClassifier("student_fast.onnx"), EdgeClassifier("student_w8.onnx"))
prediction = classifier.classify("wafer.png")
print(prediction.label, prediction.escalated)
"""

import hashlib
from collections import deque
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image

from semdefect.edge.classifier import Classifier, EdgeClassifier, Prediction, predicted, tensor_of
from semdefect.edge.guard import HURRIED, REASONS
from semdefect.edge.image import SIZE, is_blank
from semdefect.edge.pair import CHEAP
from semdefect.errors import UserError

#: How many of the newest measurements tell how much longer the full model takes than the cheap one.
_REMEMBERED = 9


class AdaptiveClassifier(Classifier):
    """Two models in turn. What the pair promises was certified for the pair (`semdefect.edge.pair`).

    Attributes:
        classes: class names in the order of the probabilities.
        sha256: hash of both files' hashes.
        images: how many were classified.
        escalated: for how many of them the full model was asked.
        hurried: for how many it would have been, but for the latency budget; all of those go to review.
    """

    def __init__(self, cheap: EdgeClassifier, full: EdgeClassifier, latency_budget_ms: float | None = None) -> None:
        """Use ``cheap`` first and ``full`` where it is unsure.

        With ``latency_budget_ms``, > 0, the full model is not asked where an image would take longer than that, from
        its pixels to its answer; decoding the file is not in it. How long the full model will take is told by how long
        the cheap one took just before: so on a busy processor fewer images are escalated.

        Raises:
            UserError: when the files are no pair, or the budget is not above 0.
        """
        if latency_budget_ms is not None and not latency_budget_ms > 0:
            raise UserError(f"latency budget: must be above 0 ms, not {latency_budget_ms:g}")
        pair = cheap.metadata.pairs.get(full.metadata.precision)
        fits = pair is not None and pair.full_sha256 == full.metadata.checkpoint_sha256
        if pair is None or not fits or cheap.classes != full.classes:
            raise UserError(
                f"{cheap.path}: was not exported to be asked before {full.path}; take both from one `dvc repro`, "
                f"{CHEAP} as the cheap model and any other as the full one"
            )
        self.classes = full.classes
        self.sha256 = hashlib.sha256(f"{cheap.sha256} {full.sha256}".encode()).hexdigest()
        self.images = self.escalated = self.hurried = 0
        self._cheap, self._full, self._pair = cheap, full, pair
        self._budget = latency_budget_ms
        self._usual = self._measured() if latency_budget_ms else 1.0
        self._times_as_long = deque([self._usual] * _REMEMBERED, maxlen=_REMEMBERED)

    def classify(self, image: str | Path | Image.Image) -> Prediction:
        """Classify one image file or Pillow image of any size and mode.

        Raises:
            UserError: when the image cannot be read; see ``semdefect.edge.image.open_gray``.
        """
        tensor = tensor_of(image)
        blank = is_blank(tensor)
        begin = perf_counter()
        logits, unknown = self._cheap.answers(tensor)
        probabilities = self._cheap.probabilities(logits)
        cheap = perf_counter() - begin
        self.images += 1
        alone = predicted(self.classes, self._pair.guard, probabilities, unknown, blank)
        if blank or not self._pair.unsure(probabilities)[0]:
            return alone
        if self._late(cheap):
            return self._in_a_hurry(alone)
        self.escalated += 1
        begin = perf_counter()
        logits, unknown = self._full.answers(tensor)
        self._times_as_long.append((perf_counter() - begin) / max(cheap, 1e-9))
        return predicted(self.classes, self._pair.guard, self._full.probabilities(logits), unknown, blank, True)

    def figures(self) -> dict[str, Any]:
        """The cheap file, the budget, and how often what happened, as JSON can hold it."""
        counts = {"images": self.images, "escalated": self.escalated, "hurried": self.hurried}
        return {"cheap": str(self._cheap.path), "latency_budget_ms": self._budget, **counts}

    def summary(self) -> str:
        """How often the full model was asked, in a sentence."""
        share = f" ({self.escalated / self.images:.1%})" if self.images else ""
        late = f"; {self.hurried} more were not, for want of time" if self.hurried else ""
        return f"adaptive: {self.escalated} of {self.images} images{share} asked the full model{late}"

    def _late(self, cheap: float) -> bool:
        """Whether the full model would end too late on an image for which the cheap one took so many seconds."""
        return self._budget is not None and 1000 * cheap * (1 + median(self._times_as_long)) > self._budget

    def _in_a_hurry(self, alone: Prediction) -> Prediction:
        """What the cheap model said, for review; what the full one was seen to take is forgotten by and by.

        Otherwise a single bad moment would end all escalation, after which nothing is measured any more.
        """
        self.hurried += 1
        self._times_as_long.append(self._usual)
        if alone.reason == "unknown":
            return alone
        return replace(alone, decision="review", reason=REASONS[HURRIED])

    def _measured(self) -> float:
        """How many times as long as the cheap model the full one takes, both warm."""
        grid = np.linspace(0, 1, SIZE * SIZE, dtype=np.float32).reshape(1, 1, SIZE, SIZE)
        times: list[list[float]] = []
        for _ in range(_REMEMBERED):
            times.append([])
            for model in (self._cheap, self._full):
                begin = perf_counter()
                model.answers(grid)
                times[-1].append(perf_counter() - begin)
        return median(full / max(cheap, 1e-9) for cheap, full in times[1:])
