"""`python -m semdefect.summary`: the result of a run in a table, or one sentence when there is none."""

import os
import re
import subprocess
import sys

import pytest
from samples import ROOT

from semdefect.atomic import write_json
from semdefect.evaluation import MODELS


@pytest.fixture
def run(tmp_path):
    """Run the command in an empty folder, as `make summary` does."""

    def call(columns=100):
        return subprocess.run(
            [sys.executable, "-m", "semdefect.summary"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": str(columns)},
            capture_output=True,
            text=True,
            check=False,
        )

    return call


@pytest.fixture
def metrics(tmp_path):
    shares = dict(zip(MODELS, (0.975, 0.9512, 0.95, 0.951, 0.9, 0.95), strict=True))
    write_json(
        tmp_path / "metrics/evaluate/summary.json",
        {"accuracy": dict.fromkeys(("clean", "noisy", "mixed", "fresh", "real"), shares)},
    )
    write_json(
        tmp_path / "metrics/export_onnx/export.json",
        {"megabytes": {"student_fp32": 6.13, "student_int8": 1.64, "student_w8": 1.6}},
    )
    write_json(tmp_path / "metrics/export_onnx/fast.json", {"megabytes": {"student_fast": 0.86}})
    return tmp_path / "metrics"


@pytest.mark.parametrize("columns", [80, 200])
def test_the_table_shows_each_model_with_accuracy_and_size(run, metrics, columns):
    done = run(columns)
    assert done.returncode == 0
    assert done.stderr == ""
    lines = {name: re.search(rf"{name}.*", done.stdout).group() for name in ("teacher", "student FP32", "student INT8")}
    assert lines["teacher"].count("97.5%") == 5
    assert lines["student FP32"].count("95.1%") == 5
    assert "6.13 MB" in lines["student FP32"]
    assert "1.64 MB" in lines["student INT8"]
    assert "0.86 MB" in re.search("student fast.*", done.stdout).group()
    assert "metrics/report.html" in done.stdout
    assert "…" not in done.stdout


@pytest.mark.parametrize("name", ["evaluate/summary.json", "export_onnx/export.json", "export_onnx/fast.json"])
@pytest.mark.parametrize("content", [None, "", '{"accu', "[]", "{}"])
def test_missing_or_broken_metrics_end_with_one_line_that_says_what_to_run(run, metrics, name, content):
    if content is None:
        (metrics / name).unlink()
    else:
        (metrics / name).write_text(content)
    done = run()
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: metrics/{name} is missing or broken: run `dvc repro`")
    assert done.stderr.count("\n") == 1
