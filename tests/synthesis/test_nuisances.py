"""Overlays, frames and noise tell nothing of the class: nothing learned from them alone finds it."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_predict

from semdefect import CLASSES
from semdefect.synthesis import render
from semdefect.synthesis.overlays import add_overlays
from semdefect.synthesis.render import Rendered, _stream

SIZE = 64
PER_CLASS = 150
RECORDING = (
    "noise_sigma",
    "noise_correlation_px",
    "signal_dependent",
    "row_sigma",
    "low_size",
    "unsharp",
    "jpeg_quality",
)


@pytest.fixture(scope="module")
def images() -> list[Rendered]:
    return [render(name, 70_000 + i, SIZE) for name in CLASSES for i in range(PER_CLASS)]


def cross_validated_accuracy(features: np.ndarray) -> float:
    labels = np.repeat(np.arange(len(CLASSES)), PER_CLASS)
    forest = RandomForestClassifier(100, min_samples_leaf=5, random_state=0)
    return float((cross_val_predict(forest, features, labels, cv=5) == labels).mean())


def noise_features(images: list[Rendered]) -> np.ndarray:
    return np.array([[float(image.record["imaging"][key]) for key in RECORDING] for image in images])


def overlay_features(images: list[Rendered]) -> np.ndarray:
    kinds = sorted({kind for image in images for kind in image.record["overlays"]})
    assert len(kinds) > 4  # the test would pass without any overlay
    return np.array([[float(kind in image.record["overlays"]) for kind in kinds] for image in images])


def overlay_pixels(images: list[Rendered]) -> np.ndarray:
    """The overlays of each image on a flat film, 16 × 16."""
    flat = np.full((SIZE, SIZE), 128, np.uint8)
    drawn = []
    for image in images:
        # A twin takes the overlays of the image whose defect it has not, which stay off that defect.
        label, family = image.record["source"].split("/")
        twin = label != image.class_name
        mask = render(label, image.seed, SIZE, family).mask if twin else image.mask
        drawn.append(add_overlays(_stream(label, image.seed, 1), flat, mask).image)
    return (
        np.array(drawn, float)
        .reshape(len(images), 16, SIZE // 16, 16, SIZE // 16)
        .mean(axis=(2, 4))
        .reshape(len(images), -1)
    )


@pytest.mark.parametrize("features_of", [noise_features, overlay_features, overlay_pixels])
def test_a_classifier_on_nuisances_alone_stays_at_chance(images, features_of):
    chance = 1 / len(CLASSES)
    error = (chance * (1 - chance) / len(images)) ** 0.5
    assert cross_validated_accuracy(features_of(images)) < chance + 3.5 * error


def test_the_classifier_finds_a_leak_where_there_is_one(images):
    leaky = noise_features(images)
    leaky[:, 0] *= 1 + np.repeat(np.arange(len(CLASSES)), PER_CLASS)  # louder noise from class to class
    assert cross_validated_accuracy(leaky) > 0.2
