"""Damaged files through every reader, a small run of `benchmarks.fuzz`; and what it finds, it tells."""

import sys
from pathlib import Path

import numpy as np
import pytest
from samples import ROOT

from benchmarks import fuzz_child, fuzz_files, fuzz_images, fuzz_worker
from benchmarks.fuzz import SHARES, dear_cases, file_cases, fuzz, image_cases
from benchmarks.fuzz_worker import Report, Worker


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_damaged_files_give_an_answer_or_one_sentence(tmp_path):
    figures = fuzz(120, 40, 1, ["BMP, run lengths", "TIFF, tags", "PNG, texts"], Path("no models"), tmp_path / "found")
    assert figures["findings"] == [] and not (tmp_path / "found").exists()
    assert sum(figures["all"][name] for name in ("answer", "refused")) == 123 + sum(
        round(40 * share) for share in SHARES.values()
    )
    for label, tally in figures["by_format"].items():
        assert tally["refused"] > 0, label
    assert figures["all"]["answer"] > 20  # the damage is not so great that nothing is decoded


def test_equal_seeds_give_equal_files():
    def contents(seed):
        texts = file_cases(40, seed, [fuzz_files.tiny_model()], [fuzz_files.tiny_weights()], b"path,label\na,b\n")
        return [case.content for group in (image_cases(30, seed), texts) for case in group]

    assert contents(3) == contents(3)
    assert contents(3) != contents(4)


def test_the_samples_are_valid(tmp_path):
    """What was no image before the damage would tell nothing."""
    (tmp_path / "tiny.onnx").write_bytes(fuzz_files.tiny_model())
    target = fuzz_child.classify(tmp_path / "tiny.onnx")
    for label, contents in fuzz_images.samples().items():
        for content in contents:
            (tmp_path / "image").write_bytes(content)
            assert target(tmp_path / "image") == "answer", label
    assert fuzz_child.load_model(Path())(tmp_path / "tiny.onnx") == "answer"


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("print(1, flush=True); input(); import os; os.abort()", "the process died (SIGABRT)"),
        (
            "print(1, flush=True); input(); raise SystemExit('out of luck')",
            "the process died (exit code 1); out of luck",
        ),
        ("print(1, flush=True); input(); import time; time.sleep(60)", "hangs"),
    ],
)
def test_a_process_that_dies_or_hangs_is_a_finding_and_starts_again(monkeypatch, program, said):
    monkeypatch.setattr(fuzz_worker, "PATIENCE", 1.5)
    with Worker("image", Path()) as worker:
        worker._command = [sys.executable, "-c", program]
        for _ in range(2):
            report = worker.read(Path("case.png"))
            assert report.finding == f"finding: {said}" or report.finding == f"finding: {said}; "


def test_a_process_that_dies_after_its_answer_is_a_finding_of_the_next_file():
    answer = '{"outcome": "refused", "seconds": 0.0, "peak_mb": 0.0}'
    with Worker("image", Path()) as worker:
        worker._command = [
            sys.executable, "-c", f"print(1, flush=True); input(); print('{answer}', flush=True); import os; os.abort()"
        ]  # fmt: skip
        assert worker.read(Path("case.png")).finding is None
        worker._process.wait()
        assert worker.read(Path("case.png")).finding == "finding: the process died (SIGABRT); "
        assert worker.read(Path("case.png")).finding is None


def test_what_is_raised_or_said_badly_is_a_finding(tmp_path):
    def raises(path):
        raise KeyError("seed")

    assert fuzz_child._outcome(raises, tmp_path).startswith("finding: KeyError")
    assert fuzz_child._judged(f"{tmp_path}: is bad", tmp_path) == "refused"
    for message in ("is bad", f"{tmp_path}: is\nbad", f"{tmp_path}" + "x" * 3000):
        assert fuzz_child._judged(message, tmp_path).startswith("finding: not one sentence")


def test_time_and_memory_are_bounded():
    assert Report("answer", 4.9, 1499).finding is None
    assert "5.1 s" in str(Report("answer", 5.1, 10).finding)
    assert "1501 MB" in str(Report("refused", 0.1, 1501).finding)
    assert "waited 5.1 s" in str(Report("refused", 0.1, 10, 5.1).finding)


def test_a_reader_that_sleeps_is_told_from_one_that_computes():
    program = """
import sys, time
from benchmarks import fuzz_child
fuzz_child.TARGETS["image"] = lambda model: lambda path: time.sleep(float(path.name)) or "answer"
sys.argv = ["", "image", ""]
fuzz_child.main()
"""
    with Worker("image", Path()) as worker:
        worker._command = [sys.executable, "-c", program]
        report = worker.read(Path("0.4"))
    assert report.outcome == "answer" and report.waited > 0.3 and report.seconds < 0.3


def test_dear_files_are_small():
    cases = list(dear_cases(["BMP, run lengths", "TIFF, tags"]))
    assert all(len(case.content) < 2_000_000 for case in cases)
    assert len(np.unique([case.label for case in cases])) == 1
