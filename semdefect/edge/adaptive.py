"""Adaptive inference: a cheap model answers, and a full one where the cheap one is unsure and there is time for it.

classifier = AdaptiveClassifier(EdgeClassifier("student_fast.onnx"), EdgeClassifier("student_w8.onnx"))
prediction = classifier.classify("wafer.png")
print(prediction.label, prediction.escalated)
"""

import hashlib
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semdefect.edge.classifier import Classifier, EdgeClassifier, Prediction, predicted, tensor_of
from semdefect.edge.image import SIZE, is_blank
from semdefect.errors import UserError

#: A threshold that no confidence reaches.
_NEVER = 1.01
#: Share of the newest measurement in the running mean of how much longer the full model takes.
_NEWEST = 0.2


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
        being read to its answer. How long the full model will take is told by how long the cheap one took just before:
        so on a busy processor fewer images are escalated.

        Raises:
            UserError: when the files are no pair, or the budget is not above 0.
        """
        if latency_budget_ms is not None and not latency_budget_ms > 0:
            raise UserError(f"latency budget: must be above 0 ms, not {latency_budget_ms:g}")
        pair = cheap.metadata.pairs.get(full.metadata.precision)
        if pair is None or pair.full_sha256 != full.metadata.checkpoint_sha256:
            raise UserError(
                f"{cheap.path}: was not exported for use with {full.path}; pass two files of one `dvc repro`, the "
                f"cheap one student_fast.onnx"
            )
        self.classes = full.classes
        self.sha256 = hashlib.sha256(f"{cheap.sha256} {full.sha256}".encode()).hexdigest()
        self.images = self.escalated = self.hurried = 0
        self._cheap, self._full, self._pair = cheap, full, pair
        self._in_a_hurry = replace(pair.guard, thresholds=(_NEVER,) * len(self.classes))
        self._budget = None if latency_budget_ms is None else latency_budget_ms / 1000
        self._times_as_long = 1.0
        if self._budget is not None:
            self._warm_up()

    def classify(self, image: str | Path | Image.Image) -> Prediction:
        """Classify one image file or Pillow image of any size and mode.

        Raises:
            UserError: when the image cannot be read; see ``semdefect.edge.image.open_gray``.
        """
        begin = perf_counter()
        tensor = tensor_of(image)
        blank = is_blank(tensor)
        read = perf_counter()
        logits, unknown = self._cheap.answers(tensor)
        probabilities = self._cheap.probabilities(logits)
        now = perf_counter()
        self.images += 1
        unsure = bool(self._pair.unsure(probabilities)[0])
        if not unsure or blank:
            return predicted(self.classes, self._pair.guard, probabilities, unknown, blank)
        if self._budget is not None and now - begin + self._times_as_long * (now - read) > self._budget:
            self.hurried += 1
            return predicted(self.classes, self._in_a_hurry, probabilities, unknown, blank)
        self.escalated += 1
        logits, unknown = self._full.answers(tensor)
        self._learn_times(now - read, perf_counter() - now)
        return predicted(self.classes, self._pair.guard, self._full.probabilities(logits), unknown, blank, True)

    def summary(self) -> str:
        """How often the full model was asked, in a sentence."""
        share = f" ({self.escalated / self.images:.1%})" if self.images else ""
        late = f"; {self.hurried} more were not, for want of time" if self.hurried else ""
        return f"adaptive: {self.escalated} of {self.images} images{share} asked the full model{late}"

    def _warm_up(self) -> None:
        """Let both answer once before anything is timed, and once to be timed."""
        grid = np.linspace(0, 1, SIZE * SIZE, dtype=np.float32).reshape(1, 1, SIZE, SIZE)
        for model in (self._cheap, self._full):
            model.answers(grid)
        cheap, full = (_seconds(model, grid) for model in (self._cheap, self._full))
        self._times_as_long = full / cheap

    def _learn_times(self, cheap: float, full: float) -> None:
        self._times_as_long += _NEWEST * (full / cheap - self._times_as_long)


def _seconds(model: EdgeClassifier, batch: NDArray[np.float32]) -> float:
    begin = perf_counter()
    model.answers(batch)
    return perf_counter() - begin
