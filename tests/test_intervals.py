"""Intervals: as wide as theory says, and the figures that they are of."""

import numpy as np
import pytest
from samples import row
from sklearn.metrics import balanced_accuracy_score, f1_score

from semdefect import intervals
from semdefect.intervals import FIGURES, bootstrap, lineage, share_interval


def test_the_figures_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 4, (2, 200))
    confusion = np.zeros((1, 5, 5))
    np.add.at(confusion[0], (truth, predicted), 1)
    accuracy, balanced, macro = (float(values[0]) for values in intervals._figures(confusion))  # class 4 has no images
    assert accuracy == pytest.approx((truth == predicted).mean())
    assert balanced == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert macro == pytest.approx(f1_score(truth, predicted, average="macro"))


@pytest.mark.parametrize("copies", [1, 4])
def test_the_interval_of_a_coin_is_as_wide_as_theory_says(copies):
    truth = np.repeat(np.arange(2), 400).repeat(copies)
    wrong = np.random.default_rng(1).integers(0, 2, 800).repeat(copies)
    groups = np.arange(800).repeat(copies)  # copies of an image are no further evidence
    found = bootstrap(truth, (truth + wrong) % 2, 2, groups)
    assert set(found) == set(FIGURES)
    low, high = found["accuracy"]
    assert (high - low) / 2 == pytest.approx(1.96 * (0.25 / 800) ** 0.5, rel=0.1)
    assert low < 1 - wrong.mean() < high


def test_draws_repeat_and_a_perfect_model_has_no_width():
    truth = np.arange(403) % 4
    predicted = np.where(np.arange(403) % 7, truth, 0)
    first, again, other = (bootstrap(truth, predicted, 4, seed=seed)["macro_f1"] for seed in (0, 0, 1))
    assert first == again != other
    assert bootstrap(truth, truth, 4) == dict.fromkeys(FIGURES, (1.0, 1.0))


def test_a_class_keeps_its_number_of_images():
    truth = np.repeat([0, 1], [90, 10])
    assert bootstrap(truth, np.zeros(100, int), 2)["accuracy"] == pytest.approx((0.9, 0.9))


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="no images"):
        bootstrap(np.array([], int), np.array([], int), 8)


def test_children_and_corrupted_twins_are_of_one_lineage():
    rows = [row("via/a.png", group="g"), row("via/b.png", group="g"), row("via/c.png")]
    names = ["via/a.png", "via/b.png", "via/c.png", "via/a.png (noisy)", "via 3 (fresh)"]
    first, second, third, twin, fresh = lineage(names, rows).tolist()
    assert first == second == twin
    assert len({first, third, fresh}) == 3


def test_shares_have_wilsons_interval():
    # Newcombe, Statistics in Medicine 17 (1998) 857, table I: 15 of 148 and 0 of 20
    assert share_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert share_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert share_interval(0, 0) is None
