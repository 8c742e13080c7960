"""What is timed: the device's own way from file to logits, and the plain recipe that most people would write.

Both have the same four calls. The plain recipe is Pillow's and ONNX Runtime's defaults: all cores, bicubic resize.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semdefect.edge.classifier import EdgeClassifier
from semdefect.edge.image import SIZE, open_gray, to_tensor


class Recipe(Protocol):
    """One way to classify images."""

    def decode(self, path: Path) -> Image.Image:
        """A file as a gray image of its own size."""
        ...

    def resize(self, gray: Image.Image) -> NDArray[np.float32]:
        """A gray image as float32 ``[1, 1, 224, 224]`` in [0, 1]."""
        ...

    def network(self, batch: NDArray[np.float32]) -> Any:
        """Logits of ``[N, 1, 224, 224]``."""
        ...

    def whole(self, paths: Sequence[Path]) -> Any:
        """The answers for image files."""
        ...


class Ours:
    """`EdgeClassifier`."""

    def __init__(self, classifier: EdgeClassifier) -> None:
        """Time a classifier that is ready to run."""
        self._classifier = classifier
        self.decode = open_gray
        self.resize = to_tensor
        self.network = classifier.logits

    def whole(self, paths: Sequence[Path]) -> Any:
        """A prediction for one image; probabilities for several in one batch."""
        if len(paths) == 1:
            return self._classifier.classify(paths[0])
        batch = np.concatenate([to_tensor(open_gray(path)) for path in paths])
        return self._classifier.probabilities(self._classifier.logits(batch))


class Plain:
    """Pillow and ONNX Runtime as their first pages show them."""

    def __init__(self, model: Path, threads: int | None = None) -> None:
        """Load an ONNX file; on ``threads`` CPU threads instead of ONNX Runtime's choice, if given."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(model), options)

    def decode(self, path: Path) -> Image.Image:
        """A file as a gray image of its own size."""
        return Image.open(path).convert("L")

    def resize(self, gray: Image.Image) -> NDArray[np.float32]:
        """A gray image as float32 ``[1, 1, 224, 224]`` in [0, 1]."""
        return np.asarray(gray.resize((SIZE, SIZE)), dtype=np.float32)[np.newaxis, np.newaxis] / np.float32(255)

    def network(self, batch: NDArray[np.float32]) -> Any:
        """Logits of ``[N, 1, 224, 224]``."""
        return self._session.run(None, {"input": batch})[0]

    def whole(self, paths: Sequence[Path]) -> Any:
        """Logits for image files, in one batch."""
        return self.network(np.concatenate([self.resize(self.decode(path)) for path in paths]))
