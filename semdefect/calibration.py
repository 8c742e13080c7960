"""Honest confidences: temperature scaling and the guard's thresholds, from images that trained nothing."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import binom

from semdefect.edge.guard import Guard

#: A threshold that no confidence reaches: the guard sends every image to review.
REVIEW_ALL = 1.01
#: A score that no image exceeds: none is called unknown.
NEVER_UNKNOWN = 1.01
#: Times as many images as show a purity when all are right, from which on errors are provided for.
MANY = 8
#: What an answer may change by when an image comes alone or with others, or on another processor.
_LAST_DIGITS = 1e-6


def review_all(classes: int) -> Guard:
    """The guard of a model of ``classes`` that is not calibrated: it accepts nothing."""
    return Guard((REVIEW_ALL,) * classes, NEVER_UNKNOWN, target_purity=1.0, confidence=1.0)


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The temperature in [0.05, 20] under which ``logits [N, C]`` give ``labels [N]`` the highest likelihood.

    Source: Guo et al., "On Calibration of Modern Neural Networks", 2017.
    """

    def loss(log_temperature: float) -> float:
        likelihoods = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(likelihoods[np.arange(len(labels)), labels].mean())

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return round(float(np.exp(found.x)), 4)


def guard_thresholds(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], target_purity: float, confidence: float
) -> tuple[float, ...]:
    """Thresholds, one a class, from which on predictions are right in at least ``target_purity`` of cases.

    A class that is called often enough to leave room for errors has a threshold of its own; the others share one. All
    of them together keep the promise with a probability of ``confidence`` over calibration images drawn anew from where
    the later ones come from, each independent of the others. It takes the network and the temperature as given, which
    these images have helped to choose: the best epochs, and one number.

    Args:
        probabilities: calibrated, ``[N, classes]``, of calibration images.
        labels: their classes ``[N]``.
        target_purity: in (0, 1).
        confidence: in (0, 1).

    Returns:
        For each class a threshold in [0, 1], or `REVIEW_ALL` where none keeps the target.
    """
    sure, called = probabilities.max(axis=1), probabilities.argmax(axis=1)
    right, classes = called == labels, range(probabilities.shape[1])
    enough = MANY * needed_images(target_purity, confidence)
    alone = [number for number in classes if (called == number).sum() >= enough]
    groups = [[number] for number in alone] + [[number for number in classes if number not in alone]]
    thresholds = [REVIEW_ALL] * len(classes)
    each = 1 - (1 - confidence) / len(groups)
    for group in groups:
        of_it = np.isin(called, group)
        threshold = purity_threshold(sure[of_it], right[of_it], target_purity, each)
        for number in group:
            thresholds[number] = threshold
    return tuple(thresholds)


def purity_threshold(
    sure: NDArray[np.floating], right: NDArray[np.bool_], target_purity: float, confidence: float
) -> float:
    """The lowest threshold that fixed-sequence testing certifies to keep ``target_purity``, or `REVIEW_ALL`.

    The surest images are taken first, as many as have to be right without exception, then one more after the other,
    for as long as a binomial test rejects that they are right in fewer than ``target_purity`` of cases. The order
    depends on no label, and so the tests need no correction. Where there are many images, a single error among the
    surest shall not end it: further sequences begin at a quarter and a half of the images, and all share the
    probability of being wrong. Of several ways to begin, the one sequence accepts most where there are few images
    (a throw-away simulation).

    Source: Angelopoulos, Bates, Candès, Jordan, Lei, "Learn then Test: Calibrating Predictive Algorithms to Achieve
    Risk Control", 2021; the test is the one-sided bound of Clopper and Pearson, 1934.

    Args:
        sure: confidences ``[N]``.
        right: whether the predictions are right, ``[N]``.
        target_purity: in (0, 1).
        confidence: in (0, 1).
    """
    order = np.argsort(-sure, kind="stable")
    sure, errors = sure[order], np.cumsum(~right[order])
    last = np.append(sure[1:] != sure[:-1], True)  # one threshold takes equal confidences or none
    certified = 0
    for start, each in _sequences(len(sure), target_purity, confidence):
        counts = np.arange(start, len(sure) + 1)
        counts = counts[last[counts - 1]]
        unproven = binom.cdf(errors[counts - 1], counts, 1 - target_purity) > 1 - each
        certified = max([certified, *counts[np.cumsum(unproven) == 0]])
    return max(float(sure[certified - 1]) - _LAST_DIGITS, 0.0) if certified else REVIEW_ALL


def _sequences(count: int, target_purity: float, confidence: float) -> list[tuple[int, float]]:
    """With how many of ``count`` images each sequence of tests begins, and the confidence of its tests."""
    if count < MANY * needed_images(target_purity, confidence):
        return [(needed_images(target_purity, confidence), confidence)]
    each = 1 - (1 - confidence) / 3
    return [(needed_images(target_purity, each), each), (count // 4, each), (count // 2, each)]


def needed_images(target_purity: float, confidence: float) -> int:
    """The smallest number of images that show ``target_purity`` when all of them are right."""
    return math.ceil(math.log(1 - confidence) / math.log(target_purity))


def enough_confidence(cheap: NDArray[np.floating], full: NDArray[np.floating], agreement: float) -> float:
    """The lowest confidence from which on a cheap model's answer may stand beside a full one's.

    With it, the pair and the full model alone name the same class on a share of at least ``agreement`` of these images.
    As many errors as that may change are a bound on what the pair can lose; it needs no labels.

    Args:
        cheap: calibrated probabilities of the cheap model, ``[N, classes]``.
        full: of the full one.
        agreement: in [0, 1].

    Returns:
        A confidence in [0, 1], or `REVIEW_ALL` where the full model always has to be asked.
    """
    sure = cheap.max(axis=1)
    order = np.argsort(-sure, kind="stable")
    differ = np.cumsum((cheap.argmax(axis=1) != full.argmax(axis=1))[order])
    allowed = np.flatnonzero(differ <= round((1 - agreement) * len(sure), 6))
    last = np.append(sure[order][1:] != sure[order][:-1], True)  # one threshold takes equal confidences or none
    kept = allowed[last[allowed]]
    return max(float(sure[order][kept[-1]]) - _LAST_DIGITS, 0.0) if len(kept) else REVIEW_ALL


def unknown_threshold(scores: NDArray[np.floating], false_alarms: float, confidence: float) -> float:
    """The lowest score that at most ``false_alarms`` of images like these exceed, with a probability of ``confidence``.

    Args:
        scores: of calibration images ``[N]``.
        false_alarms: in (0, 1).
        confidence: in (0, 1).

    Returns:
        A score, or `NEVER_UNKNOWN` where there are too few images.
    """
    count = len(scores)
    if not count or binom.cdf(0, count, false_alarms) > 1 - confidence:
        return NEVER_UNKNOWN
    above = 0
    while binom.cdf(above + 1, count, false_alarms) <= 1 - confidence:
        above += 1
    return float(np.sort(scores)[::-1][above]) + _LAST_DIGITS
