"""Verdicts by class: they follow the counts, name the other class, and never take rendered images for real ones."""

import json

import numpy as np
import pytest
from samples import row
from scipy.stats import binom

from semdefect import CLASSES
from semdefect.edge.guard import ACCEPTED, AMBIGUOUS
from semdefect.evaluation import Outcome
from semdefect.readiness import (
    HEADER,
    Calls,
    cells,
    class_readiness,
    content,
    evidence,
    needed_calls,
    purity_bounds,
)

BRIDGE, CLEAN, LER, OPEN = (CLASSES.index(name) for name in ("bridge", "clean", "ler", "open"))


def calls(*groups):
    """Of each (truth, predicted, accepted, count) so many images."""
    table = np.array([group[:3] for group in groups for _ in range(group[3])])
    return Calls(table[:, 0], table[:, 1], table[:, 2].astype(bool))


def verdict(label, measured, rows=()):
    measured = {"rendered": calls((0, 0, 0, 1))} | measured
    rows = class_readiness(rows, measured, target_purity=0.98, confidence=0.9)
    return rows[CLASSES.index(label)]


@pytest.mark.parametrize("errors", [0, 1, 5])
@pytest.mark.parametrize(("target", "confidence"), [(0.98, 0.9), (0.98, 0.99), (0.9, 0.95)])
def test_the_needed_calls_are_the_fewest_whose_bound_reaches_the_target(errors, target, confidence):
    needed = needed_calls(errors, target, confidence)
    assert purity_bounds(needed - errors, needed, confidence)[0] >= target
    assert purity_bounds(needed - 1 - errors, needed - 1, confidence)[0] < target
    assert binom.cdf(errors, needed, 1 - target) <= 1 - confidence < binom.cdf(errors, needed - 1, 1 - target)


def test_228_calls_without_an_error_show_98_percent_at_99():
    assert needed_calls(0, 0.98, 0.99) == 228


def test_bounds_without_calls_say_nothing():
    assert purity_bounds(0, 0, 0.9) == (0.0, 1.0)


def test_a_class_is_ready_from_the_call_on_that_proves_it():
    for number, state in ((113, "needs more data"), (114, "ready")):
        one = verdict("open", {"real": calls((OPEN, OPEN, 1, number))})
        assert (one.verdict, one.more_calls) == (state, 114 - number)
    assert one.collect == "nothing"


def test_what_is_missing_counts_the_errors_there_are_and_the_images_the_guard_rejects():
    one = verdict("open", {"real": calls((OPEN, OPEN, 1, 60), (OPEN, OPEN, 0, 15), (BRIDGE, OPEN, 1, 1))})
    assert (one.calls, one.errors, one.verdict) == (61, 1, "needs more data")
    assert one.more_calls == 194 - 61
    assert one.more_images == np.ceil(133 / (60 / 75))
    assert one.collect == "some 167 real test images, for 133 further calls without an error"


def test_calls_that_are_proven_wrong_too_often_overlap_with_the_class_they_come_from():
    one = verdict("clean", {"real": calls((CLEAN, CLEAN, 1, 90), (LER, CLEAN, 1, 10), (LER, LER, 1, 100))})
    assert one.verdict == "overlaps with ler"
    assert one.confused_with == "ler" and one.confused_share == pytest.approx(10 / 200)
    assert one.purity == 0.9 and one.purity_bound < 0.9
    assert "clean and ler" in one.collect


def test_a_class_that_the_guard_leaves_to_a_person_overlaps_however_pure_the_rest_is():
    measured = calls((CLEAN, CLEAN, 1, 120), (CLEAN, CLEAN, 0, 200), (CLEAN, LER, 0, 30), (LER, LER, 1, 200))
    one = verdict("clean", {"real": measured})
    assert one.purity_bound > 0.98 and one.accepted == pytest.approx(120 / 320)
    assert one.verdict == "overlaps with ler"


def test_a_guard_that_accepts_nothing_shows_no_overlap():
    one = verdict("clean", {"real": calls((CLEAN, CLEAN, 0, 20), (LER, CLEAN, 0, 5))})
    assert (one.verdict, one.calls, one.purity, one.accepted) == ("needs more data", 0, None, 0.0)
    assert (one.more_calls, one.more_images) == (114, None)


def test_rendered_images_make_no_class_ready_for_real_ones():
    rows = [row("open/0.png"), row("open/1.png", origin="real", family="augmented")]
    one = verdict("open", {"rendered": calls((OPEN, OPEN, 1, 500))}, rows)
    assert one.verdict == "ready on rendered images; no real image measured"
    assert (one.real_images, one.rendered_images, one.measured_on) == (0, 1, "rendered")
    assert one.more_calls == 114 and one.collect == "some 114 real test images, for 114 calls without an error"


def test_real_images_decide_for_the_classes_that_have_them():
    measured = {"rendered": calls((OPEN, OPEN, 1, 500), (CLEAN, CLEAN, 1, 500)), "real": calls((OPEN, OPEN, 1, 3))}
    assert verdict("open", measured).verdict == "needs more data"
    assert verdict("clean", measured).verdict.startswith("ready on rendered images")


def outcome(truth, accepted=True):
    rows = np.eye(len(CLASSES))[truth]
    codes = np.full(len(truth), ACCEPTED if accepted else AMBIGUOUS)
    return Outcome(rows, rows, np.array(truth), codes)


def test_evidence_counts_one_image_of_a_group_and_no_children():
    real = {"origin": "real", "family": "original"}
    test = [
        row("open/0.png"),
        row("open/1.png", group="a", **real),
        row("bridge/2.png", group="a", **real),
        row("open/3.png", group="b", origin="real", family="augmented"),
        row("via/4.png", group="c", **real),
    ]
    found = evidence({"clean": outcome([OPEN, OPEN, BRIDGE, OPEN, 7]), "fresh": outcome([CLEAN, LER], False)}, test)
    assert found["rendered"].truth.tolist() == [OPEN, CLEAN, LER]
    assert found["rendered"].accepted.tolist() == [True, False, False]
    assert found["real"].truth.tolist() == [OPEN, 7]
    assert set(evidence({"clean": outcome([OPEN])}, test[:1])) == {"rendered"}


def test_the_table_has_a_line_a_class_and_json_has_no_nan():
    rows = class_readiness([row("open/0.png")], {"rendered": calls((OPEN, OPEN, 1, 200))}, 0.98, 0.9)
    assert [line[0] for line in cells(rows)] == list(CLASSES)
    assert all(len(line) == len(HEADER) for line in cells(rows))
    figures = json.loads(json.dumps(content(rows), allow_nan=False))
    assert (figures["ready"], figures["ready_on_rendered"]) == (0, 1)
    assert figures["classes"]["open"]["purity"] == 1.0
