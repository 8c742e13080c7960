"""The scripts that show that nothing is lost: what they call the same, and what they call wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import faults, smoke, stops, verify
from benchmarks.environment import run_benchmark

LOCK = """
stages:
  split:
    outs:
    - path: data/splits
  distill:
    outs:
    - path: models/student.safetensors
"""


def project(folder: Path, **changes: str) -> Path:
    """A folder with outputs; ``changes``: name → text."""
    files = {"data/splits/a.csv": "a", "models/student.safetensors": "w", "metrics/e/summary.json": "{}", "notes": "n"}
    for name, text in ({"dvc.lock": LOCK} | files | changes).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_every_output_counts_and_nothing_else(tmp_path):
    one = smoke.outputs(project(tmp_path / "one"))
    assert list(one) == ["data/splits/a.csv", "dvc.lock", "metrics/e/summary.json", "models/student.safetensors"]
    assert smoke.differing(one, smoke.outputs(project(tmp_path / "b", notes="other"))) == []
    changes = {"data/splits/b.csv": "more", "models/student.safetensors": "other"}
    assert smoke.differing(one, smoke.outputs(project(tmp_path / "c", **changes))) == sorted(changes)


def test_unfinished_files_of_stages_count_and_those_of_dvc_do_not(tmp_path):
    folder = project(tmp_path / "one", **{".dvc/tmp/.a.1.part.json": "", "models/.student.1.part.onnx": ""})
    assert smoke.leftovers(folder) == ["models/.student.1.part.onnx"]


def verified(monkeypatch, capsys, results):
    """Exit code or text of `benchmarks.verify` where its runs have these ``results``."""
    monkeypatch.setattr(sys, "argv", ["verify"])
    monkeypatch.setattr(verify, "lay_out", lambda folder, **changes: folder)
    monkeypatch.setattr(verify, "commit", lambda folder: None)
    monkeypatch.setattr(verify, "reproduce", lambda folder, bar: results.pop(0))
    try:
        run_benchmark(verify.verify, verify.parser())
    except SystemExit as end:
        return end.code
    return capsys.readouterr().out


def test_verify_names_each_file_that_differs(monkeypatch, capsys):
    same = {"dvc.lock": "1", "metrics/report.html": "2"}
    assert verified(monkeypatch, capsys, [same, same]).startswith("2 outputs are the same")
    other = same | {"dvc.lock": "3"}
    said = verified(monkeypatch, capsys, [same, other])
    assert said == "error: 1 of 2 outputs differ between two runs:\n  dvc.lock"


def test_verify_says_how_to_use_it():
    command = [sys.executable, "-m", "benchmarks.verify", "--help"]
    assert "--keep" in subprocess.run(command, cwd=smoke.ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("code", "said", "left", "wrong"),
    [
        (1, ["error: models/a.onnx: No space left on device"], [], []),
        (0, ["a warning"], [], []),  # there was room enough
        (
            1,
            ["Traceback (most recent call last):", "OSError"],
            [],
            ["a traceback", "no sentence", "more than a sentence"],
        ),
        (1, ["error: full"], ["models/.a.1.part.onnx"], ["left unfinished: models/.a.1.part.onnx"]),
    ],
)
def test_a_fault_is_met_by_one_sentence(code, said, left, wrong):
    assert faults.faults_of(code, said, left, by_dvc=False) == wrong


def test_a_stop_is_met_at_once_by_one_sentence():
    right = stops.End("split", "SIGTERM", 1.0, 0.5, 130, ["stopped; run it again"], [])
    assert right.faults() == []
    wrong = stops.End("split", "SIGTERM", 1.0, 2.5, 1, ["Traceback", "OSError"], ["python"])
    assert [fault.split(": ", 1)[1] for fault in wrong.faults()] == [
        "exit code 1", "2.5 s", "a traceback", "2 lines", "left: python"
    ]  # fmt: skip
