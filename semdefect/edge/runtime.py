"""What computes the logits of a model that was checked: ONNX Runtime, or OpenVINO where it is installed and asked for.

A network of either kind has one method ``run``: float32 ``[N, 1, 224, 224]`` in, `Answers` out, in arrays of their own
each time. One thread at a time may call it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from semdefect.edge.image import SIZE
from semdefect.errors import UserError

#: The first is the default and needs nothing else installed.
RUNTIMES = ("onnxruntime", "openvino")

#: The outputs of a model file.
OUTPUTS = ("logits", "unknown")


class Answers(NamedTuple):
    """What a network says of a batch: ``logits [N, classes]`` and how ``unknown [N]``, 0..1, each image is to it."""

    logits: NDArray[np.float32]
    unknown: NDArray[np.float32]


def joined(answers: Sequence[Answers]) -> Answers:
    """The answers to several batches as those to one."""
    return Answers(*map(np.concatenate, zip(*answers, strict=True)))


class Network(Protocol):
    """Anything that turns images into answers."""

    def run(self, batch: NDArray[np.float32]) -> Answers:
        """Answers to ``batch [N, 1, 224, 224]``; raises whatever its library raises."""
        ...


class OnnxNetwork:
    """An ONNX Runtime session.

    It takes the batch as it is: buffers bound to it once (IO binding) measured no faster, since they need a copy.
    """

    def __init__(self, session: Any) -> None:
        """Run an onnxruntime.InferenceSession."""
        self._session = session

    def run(self, batch: NDArray[np.float32]) -> Answers:
        """Answers to ``batch [N, 1, 224, 224]``."""
        return Answers(*self._session.run(OUTPUTS, {"input": batch}))


class OpenVinoNetwork:
    """A model compiled by OpenVINO for the CPU, in FP32 and for one image: it runs a batch image by image.

    For one image of a fixed size it is faster than for batches of any size, even where batches are what it gets.
    """

    def __init__(self, content: bytes, threads: int, classes: int) -> None:
        """Compile the ONNX file ``content`` to run on ``threads`` CPU threads.

        Raises:
            UserError: OpenVINO is not installed.
        """
        try:
            import openvino
        except ModuleNotFoundError:
            raise UserError(
                "runtime openvino: its package is not installed; run pip install openvino, or use onnxruntime"
            ) from None
        core = openvino.Core()
        model = core.read_model(content)
        model.reshape([1, 1, SIZE, SIZE])
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # by default it computes in bf16 where the CPU can, and calls change
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        self._classes = classes
        self._request = core.compile_model(model, "CPU", settings).create_infer_request()

    def run(self, batch: NDArray[np.float32]) -> Answers:
        """Answers to ``batch [N, 1, 224, 224]``."""
        answers = Answers(
            np.empty((len(batch), self._classes), dtype=np.float32), np.empty(len(batch), dtype=np.float32)
        )
        for number in range(len(batch)):
            found = self._request.infer({0: batch[number : number + 1]}, share_inputs=True)
            for name, values in zip(OUTPUTS, answers, strict=True):
                values[number] = found[name][0]
        return answers
