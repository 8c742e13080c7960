"""The figures of a run, on answers made by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from samples import params, row, texture

from semdefect import CLASSES
from semdefect.atomic import write_json
from semdefect.edge.guard import ACCEPTED, AMBIGUOUS
from semdefect.edge.runtime import Answers
from semdefect.evaluation import MODELS, Outcome, TestSet, load_test_sets, run_edge, summarise
from semdefect.manifest import IMAGES
from semdefect.seeds import STUDENT
from semdefect.training_data import fresh_images

CLEAN = CLASSES.index("clean")
EACH_TWICE = [number for number in range(8) for _ in range(2)]


def outcome(predicted, confidence=0.9, raw_confidence=0.99, truth=EACH_TWICE, threshold=0.5) -> Outcome:
    """Answers that name ``predicted`` with a confidence each; the rest is spread evenly."""

    def table(confidences):
        confidences = np.broadcast_to(confidences, len(predicted))
        rows = np.repeat((1 - confidences)[:, None] / 7, 8, axis=1)
        rows[np.arange(len(predicted)), predicted] = confidences
        return rows

    calibrated = table(confidence)
    codes = np.where(calibrated.max(axis=1) >= threshold, ACCEPTED, AMBIGUOUS)
    return Outcome(table(raw_confidence), calibrated, np.array(truth), codes)


def summary_of(teacher, fp32, int8):
    in_turn = replace(fp32, escalated=np.arange(16) < 4)
    answers = (teacher, fp32, int8, fp32, fp32, in_turn)
    outcomes = {name: {"mixed": answer} for name, answer in zip(MODELS, answers, strict=True)}
    details = {name: {"mixed": by_set["mixed"].figures()} for name, by_set in outcomes.items()}
    foreign = {name: {"all": 0.5} for name in MODELS}
    further = {"student_int8": {"mean": 0.4}}, {"pointing": 0.9, "energy": 0.8, "chance": 0.1}, {"duplicates": 0}
    return summarise(outcomes, details, foreign, *further), details


def changed(*changes):
    """The right answers, except ``(image, class)``."""
    predicted = list(EACH_TWICE)
    for image, number in changes:
        predicted[image] = number
    return predicted


def test_a_perfect_run():
    summary, _ = summary_of(*(outcome(EACH_TWICE) for _ in range(3)))
    assert summary["accuracy"] == {"mixed": dict.fromkeys(MODELS, 1.0)}
    assert summary["macro_f1"] == {"mixed": 1.0}
    assert summary["retention_of_teacher"] == 1
    assert summary["int8_fp32_agreement"] == {"mixed": 1}
    assert summary["guard"] == {"purity": {"mixed": 1.0}, "rejection_rate": {"mixed": 0.0}, "unknown": {"mixed": 0.0}}
    assert summary["foreign_called_unknown"] == {"all": 0.5}
    assert summary["escape_rate"] == summary["overkill_rate"] == summary["duplicates_across_splits"] == 0
    assert summary["damaged_accuracy"] == {"student_int8": 0.4}
    assert summary["looks_at_the_defect"] == {"pointing": 0.9, "energy": 0.8}
    assert summary["calibration_error"]["before_scaling"] == pytest.approx(0.01)
    assert summary["calibration_error"]["after_scaling"] == pytest.approx(0.1)


def test_each_figure_counts_what_its_name_says():
    # Images 2 and 3 are clean. The teacher errs twice, FP32 three times, INT8 four times.
    teacher = outcome(changed((0, 4), (1, 4)))
    fp32 = outcome(changed((2, 0), (4, CLEAN), (6, 7)))
    # INT8: a clean image called a bridge, two defects called clean, a crack called via, that one doubtfully.
    doubt = np.full(16, 0.9)
    doubt[[6, 8]] = 0.4
    int8 = outcome(changed((2, 0), (4, CLEAN), (5, CLEAN), (6, 7)), confidence=doubt)
    summary, details = summary_of(teacher, fp32, int8)
    assert summary["accuracy"]["mixed"] == {
        "teacher": 14 / 16, "student_fp32": 13 / 16, "student_int8": 12 / 16, "student_w8": 13 / 16,
        "student_fast": 13 / 16, "adaptive": 13 / 16,
    }  # fmt: skip
    assert summary["adaptive_escalated"] == {"mixed": 1 / 4}
    assert summary["retention_of_teacher"] == pytest.approx(12 / 14)
    assert summary["int8_fp32_agreement"] == {"mixed": 15 / 16}
    assert summary["overkill_rate"] == 1 / 2
    assert summary["escape_rate"] == 2 / 14
    assert summary["guard"]["purity"] == {"mixed": pytest.approx(11 / 14)}
    assert summary["guard"]["rejection_rate"] == {"mixed": pytest.approx(2 / 16)}
    assert details["student_int8"]["mixed"]["guard"]["killers"]["crack"] == {"recall": 0.5, "kept": 1.0}
    assert details["student_int8"]["mixed"]["per_class"]["cmp"]["recall"] == 0
    assert details["student_int8"]["mixed"]["per_class"]["bridge"]["purity"] == pytest.approx(2 / 3)


def test_calibration_is_told_before_and_after_scaling():
    predicted = changed(*((image, (EACH_TWICE[image] + 1) % 8) for image in range(0, 16, 2)))  # half are wrong
    answers = outcome(predicted, confidence=0.5, raw_confidence=0.95)
    summary, _ = summary_of(answers, answers, answers)
    assert summary["calibration_error"] == {
        "before_scaling": pytest.approx(0.45), "after_scaling": pytest.approx(0, abs=1e-9)
    }  # fmt: skip


def test_a_guard_that_accepts_nothing_and_a_hopeless_teacher_have_no_share(tmp_path):
    wrong = [(number + 1) % 8 for number in EACH_TWICE]
    summary, _ = summary_of(outcome(wrong), outcome(EACH_TWICE), outcome(EACH_TWICE, threshold=1.01))
    assert (summary["guard"]["purity"], summary["guard"]["rejection_rate"]) == ({"mixed": None}, {"mixed": 1.0})
    assert summary["retention_of_teacher"] is None
    write_json(tmp_path / "summary.json", summary)
    assert json.loads((tmp_path / "summary.json").read_text())["guard"]["purity"]["mixed"] is None


@pytest.fixture
def images(tmp_path, monkeypatch):
    """Four images of the test split, one of them real, one its child."""
    monkeypatch.chdir(tmp_path)
    rows = [
        row("bridge/a.png"),
        row("clean/b.png"),
        row("via/c.png", origin="real", family="original"),
        row("via/d.png", origin="real", family="augmented"),
    ]
    for number, member in enumerate(rows):
        path = IMAGES / member.path
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(texture(number, 224)).save(path)
    return rows


def test_sets_are_the_split_its_corruption_both_and_the_real_images(images):
    evaluate = params().evaluate.model_copy(update={"fresh_per_class": 2})
    sets = load_test_sets(images, evaluate, seed=1)
    assert {name: len(members.images) for name, members in sets.items()} == {
        "clean": 4, "noisy": 4, "mixed": 8, "fresh": 16, "real": 1
    }  # fmt: skip
    assert sets["real"].names == ["via/c.png"]
    assert sets["noisy"].truth.tolist() == sets["clean"].truth.tolist() == [0, 1, 7, 7]
    for clean, spoilt in zip(sets["clean"].images, sets["noisy"].images, strict=True):
        assert spoilt.size == clean.size == (224, 224)
        change = np.abs(np.asarray(clean, float) - np.asarray(spoilt, float)).mean()
        assert 3 < change < 60
    again = load_test_sets(images, evaluate, seed=1)
    for name in ("noisy", "fresh"):
        assert [image.tobytes() for image in again[name].images] == [image.tobytes() for image in sets[name].images]


def test_fresh_test_images_are_rendered_for_nothing_else(images):
    evaluate = params().evaluate.model_copy(update={"fresh_per_class": 2})
    fresh = load_test_sets(images, evaluate, seed=1)["fresh"]
    assert fresh.truth.tolist() == [label for label in range(8) for _ in range(2)]
    assert {image.size for image in fresh.images} == {(224, 224)}
    small = load_test_sets([replace(one, size=64) for one in images], evaluate, seed=1)["fresh"]  # as if rendered so
    assert {image.size for image in small.images} == {(224, 224)}
    assert not {image.tobytes() for image in small.images} & {image.tobytes() for image in fresh.images}
    trained = fresh_images(2, 224, STUDENT, 1).pixels
    assert not {image.tobytes() for image in fresh.images} & {pixels.numpy().tobytes() for pixels in trained}


def test_without_real_and_fresh_images_there_are_no_such_sets(images):
    evaluate = params().evaluate.model_copy(update={"fresh_per_class": 0})
    assert set(load_test_sets(images[:2], evaluate, seed=1)) == {"clean", "noisy", "mixed"}


def test_images_go_to_the_device_one_by_one_in_order():
    class Device:
        def answers(self, batch):
            assert batch.shape == (1, 1, 224, 224)
            return Answers(np.full((1, 8), batch.mean(), np.float32), np.array([1 - batch.mean()], np.float32))

    gray = [Image.new("L", (224, 224), level) for level in (0, 51, 255)]
    answers = run_edge(Device(), gray, "student")
    assert answers.logits[:, 0].tolist() == pytest.approx([0, 0.2, 1])
    assert answers.unknown.tolist() == pytest.approx([1, 0.8, 0])


def test_two_sets_join_in_order():
    first = TestSet([Image.new("L", (224, 224), 1)], np.array([1]), ["a"])
    second = TestSet([Image.new("L", (224, 224), 2)], np.array([2]), ["b"])
    joined = first + second
    assert (joined.truth.tolist(), joined.names) == ([1, 2], ["a", "b"])
    assert [image.getpixel((0, 0)) for image in joined.images] == [1, 2]
