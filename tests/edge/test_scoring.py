import itertools
import json

import numpy as np
import pytest
from sklearn import metrics

from semdefect import CLASSES
from semdefect.edge import scoring
from semdefect.edge.guard import ACCEPTED, AMBIGUOUS, BLANK, REASONS, UNKNOWN
from semdefect.edge.guard_scoring import guard_figures, purity_curve


@pytest.fixture(params=range(6))
def case(request):
    """Truth and probabilities; later cases lack classes in truth, in the predictions, or in both."""
    draw = np.random.default_rng(request.param)
    count = (400, 60, 9, 1, 30, 200)[request.param]
    truth = draw.integers(0, 8 if request.param < 2 else 4, count)
    logits = draw.normal(size=(count, 8)) + 2 * np.eye(8)[truth]
    if request.param > 3:
        logits[:, 2] = -9
    powers = np.exp(logits)
    return truth, powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.filterwarnings("ignore")
def test_against_scikit_learn(case):
    truth, probabilities = case
    called = probabilities.argmax(axis=1)
    confusion = scoring.confusion_matrix(truth, called, 8)
    assert np.array_equal(confusion, metrics.confusion_matrix(truth, called, labels=range(8)))
    assert scoring.accuracy(confusion) == pytest.approx(metrics.accuracy_score(truth, called))
    assert scoring.mean_class_accuracy(confusion) == pytest.approx(metrics.balanced_accuracy_score(truth, called))
    wanted = metrics.f1_score(truth, called, average="macro", labels=np.unique(truth), zero_division=0)
    assert scoring.macro_f1(confusion) == pytest.approx(wanted)
    for ours, theirs, images in (
        (scoring.purities(confusion), metrics.precision_score, called),
        (scoring.recalls(confusion), metrics.recall_score, truth),
    ):
        wanted = theirs(truth, called, average=None, labels=range(8), zero_division=0)
        for number, value in enumerate(ours):
            assert (value is None) == (number not in images)
            assert value is None or value == pytest.approx(wanted[number])


def test_escapes_and_overkill():
    truth, called = [1, 1, 1, 1, 0, 0, 2, 3, 3], [1, 1, 1, 0, 1, 0, 1, 3, 2]
    confusion = scoring.confusion_matrix(truth, called, 8)
    assert scoring.escape_rate(confusion, clean=1) == pytest.approx(2 / 5)
    assert scoring.overkill_rate(confusion, clean=1) == pytest.approx(1 / 4)
    assert scoring.overkill_rate(confusion, clean=7) is None
    assert scoring.escape_rate(scoring.confusion_matrix([1], [1], 8), clean=1) is None


def test_calibration_error(case):
    truth, probabilities = case
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    edges = np.linspace(0, 1, 16)
    wanted = 0.0
    for low, high in itertools.pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            wanted += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert scoring.expected_calibration_error(probabilities, truth) == pytest.approx(wanted)


def test_calibration_error_at_the_ends():
    certain = np.eye(4)[[0, 1, 2, 3]]
    assert scoring.expected_calibration_error(certain, [0, 1, 2, 3]) == 0
    assert scoring.expected_calibration_error(certain, [1, 2, 3, 0]) == 1


def test_the_parts_of_the_rejection_rate_are_all_of_it():
    figures = guard_figures(np.eye(8)[:5], range(5), np.arange(len(REASONS)), CLASSES)
    parts = [figures[reason] for reason in REASONS if reason]
    assert parts == [1 / 5] * 4 and figures["rejection_rate"] == pytest.approx(sum(parts))


def test_guard_figures():
    # Three bridges, of which one is called clean and one unknown; two clean images, one called a bridge; one via.
    truth, called = [0, 0, 0, 1, 1, 7], [0, 1, 0, 0, 1, 7]
    codes = np.array([ACCEPTED, ACCEPTED, UNKNOWN, ACCEPTED, AMBIGUOUS, BLANK])
    figures = guard_figures(np.eye(8)[called], truth, codes, CLASSES)
    killers = figures.pop("killers")
    assert figures == {
        "rejection_rate": 3 / 6,
        "ambiguous": 1 / 6,
        "unknown": 1 / 6,
        "blank": 1 / 6,
        "hurried": 0,
        "purity": pytest.approx(1 / 3),
        "escape_rate": 1 / 4,
        "overkill_rate": 1 / 2,
    }
    assert list(killers) == ["bridge", "open", "via", "crack"]
    assert killers["bridge"] == {"recall": pytest.approx(1 / 3), "kept": pytest.approx(2 / 3)}
    assert killers["via"] == {"recall": 0, "kept": 1} and killers["open"] == {"recall": None, "kept": None}


def test_purity_curve():
    probabilities = [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.45, 0.55]]
    rejected, purity = purity_curve(probabilities, [0, 1, 1, 1])
    assert rejected.tolist() == [0.75, 0.5, 0.25, 0]
    assert purity.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 3 / 4])


def test_score_is_json(case):
    truth, probabilities = case
    figures = json.loads(json.dumps(scoring.score(truth, probabilities, CLASSES), allow_nan=False))
    assert figures["images"] == len(truth) and figures["classes"] == list(CLASSES)
    assert np.array(figures["confusion"]).sum() == len(truth)
    assert sum(row["images"] for row in figures["per_class"].values()) == len(truth)
    assert sum(row["called"] for row in figures["per_class"].values()) == len(truth)
    clean = scoring.escape_rate(np.array(figures["confusion"]), CLASSES.index("clean"))
    assert figures["escape_rate"] == clean


def test_no_images_and_no_clean_class():
    figures = scoring.score([], np.zeros((0, 2)), ["a", "b"])
    names = (
        "accuracy",
        "mean_class_accuracy",
        "macro_f1",
        "calibration_error",
        "escape_rate",
        "overkill_rate",
    )
    assert all(figures[name] is None for name in names)
    guarded = guard_figures(np.zeros((0, 2)), [], np.zeros(0, int), ["a", "b"])
    assert guarded["rejection_rate"] is guarded["purity"] is guarded["escape_rate"] is None
    assert guarded["killers"] == {}


def test_what_does_not_fit():
    for truth, called in (([0, 1], [0]), ([8], [0]), ([0], [-1]), ([[0]], [[0]])):
        with pytest.raises(ValueError):
            scoring.confusion_matrix(truth, called, 8)
    for truth, probabilities in (([0], [[0.5, 0.5], [1, 0]]), ([0], [0.5, 0.5]), ([0], [[1.0, 0, 0]])):
        with pytest.raises(ValueError):
            scoring.score(truth, probabilities, ["a", "b"])
