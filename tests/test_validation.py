"""The benchmark that compares models on images of no test set."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from samples import params_content, tiny_network

from benchmarks import validation
from benchmarks.environment import run_benchmark
from semdefect import CLASSES
from semdefect.network import save_network


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["validation", *map(str, arguments)])
    run_benchmark(validation.run, validation.parser())


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(params_content()))
    save_network(tiny_network(), Path("one.safetensors"), {})
    save_network(tiny_network(seed=1), Path("two.safetensors"), {})
    return tmp_path


def test_images_gained_and_lost_are_counted_against_the_first_model():
    truth = np.array([0, 1, 2, 3])
    found = validation.compared({"first": np.array([0, 1, 0, 0]), "second": np.array([0, 0, 2, 1])}, truth)
    assert found["first"] == {"accuracy": 0.5, "gained": 0, "lost": 0, "agreement": 1.0}
    assert found["second"] == {"accuracy": 0.5, "gained": 1, "lost": 1, "agreement": 0.25}


def test_two_networks_name_the_same_images(workspace, monkeypatch, capsys):
    run(monkeypatch, "one.safetensors", "two.safetensors", "one.safetensors", "--per-class", 2, "--result", "chosen")
    figures = json.loads(Path("benchmarks/results/chosen.json").read_text())
    assert figures["images"] == 2 * len(CLASSES)
    assert set(figures["sets"]) == {"rendered", "noisy"}
    for each in figures["sets"].values():
        first, second = each["one.safetensors"], each["two.safetensors"]
        assert first["agreement"] == 1
        assert second["accuracy"] - first["accuracy"] == pytest.approx((second["gained"] - second["lost"]) / 16)
    assert "two.safetensors" in capsys.readouterr().out
    assert figures["files"]["one.safetensors"] != figures["files"]["two.safetensors"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gone.onnx"], r"gone\.onnx is no file"),
        (["params.yaml"], r"params\.yaml is no file that ends in \.safetensors or \.onnx"),
        (["one.safetensors", "--result", "../x"], r"--result \.\./x"),
    ],
)
def test_what_cannot_be_compared_is_said_before_images_are_rendered(workspace, monkeypatch, arguments, words):
    monkeypatch.setattr(validation, "validation_sets", None)
    with pytest.raises(SystemExit, match=f"^error: {words}"):
        run(monkeypatch, *arguments)
