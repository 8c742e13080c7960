"""What `semdefect bench` promises to print. How fast anything is, no test asserts."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import LEVELS, write_image
from PIL import Image

from benchmarks import edge_speed
from semdefect.edge.bench import STAGES, Bench, interleaved
from semdefect.edge.bench_calls import Ours, Plain
from semdefect.edge.bench_images import SIDES, sem_like, write_images
from semdefect.edge.classifier import EdgeClassifier

SHORT = ("--rounds", 1)


def fails(done, *words):
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in words), done.stderr


@pytest.fixture
def image(tmp_path):
    return write_image(tmp_path / "wafer.png", LEVELS[7])


def test_images_are_the_same_everywhere_and_compress_like_real_ones(tmp_path):
    paths = write_images(tmp_path)
    for path, side in zip(paths, SIDES, strict=True):
        with Image.open(path) as stored:
            assert (stored.format, stored.mode, stored.size) == ("PNG", "L", (side, side))
        assert 0.45 < path.stat().st_size / side**2 < 0.7
        assert np.array_equal(sem_like(side), sem_like(side))


def test_every_call_is_timed_as_often_as_promised():
    counts = {("ours", "decode"): 0, ("plain", "decode"): 0}

    def call(name):
        counts[name] += 1

    times = interleaved({name: lambda name=name: call(name) for name in counts}, rounds=3)
    assert set(counts.values()) == {12}  # three, and one to warm up, a round
    assert all(len(pairs) == 9 and min(wall for wall, _ in pairs) > 0 for pairs in times.values())


def test_both_recipes_answer_alike(model, image):
    ours, plain = Ours(EdgeClassifier(model)), Plain(model, 1)
    assert ours.whole([image]).label == "via"
    assert plain.whole([image]).argmax() == 7
    assert ours.whole([image] * 3).shape == plain.whole([image] * 3).shape == (3, 8)


def test_table(command, model):
    done = command("bench", model, *SHORT)
    assert (done.returncode, done.stderr) == (0, "")
    blocks = done.stdout.split("\n\n")
    assert len(blocks) == 3
    for block, side in zip(blocks, SIDES, strict=False):
        headline, heads, *rows = block.splitlines()
        assert headline.startswith(f"{model}, {side}.png, 1 thread, batch 1: ") and headline.endswith(" images/s")
        assert heads.split() == ["ms", "p50", "p95", "p99", "CPU"]
        assert [row.split()[0] for row in rows] == list(STAGES)
    heads, row = blocks[2].splitlines()
    assert "cold start" in heads and "resident" in heads and "peak" in heads
    assert row.split()[:3] == [str(model), "1", "ours"] and " ms " in row and row.endswith(" MB")


def test_table_against_plain(command, model, image):
    done = command("bench", model, "--image", image, "--against-plain", *SHORT)
    lines = done.stdout.splitlines()
    assert " ".join(lines[1].split()) == "ms p50 p95 p99 CPU plain times CPU same threads times CPU"
    assert [line.count("x") for line in lines[2:6]] == [4] * 4
    assert [line.split()[2] for line in lines[8:]] == ["ours", "plain"]


def test_json(command, model, image):
    more = ("--threads", 1, 2, "--batch", 1, 3, "--against-plain", "--json")
    done = command("bench", model, "--image", image, *more, *SHORT)
    figures = json.loads(done.stdout)
    assert set(figures) == {"rounds", "runtime", "calls", "processes"}
    assert (figures["rounds"], figures["runtime"]) == (1, "onnxruntime")
    settings = [(one["threads"], one["batch"]) for one in figures["calls"]]
    assert settings == [(1, 1), (1, 3), (2, 1), (2, 3)]
    for one in figures["calls"]:
        assert (one["model"], one["image"]) == (str(model), "wafer.png")
        assert set(one["recipes"]) == {"ours", "plain", "plain_same_threads"}
        for recipe in one["recipes"].values():
            assert set(recipe) == {*STAGES, "images_per_second"}
            for stage in STAGES:
                assert set(recipe[stage]) == {"p50_ms", "p95_ms", "p99_ms", "cpu_ms"}
                assert 0 < recipe[stage]["p50_ms"] <= recipe[stage]["p95_ms"] <= recipe[stage]["p99_ms"]
            assert recipe["images_per_second"] == pytest.approx(1000 * one["batch"] / recipe["whole"]["p50_ms"])
        for key, figure in (("times_as_fast", "p50_ms"), ("times_the_cpu", "cpu_ms")):
            assert set(one[key]) == {"plain", "plain_same_threads"}
            for name, ratios in one[key].items():
                wanted = {s: one["recipes"][name][s][figure] / one["recipes"]["ours"][s][figure] for s in STAGES}
                assert ratios == pytest.approx(wanted)
    assert [one["threads"] for one in figures["processes"]] == [1, 2]
    for one in figures["processes"]:
        assert one["model"] == str(model) and set(one["recipes"]) == {"ours", "plain"}
        for recipe in one["recipes"].values():
            assert 0 < recipe["import_ms"] < recipe["cold_start_ms"] and recipe["load_ms"] > 0
            assert recipe["resident_mb"] is None or 0 < recipe["resident_mb"] <= recipe["peak_mb"]


def test_without_plain_there_is_nothing_to_compare(model, image):
    (figures,) = Bench([model], [image], rounds=1).calls()
    assert set(figures["recipes"]) == {"ours"} and "times_as_fast" not in figures


def test_default_model(command, tmp_path):
    fails(command("bench"), "models/edge/student_int8.onnx", "dvc repro")


def test_what_cannot_be_measured(command, model, image, tmp_path):
    fails(command("bench", "absent.onnx", "--image", image), "absent.onnx: no such model")
    fails(command("bench", image), "wafer.png", "export_onnx")
    fails(command("bench", model, "--image", "absent.png"), "absent.png: no such file")
    (tmp_path / "notes.png").write_text("hello")
    fails(command("bench", model, "--image", image, "notes.png"), "notes.png: is no image")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--threads", "0"),
        ("--threads",),
        ("--batch", "0"),
        ("--batch", "1.5"),
        ("--rounds", "0"),
        ("--image",),
        ("--runtime", "tflite"),
    ],
)
def test_usage(command, arguments):
    done = command("bench", *arguments)
    assert done.returncode == 2 and done.stderr.startswith("usage: semdefect")


def test_committed_figures(model, tmp_path, monkeypatch):
    """benchmarks.edge_speed with a tiny model: its headline is of one image on one thread."""
    monkeypatch.chdir(tmp_path)
    for name, value in (("MODELS", (model,)), ("THREADS", (2, 1)), ("BATCHES", (1,)), ("ROUNDS", 1)):
        monkeypatch.setattr(edge_speed, name, value)
    edge_speed.run(edge_speed.parser().parse_args([]))
    figures = json.loads(Path("benchmarks/results/edge_speed.json").read_text())
    assert {"command", "commit", "environment", "rounds", "calls", "processes"} <= set(figures)
    headline = figures["headline"]["student.onnx"]
    assert set(headline) == {"128.png", "1024.png", "fresh_process"}
    (one,) = [c for c in figures["calls"] if c["threads"] == 1 and c["image"] == "128.png"]
    assert headline["128.png"]["times_as_fast"] == one["times_as_fast"]
    assert set(headline["fresh_process"]) == {"ours", "plain"}


def test_openvino_that_is_not_installed(command, model, image, tmp_path):
    (tmp_path / "openvino.py").write_text("raise ModuleNotFoundError(name='openvino')\n")
    fails(command("bench", model, "--image", image, "--runtime", "openvino"), "pip install openvino")
