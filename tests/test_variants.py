"""How alike the files of a student answer, asked before there are any."""

import subprocess
import sys

import numpy as np
from samples import ROOT

from semdefect.variants import agreements

TRIAL = """
import onnx, torch
from onnx import TensorProto, helper
from samples import image_set, params, rounded_network
from semdefect import variants
from semdefect.device import create_accelerator

def graph():
    nodes = [helper.make_node("ReduceMean", ["input"], [name]) for name in ("logits", "unknown")]
    shapes = {"input": ["N", 1, 224, 224], "logits": None, "unknown": None}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    whole = helper.make_graph(nodes, "mean", values[:1], values[1:])
    return helper.make_model(whole, ir_version=9, opset_imports=[helper.make_opsetid("", 18)])

create_accelerator(params(base={"threads": 1, "device": "cpu", "precision": "fp32"}).base, bf16_pays=False)
variants.graphs_of = lambda network: {"fp32": graph(), "int8": graph()}
assert variants.int8_agreement(rounded_network(), image_set(1, 224), threads=1) == 1
print(float(torch.tensor(1e-40) * 1))
"""


def test_agreement_is_that_of_each_file_with_fp32():
    logits, other = np.eye(8, dtype=np.float32)[[0, 1, 2, 3]], np.eye(8, dtype=np.float32)[[0, 1, 2, 4]]
    assert agreements({"fp32": logits, "int8": other, "int8-weights": logits}) == {"int8": 0.75, "int8-weights": 1.0}


def test_a_trial_leaves_the_training_thread_as_it_is():
    """In a process of its own: once a process, ONNX Runtime changes how a thread computes."""
    program = [sys.executable, "-c", TRIAL]
    said = subprocess.run(program, cwd=ROOT / "tests", capture_output=True, text=True, check=True).stdout
    assert said.split()[-1] == "0.0"  # numbers that small are still taken for zero
