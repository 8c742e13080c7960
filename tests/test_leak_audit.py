"""A picture that lies in two splits is found however it was turned; pictures that are alike by accident are none."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from samples import row

from semdefect.errors import UserError
from semdefect.leak_audit import PHASE, Pair, audit_splits, crossing_groups, pair_sheet
from semdefect.likeness import SYMMETRIES, phase_agreement, symmetric
from semdefect.manifest import IMAGES
from semdefect.network import create_network, save_network
from semdefect.synthesis import corrupt, render

REAL = {"origin": "real", "family": "original"}
CORRELATION = 0.85


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with a teacher; a function that writes an image and gives its row."""
    monkeypatch.chdir(tmp_path)
    save_network(create_network("convnext_atto", 64), Path("teacher.safetensors"))

    def write(path, pixels, **changes):
        (IMAGES / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(pixels)).save(IMAGES / path)
        return row(path, **changes)

    return write


def audit(**splits):
    return audit_splits(splits, Path("teacher.safetensors"), CORRELATION)


def picture(seed, size=224):
    """Random gray with structures of every size (1/f amplitude), as in a picture; two seeds do not correlate."""
    spectrum = np.fft.rfft2(np.random.default_rng(seed).normal(size=(size, size)))
    cycles = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]) * size
    field = np.fft.irfft2(spectrum / np.maximum(cycles, 1), (size, size))
    return np.clip(128 + 45 * field / field.std(), 0, 255).astype(np.uint8)


def spoilt(pixels, seed=0):
    """Brightened, with less contrast and noise of 4 % of full scale."""
    noise = np.random.default_rng(seed).normal(0, 0.04, pixels.shape)
    return (np.clip(0.8 * pixels / 255 + 0.15 + noise, 0, 1) * 255).astype(np.uint8)


