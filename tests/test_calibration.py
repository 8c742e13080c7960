"""Confidences that mean what they say, and a guard that keeps its promise on the images it was set with."""

import numpy as np
import pytest
from scipy.special import softmax

from semdefect.calibration import (
    NEVER_UNKNOWN,
    REVIEW_ALL,
    enough_confidence,
    fit_temperature,
    guard_thresholds,
    purity_threshold,
    unknown_threshold,
)


def honest(count: int, seed: int = 0, sharpness: float = 2.0):
    """Logits and labels drawn from the very probabilities that the logits state."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, sharpness, (count, 8)).astype(np.float32)
    labels = np.array([rng.choice(8, p=p) for p in softmax(logits.astype(float), axis=1)])
    return logits, labels


@pytest.mark.parametrize("scale", [0.2, 0.5, 1.0, 3.0, 10.0])
def test_a_known_scaling_is_recovered(scale):
    logits, labels = honest(5000)
    assert fit_temperature(logits * scale, labels) == pytest.approx(scale, rel=0.06)


def test_scaling_makes_overconfident_predictions_honest():
    logits, labels = honest(4000)
    temperature = fit_temperature(logits * 4, labels)
    confidence = softmax(logits * 4 / temperature, axis=1).max(axis=1)
    right = (logits.argmax(axis=1) == labels).mean()
    assert confidence.mean() == pytest.approx(right, abs=0.02)
    assert softmax(logits * 4, axis=1).max(axis=1).mean() > right + 0.1


@pytest.mark.parametrize("wrong", [False, True])
def test_the_temperature_stays_usable_for_perfect_and_hopeless_models(wrong):
    labels = np.arange(80) % 8
    logits = np.eye(8, dtype=np.float32)[(labels + wrong) % 8] * 12
    assert 0.05 <= fit_temperature(logits, labels) <= 20


def answers(count: int, seed: int, sharpness: float = 9.0):
    """Honest probabilities and labels, mostly right."""
    logits, labels = honest(count, seed, sharpness)
    return softmax(logits.astype(float), axis=1), labels


@pytest.mark.parametrize(("target", "images"), [(0.9, 150), (0.9, 360), (0.98, 360), (0.98, 2400)])
def test_thresholds_keep_their_purity_as_often_as_promised(target, images):
    probabilities, labels = answers(20_000, 1)  # stands for all images there are
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    broken, accepted = [], []
    rng = np.random.default_rng(0)
    for _ in range(100):
        drawn = rng.integers(0, len(labels), images)
        threshold = purity_threshold(sure[drawn], right[drawn], target, 0.9)
        broken.append((sure >= threshold).any() and right[sure >= threshold].mean() < target)
        accepted.append((sure >= threshold).mean())
    assert np.mean(broken) <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 100)
    assert np.median(accepted) > 0.4  # and it is no guard that accepts nothing


def test_where_there_are_many_images_an_error_among_the_surest_does_not_end_it():
    right = np.ones(2400, bool)
    right[5] = right[2000:] = False
    threshold = purity_threshold(np.linspace(1, 0.5, 2400), right, 0.98, 0.9)
    assert 0.55 < threshold < 0.6  # 2000 right ones and a few more
    assert purity_threshold(np.linspace(1, 0.5, 360), right[:360], 0.98, 0.9) == REVIEW_ALL


def test_a_threshold_takes_all_images_of_its_confidence_or_none():
    sure, right = np.repeat([0.99, 0.7], [300, 60]), np.repeat([True, False], [300, 60])
    assert purity_threshold(sure, right, 0.98, 0.9) == pytest.approx(0.99, abs=1e-5)
    assert purity_threshold(np.full(360, 0.8), right, 0.98, 0.9) == REVIEW_ALL


def test_too_few_images_show_nothing():
    for count in (0, 1, 113):
        assert purity_threshold(np.full(count, 0.9), np.ones(count, bool), 0.98, 0.9) == REVIEW_ALL
        assert unknown_threshold(np.full(min(count, 40), 0.1), 0.05, 0.9) == NEVER_UNKNOWN > 1
    enough = purity_threshold(np.full(114, 0.9), np.ones(114, bool), 0.98, 0.9)  # 0.98^114 < 0.1
    assert enough == pytest.approx(0.9, abs=1e-5)


def test_a_class_that_is_called_often_has_a_threshold_of_its_own():
    labels = np.repeat([0, 1, 2], [1000, 1000, 40])
    sure = np.tile(np.linspace(0.5, 1, 1000), 3)[: len(labels)]
    probabilities = np.zeros((len(labels), 3)) + (1 - sure[:, None]) / 2
    probabilities[np.arange(len(labels)), labels] = sure
    truth = np.where((labels == 1) & (sure < 0.8), 0, labels)  # class 1 is often called wrongly
    thresholds = guard_thresholds(probabilities, truth, 0.9, 0.9)
    assert thresholds[0] == pytest.approx(0.5, abs=1e-5) and 0.7 < thresholds[1] < 0.85
    assert thresholds[2] == pytest.approx(0.5, abs=1e-5)  # its 40 images, all right, suffice for 0.9
    hopeless = guard_thresholds(probabilities, (labels + 1) % 3, 0.9, 0.9)
    assert hopeless == (REVIEW_ALL,) * 3


def test_no_more_images_are_called_unknown_than_promised():
    scores = np.random.default_rng(0).normal(size=100_000)
    above = []
    for seed in range(300):
        drawn = np.random.default_rng(seed).choice(scores, 360)
        above.append((scores > unknown_threshold(drawn, 0.05, 0.9)).mean())
    assert np.mean(np.array(above) > 0.05) <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 300)
    assert np.median(above) > 0.02


def test_the_cheap_model_answers_alone_as_long_as_the_pair_says_what_the_full_one_says():
    rng = np.random.default_rng(0)
    full = softmax(rng.normal(0, 4, (1000, 8)), axis=1)
    cheap = softmax(np.log(full) + rng.normal(0, 1.5, full.shape), axis=1)
    shares = []
    for agreement in (1.0, 0.99, 0.95, 0.0):
        enough = enough_confidence(cheap, full, agreement)
        asked = cheap.max(axis=1) < enough
        same = (np.where(asked[:, None], full, cheap).argmax(axis=1) == full.argmax(axis=1)).mean()
        assert same >= agreement
        shares.append(asked.mean())
    assert 1 > shares[0] > shares[1] > shares[2] > shares[3] == 0
    assert same < 0.95  # where nothing is asked for, the cheap model is on its own


def test_a_cheap_model_that_is_surely_wrong_is_always_backed_by_the_full_one():
    full = np.eye(8)[[0, 1, 2]] * 0.9
    assert enough_confidence(np.eye(8)[[7, 7, 7]] * 0.9, full, 1.0) == REVIEW_ALL
    assert enough_confidence(np.eye(8)[[0, 1, 7]] * 0.9, full, 0.99) == REVIEW_ALL  # one threshold takes all or none
