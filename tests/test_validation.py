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
from semdefect.edge.image import SIZE
from semdefect.network import save_network
from semdefect.params import Params, check_params
from semdefect.seeds import TEST
from semdefect.training_data import fresh_images


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
    figures = json.loads(Path("benchmarks/results/validation_chosen.json").read_text())
    assert figures["images"] == 2 * len(CLASSES)
    assert set(figures["sets"]) == {"rendered", "noisy"}
    assert all(list(each) == ["one.safetensors", "two.safetensors"] for each in figures["sets"].values())
    assert "two.safetensors" in capsys.readouterr().out
    assert figures["files"]["one.safetensors"] != figures["files"]["two.safetensors"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gone.onnx"], r"gone\.onnx is missing"),
        (["params.yaml"], r"params\.yaml ends neither in \.safetensors nor in \.onnx"),
        (["one.safetensors", "broken.safetensors"], r"broken\.safetensors"),
        (["one.safetensors", "broken.onnx"], r"broken\.onnx"),
    ],
)
def test_what_cannot_be_compared_is_said_before_images_are_rendered(workspace, monkeypatch, arguments, words):
    for name in ("broken.safetensors", "broken.onnx"):
        Path(name).write_bytes(b"no model")
    monkeypatch.setattr(validation, "validation_sets", None)
    with pytest.raises(SystemExit, match=f"^error: .*{words}"):
        run(monkeypatch, *arguments)


def test_the_images_come_plain_and_corrupted_and_are_those_of_no_test(workspace):
    params = check_params(params_content(), "params.yaml", Params)
    sets, truth = validation.validation_sets(2, params)
    assert truth.tolist() == sorted([*range(len(CLASSES))] * 2)
    plain, noisy = (np.stack([np.asarray(image, float) for image in sets[name]]) for name in ("rendered", "noisy"))
    assert plain.shape == noisy.shape == (16, SIZE, SIZE)
    assert (np.abs(plain - noisy).mean(axis=(1, 2)) > 2).all()
    tested = fresh_images(2, SIZE, TEST, params.base.seed, size=params.synthesize.image_size).pixels[:, 0].numpy()
    assert not any((image == other).all() for image in plain for other in tested)