def gratings(seed, pitch=28):
    """Lines of one pitch in one place, whose edges are rough in a way of their own."""
    shift = np.cumsum(np.random.default_rng(seed).normal(0, 1, (224, 8)), axis=0) / 12
    x = np.arange(224)
    edge = shift[:, x // pitch]
    return (128 + 80 * np.tanh(6 * np.sin(2 * np.pi * (x + edge) / pitch))).astype(np.uint8)


@pytest.mark.parametrize("changes", [REAL, {"origin": "rendered"}, {"origin": "real", "family": "augmented"}])
def test_copies_are_found_turned_mirrored_brightened_and_under_noise(place, changes):
    pictures = [picture(number) for number in range(SYMMETRIES)]
    train = [place(f"via/{number}.png", pixels, **changes) for number, pixels in enumerate(pictures)]
    copies = [
        place(f"crack/{number}.png", spoilt(symmetric(pixels, number)), **changes)
        for number, pixels in enumerate(pictures)
    ]
    other = place("open/other.png", picture(99), **changes)
    found = audit(train=train, val=copies[:3], test=[other, *copies[3:]])
    pairs = {pair.first: pair for pair in found.duplicates}
    assert found.figures["duplicates"] == len(pairs) == SYMMETRIES
    for number, pixels in enumerate(pictures):
        pair = pairs[f"via/{number}.png"]
        assert (pair.second, pair.splits) == (f"crack/{number}.png", ("train", "val" if number < 3 else "test"))
        assert np.array_equal(symmetric(symmetric(pixels, number), pair.symmetry), pixels)
        assert {"hash", "correlation"} <= set(pair.found_by)
    listed = r"8 pair\(s\).*via/\d\.png \(train\) and .*crack/\d\.png \((val|test)\), correlation 0\.9\d+, phases.*"
    with pytest.raises(UserError, match=listed + "run `dvc repro`"):
        found.refuse_leaks()


def test_a_turned_copy_of_a_rendered_image_is_found(place):
    train = [place(f"{name}/0.png", render(name, 7, 224).image) for name in ("bridge", "cmp", "crack", "via")]
    noisy = corrupt(
        np.rot90(render("bridge", 7, 224).image),
        seed=1,
        shot_noise=0.04,
        blur=0.8,
        contrast=0.7,
        drift=0.1,
        charging=0.1,
    )
    found = audit(train=train, test=[place("open/copy.png", noisy), place("open/0.png", render("open", 7, 224).image)])
    assert [(pair.first, pair.second) for pair in found.duplicates] == [("bridge/0.png", "open/copy.png")]


def test_lines_of_one_pitch_are_no_duplicates_but_two_real_ones_are_what_synthesize_groups(place):
    train, test = gratings(1), gratings(2)
    rows = [place("ler/a.png", train), place("ler/b.png", np.rot90(test))]
    found = audit(train=rows[:1], test=rows[1:])
    (pair,) = found.pairs
    assert pair.correlation > 0.9 and pair.phase < PHASE / 2
    assert found.duplicates == [] and found.figures["correlated"] == 1
    found.refuse_leaks()
    real = [place("ler/a.png", train, **REAL), place("ler/b.png", np.rot90(test), **REAL)]
    assert len(audit(train=real[:1], test=real[1:]).duplicates) == 1
    child = place("ler/b.png", np.rot90(test), origin="real", family="augmented")
    assert audit(train=real[:1], test=[child]).duplicates == []


def test_copies_within_a_split_are_no_leak(place):
    rows = [place("via/a.png", picture(1)), place("via/b.png", picture(1))]
    found = audit(train=rows, test=[place("via/c.png", picture(2))])
    assert found.figures["duplicates"] == 0
    assert {pair.second for pair in found.pairs} == {"via/c.png"}


def test_a_lineage_group_in_two_splits_is_a_leak_however_its_images_look(place):
    rows = [place(f"via/{n}.png", picture(n), group="real-00007") for n in range(2)]
    assert crossing_groups({"train": rows[:1], "test": rows[1:], "val": []}) == ["real-00007"]
    with pytest.raises(UserError, match="real-00007"):
        audit(train=rows[:1], test=rows[1:]).refuse_leaks()


def test_the_result_is_json_the_same_each_time_and_a_picture(place):
    train = [place(f"via/{number}.png", picture(number)) for number in range(6)]
    test = [place(f"open/{number}.png", picture(9 + number)) for number in range(3)]
    first, second = (audit(train=train, test=test) for _ in range(2))
    assert json.dumps(first.content()) == json.dumps(second.content())
    assert [pair.correlation for pair in first.pairs] == sorted((p.correlation for p in first.pairs), reverse=True)
    pair_sheet(first.pairs, Path("pairs.png"))
    assert Image.open("pairs.png").size[0] > 2 * 112  # three pairs, for there are three images to ask for
    pair_sheet([], Path("none.png"))


def test_an_error_names_a_few_pairs_of_many(place):
    rows = [place(f"via/{number}.png", picture(number), **REAL) for number in range(12)]
    copies = [place(f"open/{number}.png", picture(number), **REAL) for number in range(12)]
    with pytest.raises(UserError) as error:
        audit(train=rows, test=copies).refuse_leaks()
    assert len(re.findall(r"correlation 1\.000", str(error.value))) == 10 and "(and 2 more)" in str(error.value)


def test_phases_agree_for_a_picture_under_any_tone_and_not_for_another():
    one, other = picture(1), picture(2)
    assert phase_agreement(one, one) == pytest.approx(1)
    assert phase_agreement(one, one // 3 + 90) > 0.8
    assert abs(phase_agreement(one, other)) < 0.1
    assert phase_agreement(one, np.full_like(one, 9)) == pytest.approx(0, abs=1e-6)


def test_a_pair_reads_as_paths_splits_and_measure():
    pair = Pair("via/a.png", "open/b.png", ("train", "test"), 3, 0.9123, None, ("hash",), False)
    assert str(pair).endswith("via/a.png (train) and data/synthetic/open/b.png (test), correlation 0.912")
