"""Every kind of file that a stage writes, on a disk that takes no more of it: a fault with its name, nothing left."""

import contextlib
import resource
from pathlib import Path

import onnx
import pytest
import torch
from matplotlib.figure import Figure
from samples import image_set, tiny_network

from semdefect import CLASSES, training_data
from semdefect.balance import Job, write_images
from semdefect.calibration import review_all
from semdefect.checkpoint import Checkpoint, Progress
from semdefect.edge.metadata import ModelMetadata
from semdefect.export import save_onnx
from semdefect.network import save_network
from semdefect.plots import save_figure
from semdefect.training import write_curves


@contextlib.contextmanager
def full_disk():
    """Files end after a kilobyte, as on a disk that has no more room."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def checkpoint() -> None:
    network = tiny_network()
    Checkpoint("stage", {"network": network}, torch.optim.AdamW(network.parameters())).save(Progress(""))


def exported() -> None:
    weights = onnx.numpy_helper.from_array(torch.rand(1000).numpy(), "weights")
    graph = onnx.helper.make_graph([], "graph", [], [], [weights])
    about = ModelMetadata(CLASSES, 1.0, review_all(len(CLASSES)), "fp32", 64 * "0")
    save_onnx(onnx.helper.make_model(graph), about, Path("edge/student.onnx"))


def curves() -> None:
    history = [{"train/loss": 0.5, "val/loss": 0.5}] * 200
    write_curves(Progress("", history=history), Path("metrics"))


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (lambda: save_network(tiny_network(), Path("models/model.safetensors")), "models/model.safetensors"),
        (checkpoint, ".scratch/stage/state.safetensors"),
        (lambda: training_data.kept_images(1, 64, 1, 0, 64), ".scratch/fresh/1.safetensors"),
        (exported, "edge/student.onnx"),
        (lambda: write_images([Job("via", 0, 1)], Path("images"), 224, 1), "images/via/00000_rendered.png"),
        (lambda: save_figure(Figure(), Path("metrics/figure.png")), "metrics/figure.png"),
        (curves, "metrics"),
    ],
    ids=["weights", "checkpoint", "kept images", "onnx", "image", "figure", "curves"],
)
def test_a_full_disk_is_told_with_the_name_and_nothing_is_left(write, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training_data, "fresh_images", lambda *arguments, **named: image_set(1, 64))
    with full_disk(), pytest.raises(OSError) as fault:
        write()
    assert str(fault.value.filename).startswith(name) and fault.value.strerror
    if write is not curves:  # DVCLive's, of which a stage that failed gives DVC none
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]
