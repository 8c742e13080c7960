"""A network as an ONNX graph whose bytes depend on nothing but its weights."""

import warnings
from typing import Any

import onnx
import torch
from torch import nn

from semdefect.edge.image import SIZE
from semdefect.edge.runtime import OUTPUTS
from semdefect.network import SemNetwork

OPSET = 18


class Answering(nn.Module):
    """A network whose outputs are those of the exported file."""

    def __init__(self, network: SemNetwork) -> None:
        """Ask ``network``, which has a score of unknown images."""
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`SemNetwork.answers`."""
        return self.network.answers(images)


def to_onnx(network: SemNetwork) -> onnx.ModelProto:
    """The network as ONNX: ``input [N, 1, 224, 224]`` float32 in [0, 1] → ``logits [N, 8]`` and ``unknown [N]``.

    Batches may have any size. The exporter notes where each node comes from, with absolute paths of this machine: all
    of that is removed.
    """
    network = network.cpu().float().eval()
    module: Any
    for module in network.modules():  # in place, activations are traced op by op: the same graph in twice the time
        if hasattr(module, "inplace"):
            module.inplace = False
    example = torch.rand(2, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter's own internals
        program = torch.onnx.export(
            Answering(network),
            (example,),
            input_names=["input"],
            output_names=list(OUTPUTS),
            dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _forget_origin(model)
    onnx.checker.check_model(model)
    return model


def _forget_origin(model: onnx.ModelProto) -> None:
    graph = model.graph
    for part in [
        model,
        graph,
        *graph.node,
        *graph.value_info,
        *graph.input,
        *graph.output,
        *graph.initializer,
    ]:
        del part.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
    model.producer_name, model.producer_version, model.doc_string = "semdefect", "", ""
