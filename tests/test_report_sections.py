"""The report of a run: every figure that is asked for, for any split and any student."""

import re
from html import unescape

import numpy as np
import pytest
from PIL import Image
from test_evaluation import EACH_TWICE, changed, outcome
from test_model_card import run  # noqa: F401  a fixture

from semdefect import CLASSES
from semdefect.evaluation import MODELS, summarise
from semdefect.readiness import class_readiness, evidence
from semdefect.report_sections import Findings, write_run_report

DAMAGED = {"student_int8": {"clean": 0.9, "mean": 0.7, "curves": {"shot_noise": [0.9, 0.8, 0.7, 0.6, 0.5]}}}
LOOKS = {"images": 8, "pointing": 0.95, "energy": 0.8, "chance": 0.1, "per_class": {}}
AUDIT = {"images": 16, "candidates": 5, "correlated": 2, "duplicates": 0, "crossing_groups": 0}
ROUNDING = {"tensors_signal_to_noise_db": {"stem": 12.34, "head": 50.0}, "worst_tensors": ["stem"]}
PICTURES = ("confusion", "purity", "reliability", "robustness", "severities", "attention", "errors", "neighbours")


def speed(digest):
    times = {"p50_ms": 1.25, "p95_ms": 2.5}
    ours = dict.fromkeys(("decode", "resize", "network", "whole"), times) | {"images_per_second": 321.4}
    call = {"model": "models/edge/student_int8.onnx", "image": "128.png", "threads": 1, "batch": 1}
    call |= {"recipes": {"ours": ours}, "times_as_fast": {"plain": {"whole": 0.91}}}
    return {"command": "measure", "environment": {"processor": "a chip"}, "files": {"student_int8.onnx": digest}} | {
        "calls": [call]
    }


@pytest.fixture
def page(run, tmp_path):  # noqa: F811
    """Writes the report of a run whose models all say ``answers``; its text without pictures."""

    def write(answers, timed=None):
        scored, sets = run.scored, {**run.scored.sets, "mixed": run.scored.sets["clean"] + run.scored.sets["noisy"]}
        for model in MODELS:
            scored.outcomes[model] = dict.fromkeys(sets, answers)
        details = {model: {name: answers.figures() for name in sets} for model in MODELS}
        summary = summarise(scored.outcomes, details, {name: {"all": 0.5} for name in MODELS}, DAMAGED, LOOKS, AUDIT)
        ready = class_readiness(
            run.splits["test"], evidence(scored.outcomes["student_int8"], run.splits["test"]), 0.98, 0.9
        )
        found = Findings(run, details, summary, DAMAGED, 8, LOOKS, AUDIT, ready, ROUNDING, timed)
        for name in (*PICTURES, "samples"):
            Image.new("L", (8, 8)).save(tmp_path / f"{name}.png")
        write_run_report(found, tmp_path, tmp_path / "samples.png", tmp_path / "report.html")
        text = (tmp_path / "report.html").read_text(encoding="utf-8")
        return unescape(re.sub(r"\s+", " ", re.sub(r"<style.*?</style>|<[^>]*>", " ", text, flags=re.DOTALL)))

    return write


def test_figures_stand_with_their_intervals(page):
    text = page(outcome(changed((4, 1), (6, 7))))
    assert re.search(r"teacher clean 16 87\.5% \(\d+\.\d–\d+\.\d\) 87\.5% \(", text)
    assert re.search(r"fast one first noisy 16 87\.5%", text)
    assert re.search(r"accuracy, clean 87\.5% 95 %: \d+\.\d–", text)
    for said in ("student INT8 90.0% 70.0%", "shot noise 90.0% 80.0% 70.0% 60.0% 50.0%", "mean 8 95.0% 80.0% 10.0%"):
        assert said in text
    assert "stem 12.3 dB" in text and "0 are duplicates" in text and "called unknown: all 50.0%" in text
    assert "distill.temperature 2.0" in text and not re.search(
        r"synthesize\.(workers|dask)", text
    )  # no result depends on it


@pytest.mark.parametrize(
    "answers",
    [
        outcome(changed((4, 1)), confidence=0.3),  # the guard accepts nothing: there is no purity
        outcome(EACH_TWICE),
        outcome([1] * 16),  # seven classes are never called
    ],
)
def test_a_figure_that_does_not_exist_is_a_dash(page, answers):
    text = page(answers)
    assert not re.search(r"\bnan\b|\bNone\b", text)
    assert ("makes no error" in text) == bool((answers.predicted == answers.truth).all())


def test_times_of_other_files_are_called_stale(page, run):  # noqa: F811
    from semdefect.network import file_sha256

    digest = file_sha256(run.students["student_int8"].path)
    fresh, stale = page(outcome(EACH_TWICE), speed(digest)), page(outcome(EACH_TWICE), speed("0" * 64))
    assert "student_int8.onnx 128.png 1.25 1.25 1.25 1.25 2.50 321 0.91" in fresh
    assert "measure again" in stale and "measure again" not in fresh
    assert "Not measured" in page(outcome(EACH_TWICE))


def test_every_class_has_a_verdict(page):
    text = page(outcome(EACH_TWICE))
    assert all(re.search(rf"{name} \w+ [\w ]+ on rendered images; no real image measured", text) for name in CLASSES)
    assert np.char.count(text, "no real image measured") == len(CLASSES)
