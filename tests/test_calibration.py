"""Confidences that mean what they say, and a guard that keeps its promise on the images it was set with."""

import numpy as np
import pytest
from scipy.special import softmax

from semdefect.calibration import REVIEW_ALL, fit_temperature, guard_threshold


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


@pytest.mark.parametrize("target", [0.5, 0.8, 0.95, 0.99])
@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.5])
def test_the_guard_reaches_its_purity_and_accepts_all_it_can(target, temperature):
    logits, labels = honest(2000, sharpness=3.0)
    threshold = guard_threshold(logits, labels, temperature, target)
    probabilities = softmax(logits / temperature, axis=1)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    accepted = confidence >= threshold
    assert accepted.sum() > 20
    assert right[accepted].mean() >= target
    for lower in np.arange(threshold - 0.3, threshold - 0.001, 0.01):
        more = confidence >= max(lower, 0)
        assert right[more].mean() < target or more.sum() == accepted.sum()


def test_a_model_that_is_always_right_needs_no_review():
    labels = np.arange(40) % 8
    logits = np.eye(8, dtype=np.float32)[labels] * np.linspace(1, 9, 40)[:, None].astype(np.float32)
    threshold = guard_threshold(logits, labels, 1.0, 0.99)
    assert (softmax(logits, axis=1).max(axis=1) >= threshold).all()


def test_a_model_that_never_reaches_the_target_sends_all_to_review():
    labels = np.arange(40) % 8
    logits = np.eye(8, dtype=np.float32)[(labels + 1) % 8] * 50
    assert guard_threshold(logits, labels, 1.0, 0.9) == REVIEW_ALL > 1
