"""Honest confidences: temperature scaling and the guard's threshold, both from the validation split alone."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

#: A threshold that no confidence reaches: the guard sends every image to review.
REVIEW_ALL = 1.01


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The temperature in [0.05, 20] under which ``logits [N, C]`` give ``labels [N]`` the highest likelihood.

    Source: Guo et al., "On Calibration of Modern Neural Networks", 2017.
    """

    def loss(log_temperature: float) -> float:
        likelihoods = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(likelihoods[np.arange(len(labels)), labels].mean())

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return round(float(np.exp(found.x)), 4)


def guard_threshold(
    logits: NDArray[np.floating], labels: NDArray[np.integer], temperature: float, target_purity: float
) -> float:
    """The lowest threshold, of four decimals, whose accepted images are right in at least ``target_purity`` of cases.

    Returns:
        A threshold in [0, 1], or `REVIEW_ALL` where no threshold reaches the target.
    """
    probabilities = softmax(logits.astype(np.float64) / temperature, axis=1)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    for threshold in np.unique(np.floor(confidence * 1e4) / 1e4):
        accepted = confidence >= threshold
        if accepted.any() and right[accepted].mean() >= target_purity:
            return float(threshold)
    return REVIEW_ALL
