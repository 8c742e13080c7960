"""How a network's INT8 files will answer, before there are any."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semdefect.edge.runtime import Answers, OnnxNetwork, joined
from semdefect.edge.session import open_session
from semdefect.images import ImageSet
from semdefect.network import SemNetwork, predict
from semdefect.onnx_graph import to_onnx
from semdefect.quantization import integer_model
from semdefect.rounding import set_precision

#: Images at a time. Others make no difference to INT8, and one to the last bits of FP32.
BATCH = 32


def int8_agreement(network: SemNetwork, images: ImageSet, threads: int) -> float:
    """Share of ``images`` to which FP32 and the INT8 files of ``network`` give the same class; of two files, the lower.

    Torch tells of INT8 weights. Of the activations it does not: sums of another order round a few of them the other
    way, and what follows differs by half of the noise of INT8. So these run as on the device.

    Args:
        network: with rounding; is left as it is.
        images: of the device's size.
        threads: of ONNX Runtime.
    """
    copy = deepcopy(network).cpu()
    if copy.unknown is None:
        copy.add_unknown()  # a part of every file, without a say in the class
    set_precision(copy, "fp32")
    plain = predict(copy, images.pixels).numpy()
    set_precision(copy, "int8-weights")
    weights = predict(copy, images.pixels).numpy()
    set_precision(copy, "int8")
    content = integer_model(to_onnx(copy)).SerializeToString()
    session = open_session(content, Path("student_int8.onnx"), threads, optimized=True)
    whole = answers_of(OnnxNetwork(session).run, images).logits
    return min(same_class(plain, weights), same_class(plain, whole))


def answers_of(ask: Callable[[NDArray[np.float32]], Answers], images: ImageSet) -> Answers:
    """What a file, of which ``ask`` tells the answers to ``[N, 1, 224, 224]``, says of ``images`` of that size."""
    batches = (images.pixels.float() / 255).numpy()
    return joined([ask(batches[start : start + BATCH]) for start in range(0, len(batches), BATCH)])


def same_class(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Share of the rows of two logits ``[N, 8]`` whose largest is of the same class."""
    return float((first.argmax(1) == second.argmax(1)).mean())
