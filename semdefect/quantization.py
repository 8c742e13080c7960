"""INT8 files: everything in integers, for NPUs and ARM, or weights alone, a third of the size at the speed of FP32."""

from collections import Counter

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator


def integer_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a network exported as INT8 that holds its weights as INT8 and its biases as INT32.

    The exporter writes rounded weights as FP32 that a ``QuantizeLinear`` rounds at run time, and leaves the biases
    alone; integer processors want both as constants. A bias has the scale of the products that it is added to.
    """
    settled = onnx.ModelProto()
    settled.CopyFrom(model)
    _fold_constants(settled.graph)
    _round_biases(settled.graph)
    _share_nothing(settled.graph)
    onnx.checker.check_model(settled)
    return settled


def integer_weights(model: onnx.ModelProto, scales: dict[str, NDArray[np.float32]]) -> onnx.ModelProto:
    """A copy of the FP32 ``model`` that holds weights as INT8 and computes in FP32.

    ``Cast`` and ``Mul`` restore them where the format has ``DequantizeLinear``: runtimes compute what depends on
    constants once, on loading, but for that operation, which they keep for integer processors.

    Args:
        model: an exported network.
        scales: initializer → its scale for each output channel, ``[out]``; others stay FP32.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph, nodes = copy.graph, []
    for initializer in [each for each in graph.initializer if each.name in scales]:
        name, weight = initializer.name, numpy_helper.to_array(initializer)
        scale = scales[name].reshape(-1, *[1] * (weight.ndim - 1))
        values = np.clip(np.round(weight / scale), -128, 127).astype(np.int8)
        initializer.CopyFrom(numpy_helper.from_array(values, f"{name}_int8"))
        graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
        nodes.append(onnx.helper.make_node("Cast", [f"{name}_int8"], [f"{name}_cast"], to=onnx.TensorProto.FLOAT))
        nodes.append(onnx.helper.make_node("Mul", [f"{name}_cast", f"{name}_scale"], [name]))
    _replace_nodes(graph, [*nodes, *graph.node])
    onnx.checker.check_model(copy)
    return copy


def _fold_constants(graph: onnx.GraphProto) -> None:
    """Compute what depends on constants alone, but for ``DequantizeLinear``, which would undo the point of it."""
    constants = {initializer.name: numpy_helper.to_array(initializer) for initializer in graph.initializer}
    nodes = []
    for node in graph.node:
        inputs = [name for name in node.input if name]
        if node.op_type == "DequantizeLinear" or not inputs or not set(inputs) <= constants.keys():
            nodes.append(node)
            continue
        (value,) = ReferenceEvaluator(node).run(None, {name: constants[name] for name in inputs})
        constants[node.output[0]] = np.asarray(value)
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), node.output[0]))
    _replace_nodes(graph, nodes)


def _round_biases(graph: onnx.GraphProto) -> None:
    constants = {initializer.name: numpy_helper.to_array(initializer) for initializer in graph.initializer}
    restored = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    nodes = []
    for node in graph.node:
        integer = all(name in restored for name in node.input[:2])
        if node.op_type in ("Conv", "Gemm") and integer and len(node.input) == 3:
            scale_in, scales = (constants[restored[name].input[1]] for name in node.input[:2])
            scale = (scale_in * scales).astype(np.float32)
            name = node.input[2]
            limits = np.iinfo(np.int32)
            bias = np.clip(np.round(constants[name] / scale.astype(np.float64)), limits.min, limits.max)
            graph.initializer.append(numpy_helper.from_array(bias.astype(np.int32), f"{name}_int32"))
            graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
            inputs = [f"{name}_int32", f"{name}_scale"]
            nodes.append(onnx.helper.make_node("DequantizeLinear", inputs, [f"{name}_restored"], axis=0))
            node.input[2] = f"{name}_restored"
        nodes.append(node)
    _replace_nodes(graph, nodes)


def _share_nothing(graph: onnx.GraphProto) -> None:
    """Give every node constants of its own.

    ONNX Runtime rewrites them one by one for processors without dot products of bytes, and stumbles over shared ones.
    """
    constants = {initializer.name: initializer for initializer in graph.initializer}
    uses: Counter[str] = Counter()
    for node in graph.node:
        for place, name in enumerate(node.input):
            uses[name] += name in constants
            if uses[name] > 1:
                copy = onnx.TensorProto.FromString(constants[name].SerializeToString())
                copy.name = node.input[place] = f"{name}_{uses[name]}"
                graph.initializer.append(copy)


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Let ``graph`` consist of ``nodes``, without constants that none of them uses."""
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    used = {name for node in copies for name in node.input}
    kept = [initializer for initializer in graph.initializer if initializer.name in used]
    copied = [onnx.TensorProto.FromString(initializer.SerializeToString()) for initializer in kept]
    del graph.initializer[:]
    graph.initializer.extend(copied)
