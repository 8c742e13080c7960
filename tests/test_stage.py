"""What every stage does on the command line: help, one line for an error, and a quick end when it is stopped."""

import os
import signal
import subprocess
import sys
import time

import pytest
from samples import ROOT

from semdefect.errors import UserError
from semdefect.stage import run_stage

STAGES = sorted(path.stem for path in (ROOT / "stages").glob("*.py") if path.stem != "__init__")
PARAMS = str(ROOT / "params.yaml")


def call(work, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["stage", *arguments])
    before = signal.getsignal(signal.SIGTERM)
    try:
        run_stage(work, "What the stage does.\n\n    dvc repro stage\n")
    finally:
        signal.signal(signal.SIGTERM, before)


def test_help_shows_the_docstring_with_its_examples_as_written(monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        call(None, monkeypatch, "--help")
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert "What the stage does.\n\n    dvc repro stage\n" in shown
    assert "--params" in shown


def test_the_work_gets_the_checked_parameters(monkeypatch):
    got = []
    call(got.append, monkeypatch, "--params", PARAMS)
    assert got[0].split.train == 0.7


def test_a_mistake_of_the_user_ends_with_one_line(monkeypatch):
    def work(params):
        raise UserError("data/real/crack is empty: add images")

    with pytest.raises(SystemExit) as end:
        call(work, monkeypatch, "--params", PARAMS)
    assert end.value.code == "error: data/real/crack is empty: add images"  # standard error, exit code 1


def test_a_full_disk_is_told_with_the_file(monkeypatch):
    def work(params):
        raise OSError(28, "No space left on device", "models/teacher/model.safetensors")

    with pytest.raises(SystemExit) as end:
        call(work, monkeypatch, "--params", PARAMS)
    assert end.value.code == "error: models/teacher/model.safetensors: No space left on device"


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch):
    def work(params):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        call(work, monkeypatch, "--params", PARAMS)


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_says_what_it_does_reads_and_writes(stage):
    source = (ROOT / "stages" / f"{stage}.py").read_text(encoding="utf-8")
    docstring = source.split('"""')[1]
    assert f"dvc repro {stage}" in docstring
    assert "Reads " in docstring
    assert "writes " in docstring


def test_a_stage_outside_the_repository_ends_with_one_line_and_code_1(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "stages.split"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == f"error: params.yaml is not in {tmp_path}: run stages from the repository's root\n"
    assert done.stdout == ""


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_stage_cleans_up_and_ends_at_once_with_code_130(tmp_path, stop):
    code = (
        "import time, pathlib\n"
        "from semdefect.atomic import replacing\n"
        "from semdefect.stage import run_stage\n"
        "def work(params):\n"
        "    with replacing(pathlib.Path('out.txt')) as temporary:\n"
        "        temporary.write_text('half')\n"
        "        print('working', flush=True)\n"
        "        while True:\n"
        # Short ones: a signal that arrives between two instructions and a long sleep is seen after the sleep only.
        "            time.sleep(0.05)\n"
        "run_stage(work, None)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--params", PARAMS],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "working\n"
    started = time.monotonic()
    process.send_signal(stop)
    _, errors = process.communicate(timeout=20)
    assert time.monotonic() - started < 5
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "dvc repro" in errors
    assert list(tmp_path.iterdir()) == []
