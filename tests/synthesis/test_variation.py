"""Augmentation of real images and stated corruptions: repeatable, of the same form, and not idle."""

import json

import numpy as np
import pytest

from semdefect import CLASSES
from semdefect.errors import UserError
from semdefect.synthesis import augment, corrupt, render
from semdefect.synthesis.augment import period_of
from semdefect.synthesis.imaging import charging

NEUTRAL = {"shot_noise": 0.0, "blur": 0.0, "contrast": 1.0, "drift": 0.0, "charging": 0.0}


@pytest.mark.parametrize("class_name", CLASSES)
def test_augment_repeats_and_changes(class_name: str):
    image = render(class_name, 4, 96).image
    results = [augment(np.random.default_rng(9), image, class_name) for _ in range(2)]
    assert (results[0][0] == results[1][0]).all()
    assert results[0][1] == results[1][1]
    varied, params = results[0]
    json.dumps(params)
    assert varied.shape == image.shape
    assert varied.dtype == np.uint8
    others = [augment(np.random.default_rng(seed), image, class_name)[0] for seed in range(8)]
    assert all((other != image).any() for other in others)
    assert len({other.tobytes() for other in others}) == 8


def test_augment_keeps_the_limits_of_the_class():
    image = render("clean", 4, 64).image
    for seed in range(120):
        for class_name in ("clean", "via", "bridge"):
            params = augment(np.random.default_rng(seed), image, class_name)[1]
            half = 0.5 if class_name == "clean" else 1.0
            assert params.get("noise", 0) <= 0.04 * half
            assert params.get("drift", 0) <= 0.3 * half
            assert params.get("warp", 0) <= 0.5 * half
            assert class_name == "bridge" or params["rot90"] == 0
            assert params["crop"] >= 0.87


def test_augment_never_shows_an_empty_corner():
    image = np.full((80, 80), 200, np.uint8)
    for seed in range(60):
        varied, _ = augment(np.random.default_rng(seed), image, "cmp")
        # The tone changes but a flat image has no black corner.
        assert varied[[0, 0, -1, -1], [0, -1, 0, -1]].min() > 90


def test_augment_refuses_what_it_cannot_vary():
    with pytest.raises(UserError, match="bridge, clean"):
        augment(np.random.default_rng(0), np.zeros((8, 8), np.uint8), "scratch")
    with pytest.raises(UserError, match="square"):
        augment(np.random.default_rng(0), np.zeros((8, 9), np.uint8), "cmp")


def test_period_of_finds_the_lines():
    x = np.arange(128, dtype=np.float32)
    lines = 0.5 + 0.3 * np.sin(2 * np.pi * x / 8)[None, :] * np.ones((128, 1), np.float32)
    noise = 0.1 * np.random.default_rng(0).standard_normal((128, 128)).astype(np.float32)
    assert period_of(lines + noise) == pytest.approx(8, rel=0.1)
    assert period_of((lines + noise).T) == pytest.approx(8, rel=0.1)


@pytest.mark.parametrize("name", [*NEUTRAL, "all"])
def test_corrupt_repeats_and_changes(name: str):
    strong = {"shot_noise": 0.1, "blur": 1.5, "contrast": 0.5, "drift": 0.5, "charging": 0.4}
    strengths = strong if name == "all" else NEUTRAL | {name: strong[name]}
    image = render("open", 8, 96).image
    once, again = (corrupt(image, 5, **strengths) for _ in range(2))
    assert (once == again).all()
    assert once.shape == image.shape
    assert once.dtype == np.uint8
    assert (once != image).mean() > 0.05


def test_neutral_corruption_changes_nothing():
    image = render("via", 8, 64).image
    assert (corrupt(image, 5, **NEUTRAL) == image).all()


def test_corrupt_has_the_stated_strength():
    flat = np.full((128, 128), 128, np.uint8)
    noisy = corrupt(flat, 1, **(NEUTRAL | {"shot_noise": 0.08})).astype(float) / 255
    # At mid-grey the variance σ²(.3 + 1.4 · .5) is σ² itself.
    assert noisy.std() == pytest.approx(0.08, rel=0.05)
    half = np.repeat(np.array([[60, 180]], np.uint8), 64, axis=1) * np.ones((128, 1), np.uint8)
    assert np.ptp(corrupt(half, 1, **(NEUTRAL | {"contrast": 0.5})).astype(int)) == pytest.approx(60, abs=1)


def test_charging_darkens_only_behind_bright_areas():
    image = np.full((32, 96), 0.4, np.float32)
    image[10:20, 30:40] = 0.9
    change = charging(image, 0.2, 12.0) - image
    assert (change[10:20, 41:60] < -0.02).all()
    assert np.abs(change[10:20, :29]).max() < 1e-6
    assert np.abs(change[:9]).max() < 1e-6
