"""Damage at stated severities: repeatable, ever stronger, and within what leaves the class."""

import re

import numpy as np
import pytest
from samples import ROOT, stripes
from scipy.ndimage import gaussian_filter

from semdefect.errors import UserError
from semdefect.severities import CORRUPTIONS, SEVERITIES, corrupted
from semdefect.synthesis.imaging import DRIFT_CAP

SIZE = 224
UNIT = SIZE / 128
#: What is drawn anew for each image: noise, direction or place.
RANDOM = ("shot_noise", "astigmatism", "vibration", "scale_bar", "text")


@pytest.fixture(scope="module")
def image():
    return stripes(2, 1, SIZE)


@pytest.fixture(scope="module")
def edge():
    """Left half dark, right half bright, sharp."""
    return np.where(np.arange(SIZE) < SIZE // 2, 64, 192).astype(np.uint8)[None, :].repeat(SIZE, axis=0)


def edge_places(image):
    """Where the edge lies in each row, in px."""
    return SIZE - (image.astype(float) - 64).sum(axis=1) / 128


def change(first, second):
    return float(np.abs(first.astype(float) - second.astype(float)).mean())


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_each_severity_changes_more_than_the_one_before(kind, image):
    kept = image.copy()
    spoilt = [corrupted(image, kind, severity, seed=3) for severity in range(1, SEVERITIES + 1)]
    assert all(each.dtype == np.uint8 and each.shape == image.shape for each in spoilt)
    changes = [change(image, each) for each in spoilt]
    assert changes[0] > 0
    assert changes == sorted(set(changes))
    assert np.array_equal(image, kept)
    assert np.array_equal(corrupted(image, kind, 3, seed=3), spoilt[2])


@pytest.mark.parametrize("kind", RANDOM)
def test_another_seed_draws_something_else(kind, image):
    assert not np.array_equal(corrupted(image, kind, 4, seed=1), corrupted(image, kind, 4, seed=2))


def test_kinds_draw_from_streams_of_their_own(image):
    """Else two kinds would damage an image at the same place or in the same direction."""
    grounds = {kind: [corrupted(image, kind, 5, seed) for seed in range(8)] for kind in ("scale_bar", "text")}
    bright = {kind: [change(np.maximum(image, each), image) > 0 for each in found] for kind, found in grounds.items()}
    assert bright["scale_bar"] != bright["text"]


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_lengths_follow_the_size_of_the_image(kind):
    assert corrupted(stripes(2, 1, 96), kind, 5, seed=0).shape == (96, 96)


@pytest.mark.parametrize("seed", range(5))
def test_vibration_keeps_rows_within_what_is_no_roughness(edge, seed):
    places = edge_places(corrupted(edge, "vibration", 5, seed)) - SIZE / 2
    assert 0.5 * DRIFT_CAP * UNIT < np.abs(places).max() < DRIFT_CAP * UNIT + 0.05


@pytest.mark.parametrize("seed", range(3))
def test_drift_tilts_lines_and_keeps_them_straight(edge, seed):
    places, rows = edge_places(corrupted(edge, "drift", 5, seed)), np.arange(SIZE)
    slope, start = np.polyfit(rows, places, 1)
    assert abs(slope) == pytest.approx(0.18, abs=0.01)
    assert np.abs(places - slope * rows - start).max() < 0.1


@pytest.mark.parametrize("kind", ["beam_blur", "defocus", "astigmatism", "resolution"])
def test_the_finest_lines_that_are_promised_keep_a_tenth_of_their_contrast(kind):
    lines = 127.5 + 100 * np.sin(2 * np.pi * np.arange(SIZE) / (6 * UNIT))
    image = np.round(lines).astype(np.uint8)[None, :].repeat(SIZE, axis=0)
    for seed in range(3):
        spoilt = corrupted(image, kind, 5, seed)[50:-50, 50:-50].astype(float)
        assert spoilt.std() > 0.1 * lines.std()


def spread_of_a_point(kind):
    """Deviation of a blurred point in its widest and in its narrowest direction, in units."""
    point = np.zeros((SIZE, SIZE), np.uint8)
    point[108:116, 108:116] = 255
    spoilt = corrupted(point, kind, 5, seed=1).astype(float)
    rows, columns = np.indices(spoilt.shape)
    return np.sqrt(np.linalg.eigvalsh(np.cov([rows.ravel(), columns.ravel()], aweights=spoilt.ravel()))[::-1]) / UNIT


def test_defocus_blurs_all_directions_alike_and_astigmatism_one():
    wide, narrow = spread_of_a_point("defocus")
    assert wide == pytest.approx(narrow, rel=0.02)
    wide, narrow = spread_of_a_point("astigmatism")
    assert wide > 1.4 * narrow


def test_contrast_leaves_a_stated_range_and_takes_nothing_from_a_flat_image(image):
    low, high = np.percentile(corrupted(image, "contrast", 5, seed=0), (1, 99)) / 255
    assert high - low == pytest.approx(0.07, abs=0.01)
    flat = np.round(128 + (image.astype(float) - 128) * 0.02).astype(np.uint8)
    assert change(corrupted(flat, "contrast", 5, seed=0), flat) < 0.6


def test_brightness_goes_both_ways_and_clips_no_more_than_half(image):
    spoilt = [corrupted(image, "brightness", 5, seed) for seed in range(8)]
    assert {each.mean() > image.mean() for each in spoilt} == {True, False}
    assert all(np.isin(each, (0, 255)).mean() < 0.52 for each in spoilt)
    # A bright frame must not push all that it surrounds out of the scale.
    framed = np.pad(image[10:-10, 10:-10] // 4, 10, constant_values=255)
    assert all(corrupted(framed, "brightness", 5, seed)[10:-10, 10:-10].std() > 3 for seed in range(8))


def test_noise_has_the_stated_strength():
    grey = np.full((SIZE, SIZE), 128, np.uint8)
    assert corrupted(grey, "shot_noise", 3, seed=0).std() / 255 == pytest.approx(0.09, rel=0.05)


def test_overlays_leave_nearly_all_pixels(image):
    for seed in range(4):
        bar = corrupted(image, "scale_bar", 5, seed) != image
        assert bar.mean() < 0.05
        assert not bar[: int(0.8 * SIZE)].any()
        assert (corrupted(image, "text", 5, seed) != image).mean() < 0.1


def test_rotation_turns_about_the_middle():
    blob = gaussian_filter((np.arange(SIZE)[None, :] > 200) * 255.0 * np.ones((SIZE, 1)), 2).astype(np.uint8)
    spoilt = corrupted(blob, "rotation", 5, seed=0)
    middle = slice(SIZE // 2 - 20, SIZE // 2 + 20)
    assert change(spoilt[middle, middle], blob[middle, middle]) < 1
    assert change(spoilt, blob) > 5


def test_the_documented_severities_are_these():
    rows = re.findall(r"^\| `(\w+)` \| .* \| ([\d., ]+) \|$", (ROOT / "docs/robustness.md").read_text(), re.MULTILINE)
    documented = {kind: tuple(float(strength) for strength in strengths.split(",")) for kind, strengths in rows[:14]}
    assert documented == {kind: corruption.strengths for kind, corruption in CORRUPTIONS.items()}


def test_wrong_arguments_are_named(image):
    with pytest.raises(UserError, match=r"unknown corruption 'blurr': use one of shot_noise, beam_blur,"):
        corrupted(image, "blurr", 1, seed=0)
    for severity in (0, 6):
        with pytest.raises(UserError, match=f"severity {severity} of jpeg: use 1 to 5"):
            corrupted(image, "jpeg", severity, seed=0)
    for wrong in (image[:100], image.astype(np.float32), image[None]):
        with pytest.raises(ValueError, match="square uint8"):
            corrupted(wrong, "jpeg", 1, seed=0)
