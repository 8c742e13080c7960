"""Overlays must not tell the class, nor hide the defect."""

import numpy as np
import pytest

from semdefect import CLASSES
from semdefect.synthesis import render
from semdefect.synthesis.overlays import MOST_HIDDEN, RATES, add_overlays


def test_rates_are_those_stated_and_the_same_with_and_without_a_defect():
    image = np.random.default_rng(0).integers(60, 200, (64, 64)).astype(np.uint8)
    masks = [np.zeros((64, 64), bool), np.ones((64, 64), bool)]
    masks[1][:8] = masks[1][-8:] = False
    count = 3000
    for mask in masks:
        seen = dict.fromkeys(RATES, 0)
        for seed in range(count):
            for name in add_overlays(np.random.default_rng(seed), image, mask).names:
                seen[name] += 1
        for name, rate in RATES.items():
            spread = 4 * (rate * (1 - rate) / count) ** 0.5
            assert abs(seen[name] / count - rate) < spread, name


def test_classes_get_overlays_alike():
    share = {}
    for class_name in CLASSES:
        made = [render(class_name, seed, 48) for seed in range(120)]
        share[class_name] = np.mean([bool(one.record["overlays"]) for one in made])
    expected = 1 - np.prod([1 - rate for rate in RATES.values()])
    # 120 images give a standard error of 4 points.
    assert all(abs(value - expected) < 0.17 for value in share.values()), share


@pytest.mark.parametrize("side", ["top", "bottom", "left", "right"])
def test_a_defect_at_the_border_stays_visible(side: str):
    mask = np.zeros((64, 64), bool)
    place = {"top": np.s_[:4, 20:40], "bottom": np.s_[-4:, 20:40], "left": np.s_[20:40, :4], "right": np.s_[20:40, -4:]}
    mask[place[side]] = True
    image = np.full((64, 64), 128, np.uint8)
    for seed in range(300):
        result = add_overlays(np.random.default_rng(seed), image, mask)
        if "rotation" not in result.names:
            # Each overlay alone may hide 30 %; two may add up.
            assert (result.image[mask] != 128).mean() <= 2 * MOST_HIDDEN


def test_rotation_turns_the_mask_with_the_image():
    image = np.zeros((96, 96), np.uint8)
    image[40:56, 60:80] = 255
    turned = 0
    for seed in range(400):
        result = add_overlays(np.random.default_rng(seed), image, image > 0)
        if result.names == ["rotation"]:
            turned += 1
            middle = result.image[24:72, 40:90] > 127
            assert (middle != result.mask[24:72, 40:90]).mean() < 0.03
    assert turned
