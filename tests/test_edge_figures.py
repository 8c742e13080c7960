"""The tables of docs/edge.md are of the committed figures."""

import json
import re

import pytest
from samples import ROOT

LINES = (ROOT / "docs/edge.md").read_text(encoding="utf-8").splitlines()
SUMMARY = json.loads((ROOT / "metrics/evaluate/summary.json").read_text(encoding="utf-8"))
SETS = ("clean", "noisy", "fresh")


def result(name):
    return json.loads((ROOT / f"benchmarks/results/{name}.json").read_text(encoding="utf-8"))


def below(title):
    """The cells of the table whose header begins with ``title``, row by row."""
    first = next(number for number, line in enumerate(LINES) if line.startswith(title))
    rows = []
    for line in LINES[first + 2 :]:
        if not line.startswith("|"):
            return rows
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def percent(share):
    return f"{100 * share:.1f} %"


def points(gained):
    return f"{round(100 * gained, 1) + 0:+.1f}".replace("-", "−").replace("+0.0", "0.0")


def test_int8_beside_fp32():
    accuracy, measured = SUMMARY["accuracy"], result("int8_agreement")
    real, images = measured["files"], measured["images"]
    gains = [accuracy[name]["student_int8"] - accuracy[name]["student_fp32"] for name in SETS]
    gains.append(real["student_int8.onnx"]["accuracy"] - real["student_fp32.onnx"]["accuracy"])
    same_class = round(real["student_int8.onnx"]["agreement"] * images)  # else rounded twice
    agreement = [SUMMARY["int8_fp32_agreement"][name] for name in SETS] + [same_class / images]
    same, gained = below("| the committed INT8 file |")
    assert same[1:] == [percent(share) for share in agreement]
    assert gained[1:] == [points(gain) for gain in gains]


def test_one_network_after_the_other():
    sets, rows = result("adaptive")["sets"], below("| full file |")
    wanted = [
        (sets[name], full, pair) for full, pair in (("full", "adaptive"), ("int8", "adaptive_int8")) for name in sets
    ]
    assert [row[1].removeprefix("740 ") for row in rows] == 2 * list(sets)
    for row, (ways, full, pair) in zip(rows, wanted, strict=True):
        decoded, files = ways["decoded"], ways["files"]
        shares = (decoded[pair]["escalated"], decoded[full]["accuracy"], decoded[pair]["accuracy"])
        speeds = (way[pair]["times_as_fast"] for way in (files, decoded))
        assert row[2:] == [*map(percent, shares), *(f"{speed:.2f}" for speed in speeds)]


@pytest.mark.parametrize(
    ("title", "image", "stage", "recipe"),
    [
        ("whole call, PNG of 128²", "128", "whole", "plain"),
        ("whole call, PNG of 1024²", "1024", "whole", "plain"),
        ("network call", "128", "network", "plain"),
        ("whole call, 128², plain on the same threads", "128", "whole", "plain_same_threads"),
        ("whole call, 1024², plain on the same threads", "1024", "whole", "plain_same_threads"),
        ("network call, plain on the same threads", "128", "network", "plain_same_threads"),
    ],
)
def test_times_as_fast_as_the_plain_recipe(title, image, stage, recipe):
    calls = {(call["model"], call["image"], call["threads"]): call for call in result("edge_speed")["calls"]}
    columns = [("fp32", 1), ("w8", 1), ("int8", 1), ("w8", 2), ("int8", 2)]
    of = [calls[f"models/edge/student_{name}.onnx", f"{image}.png", threads] for name, threads in columns]
    (row,) = [row for row in below("| | FP32, 1 thread |") if row[0] == title]
    said = [f"{call['times_as_fast'][recipe][stage]:.2f} / {call['times_the_cpu'][recipe][stage]:.2f}" for call in of]
    assert row[1:] == said


def test_what_the_guard_does():
    _, rejected, unknown = below("| | clean | noisy | fresh | fast file first")  # purity: README.md has the same
    for row, figure in ((rejected, "rejection_rate"), (unknown, "unknown")):
        assert row[1:4] == [percent(SUMMARY["guard"][figure][name]) for name in SETS], row
    (said,) = re.findall(r"that are no SEM images ([\d.]+ %) come back unknown", " ".join(LINES))
    assert said == percent(SUMMARY["foreign_called_unknown"]["all"])
