"""The scripts that show that nothing is lost: what they call the same, and what they call wrong."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import faults, smoke, stops, verify
from benchmarks.environment import run_benchmark
from semdefect.errors import UserError

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


def test_a_copy_has_no_real_images_that_it_could_not_pull(tmp_path, monkeypatch):
    here, names = tmp_path / "here", ["params.yaml", "tests/smoke.yaml", "data/real/README.md", "data/real/bridge.dvc"]
    for name in names:
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text("base: {seed: 1}")
    monkeypatch.setattr(smoke, "ROOT", here)
    monkeypatch.setattr(smoke, "_listed", lambda: "\0".join(names))
    copied = smoke.lay_out(tmp_path / "copy", base={"seed": 2})
    assert [path.name for path in (copied / "data/real").iterdir()] == ["README.md"]
    assert "seed: 2" in (copied / "params.yaml").read_text()


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


@pytest.mark.parametrize(
    ("lock", "whole"),
    [
        (None, True),
        ("schema: '2.0'\nstages:\n  split: {}\n", True),
        ("schema: '2.0'\n", False),
        ("schema: '2.0'\nstages:\n  split: {cmd", False),
        ("", False),
    ],
)
def test_a_part_of_dvc_lock_is_told_from_a_whole_one(tmp_path, lock, whole):
    if lock is not None:
        (tmp_path / "dvc.lock").write_text(lock)
    assert smoke.whole_lock(tmp_path) is whole


def test_a_stop_is_met_at_once_by_one_sentence():
    right = stops.End("split", "SIGTERM", 1.0, 0.5, 130, False, ["stopped; run it again"], [])
    assert right.faults() == []
    ignored = stops.End("split", "SIGTERM", 1.0, 30.0, 0, False, [], [])
    assert [fault.split(": ", 1)[1] for fault in ignored.faults()] == ["30.0 s"]
    wrong = stops.End("split", "SIGTERM", 1.0, 2.5, 1, False, ["Traceback", "OSError"], ["python"])
    assert [fault.split(": ", 1)[1] for fault in wrong.faults()] == [
        "exit code 1: Traceback / OSError", "2.5 s", "a traceback", "2 lines", "left: python"
    ]  # fmt: skip


def test_a_stage_that_ends_before_its_signal_is_stopped_earlier(monkeypatch):
    ends = [(4.0, 1, True), (3.0, 0, True), (2.5, 0, False), (2.0, 130, False)]
    bounds = []

    class Latest:
        """Draws the latest moment there is."""

        def uniform(self, low, high):
            bounds.append(high)
            return high

    def stopped(folder, stage, way, moment):
        took, code, done = ends.pop(0)
        return stops.End(stage, way, took, 0.1, code, done, ["said"], [])

    monkeypatch.setattr(stops, "stop", stopped)
    found = stops.stop_underway(Path(), "split", "SIGTERM", {"split, SIGTERM": 9.0}, Latest())
    assert bounds == [9.0, 4.0, 3.0, 2.5]
    assert [(end.code, end.done) for end in found] == [(130, False), (1, True)]  # what failed by itself is told too


def test_a_stage_that_fails_by_itself_ends_the_stops(monkeypatch):
    broken = stops.End("split", "SIGTERM", 1.0, 0.1, 1, True, ["ImportError"], [])
    monkeypatch.setattr(stops, "stop", lambda *_: broken)
    with pytest.raises(UserError, match="split ends by itself, with exit code 1, before it can be stopped"):
        stops.stop_underway(Path(), "split", "SIGTERM", {"split, SIGTERM": 9.0}, random.Random(0))


def test_a_program_is_stopped_and_told_from_one_that_was_done(tmp_path, monkeypatch):
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstages: {}")
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/split.py").write_text("import time\ntime.sleep(1.0)")
    (tmp_path / stops.OUTPUTS).write_text("{}")
    monkeypatch.setattr(stops, "run", lambda folder, *command: "")
    monkeypatch.setattr(stops, "outputs", lambda folder: {})
    early = stops.stop(tmp_path, "split", "SIGTERM", 0.3)
    assert (early.code, early.done, early.left) == (-15, False, []) and early.moment == pytest.approx(0.3, abs=0.2)
    late = stops.stop(tmp_path, "split", "SIGTERM", 30.0)
    assert (late.code, late.done, late.left) == (0, True, []) and 1.0 < late.moment < 20


def test_a_stage_that_ends_with_0_has_to_have_written_its_outputs(tmp_path, monkeypatch):
    folder = project(tmp_path, **{"dvc.lock": f"schema: '2.0'{LOCK}"})
    smoke.commit(folder)
    (folder / stops.OUTPUTS).write_text(json.dumps(smoke.outputs(folder)))
    monkeypatch.setattr(stops, "run", lambda folder, *command: smoke.run(folder, *command) if "git" in command else "")
    (folder / "stages").mkdir()
    (folder / "stages/split.py").write_text("")
    end = stops.stop(folder, "split", "SIGTERM", 30.0)
    assert end.code == 0 and end.left == ["another data/splits/a.csv"] and end.faults()
    (folder / "stages/split.py").write_text("from pathlib import Path\nPath('data/splits').mkdir()\n"
                                            "Path('data/splits/a.csv').write_text('a')")  # fmt: skip
    shutil.rmtree(folder / "metrics")  # by an earlier stop of a stage that writes figures
    (folder / "dvc.lock").write_text("half")
    assert stops.stop(folder, "split", "SIGTERM", 30.0).faults() == []


def test_a_stage_that_does_not_end_is_killed_and_told(tmp_path, monkeypatch):
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstages: {}")
    (tmp_path / "stages").mkdir()
    program = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)"
    (tmp_path / "stages/split.py").write_text(program)
    monkeypatch.setattr(stops, "run", lambda folder, *command: "")
    monkeypatch.setattr(stops, "PATIENCE", 0.5)
    end = stops.stop(tmp_path, "split", "SIGTERM", 1.0)
    assert end.code == -9 and any("exit code -9" in fault for fault in end.faults())
