"""The files that a student becomes, as graphs: what they answer, and how often alike."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from semdefect.edge.runtime import Answers, OnnxNetwork, joined
from semdefect.edge.session import open_session
from semdefect.images import ImageSet
from semdefect.network import SemNetwork
from semdefect.onnx_graph import to_onnx
from semdefect.quantization import integer_model, integer_weights
from semdefect.rounding import Precision, WeightRounding, set_precision

#: Images at a time. Others make no difference to INT8, and one to the last bits of FP32.
BATCH = 32


def graphs_of(network: SemNetwork) -> dict[Precision, onnx.ModelProto]:
    """A graph of each precision of a ``network`` with rounding and a score of unknown images; leaves it in FP32."""
    set_precision(network, "int8")
    int8 = integer_model(to_onnx(network))
    set_precision(network, "fp32")
    fp32 = to_onnx(network)
    return {"fp32": fp32, "int8": int8, "int8-weights": integer_weights(fp32, scales_of(network))}


def scales_of(network: SemNetwork) -> dict[str, NDArray[np.float32]]:
    """The scales of each rounded weight, ``[out]``, by the weight's name in the exported FP32 graph."""
    return {
        f"network.{name.removesuffix('0')}original": module.scale.numpy()
        for name, module in network.named_modules()
        if isinstance(module, WeightRounding)
    }


def answers_of(ask: Callable[[NDArray[np.float32]], Answers], images: ImageSet) -> Answers:
    """What a file, of which ``ask`` tells the answers to ``[N, 1, 224, 224]``, says of ``images`` of that size."""
    batches = (images.pixels.float() / 255).numpy()
    return joined([ask(batches[start : start + BATCH]) for start in range(0, len(batches), BATCH)])


def agreements(said: Mapping[Precision, NDArray[np.float32]]) -> dict[Precision, float]:
    """For each precision but FP32, the share of images to which it gives the class that FP32 gives.

    Args:
        said: precision → logits ``[N, 8]`` of the same images.
    """
    named = {precision: logits.argmax(1) for precision, logits in said.items()}
    plain = named.pop("fp32")
    return {precision: float((classes == plain).mean()) for precision, classes in named.items()}


def int8_agreement(network: SemNetwork, images: ImageSet, threads: int) -> float:
    """The lower of the `agreements` that the INT8 files of ``network`` will have, by ONNX Runtime as on the device.

    Rounding in torch does not tell: sums of another order round a few activations the other way, and what follows
    differs by half of the noise of INT8.

    Args:
        network: with rounding; is left as it is.
        images: of the device's size.
        threads: of ONNX Runtime.
    """
    copy = deepcopy(network).cpu().to(memory_format=torch.contiguous_format)
    if copy.unknown is None:
        copy.add_unknown()  # a part of every file, without a say in the class
    graphs = graphs_of(copy)

    def answered() -> dict[Precision, NDArray[np.float32]]:
        said = {}
        for precision, graph in graphs.items():
            session = open_session(graph.SerializeToString(), Path(f"the {precision} graph"), threads, optimized=True)
            said[precision] = answers_of(OnnxNetwork(session).run, images).logits
        return said

    # The first session of a process lets the thread that opens it compute with numbers below 1e-38 again, at many times
    # the time and with other last bits (`semdefect.device`): no thread that trains may be that one.
    with ThreadPoolExecutor(max_workers=1) as aside:
        return min(agreements(aside.submit(answered).result()).values())
