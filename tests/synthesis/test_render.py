"""The promises of one rendered image: same bytes for the same seed, a mask that fits, a defect one can see."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from semdefect import CLASSES
from semdefect.errors import UserError
from semdefect.synthesis import families_of, render, sampling
from semdefect.synthesis.augment import period_of
from semdefect.synthesis.canvas import FRAME, canvas_of
from semdefect.synthesis.registry import FAMILIES, find_family

EVERY_FAMILY = [(name, member) for name in CLASSES for member in families_of(name)]
ROOT = Path(__file__).resolve().parents[2]


def digest(class_name: str, seed: int, size: int = 96, family: str | None = None) -> str:
    made = render(class_name, seed, size, family)
    content = made.image.tobytes() + made.mask.tobytes() + json.dumps(made.record).encode()
    return hashlib.sha256(content).hexdigest()


def test_order_does_not_matter():
    jobs = [(name, seed) for name in CLASSES for seed in (0, 7)]
    forwards = {job: digest(*job) for job in jobs}
    backwards = {job: digest(*job) for job in reversed(jobs)}
    assert forwards == backwards
    assert len(set(forwards.values())) == len(jobs)


@pytest.mark.parametrize("threads", ["1", "3"])
def test_another_process_with_other_threads_gives_the_same_bytes(threads: str):
    code = (
        "from tests.synthesis.test_render import digest\n"
        "print([digest(name, 3) for name in ('via', 'clean', 'bridge', 'ler')])"
    )
    # Another hash seed: no order of a set or dict of strings may reach the pixels.
    environment = os.environ | {"PYTHONHASHSEED": "12345", "PYTHONPATH": str(ROOT)}
    environment |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads)
    other = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == str([digest(name, 3) for name in ("via", "clean", "bridge", "ler")])


def test_global_random_state_is_neither_read_nor_written():
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    first = digest("cmp", 5)
    assert (np.random.get_state()[1] == before).all()
    np.random.seed(2)
    assert digest("cmp", 5) == first


@pytest.mark.parametrize("size", [64, 128, 224])
@pytest.mark.parametrize(("class_name", "family"), EVERY_FAMILY)
def test_mask_and_box_contract(class_name: str, family: str, size: int):
    made = render(class_name, 11, size, family)
    assert made.image.shape == made.mask.shape == (size, size)
    assert made.image.dtype == np.uint8
    assert made.mask.dtype == bool
    assert made.image.std() > 0
    assert (made.class_name, made.family, made.seed) == (class_name, family, 11)
    json.dumps(made.record)
    if class_name == "clean":
        assert made.bbox is None
        assert not made.mask.any()
        assert made.record["defects"] == []
        return
    x0, y0, x1, y1 = made.bbox
    inside = made.mask[y0:y1, x0:x1]
    assert inside.sum() == made.mask.sum() > 0
    assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()


def test_a_chosen_family_gives_the_image_it_gives_when_drawn():
    drawn = render("open", 21, 96)
    assert digest("open", 21, 96, drawn.family) == digest("open", 21, 96)


@pytest.mark.parametrize("source", ["bridge", "open", "cmp", "via", "crack", "other"])
def test_clean_twins_differ_from_their_defect_mostly_within_its_mask(source: str):
    twins = within = 0
    for seed in range(12):
        defect, twin = render(source, seed, 96), render("clean", seed, 96, f"{source}_off")
        if defect.record["source"] != twin.record["source"]:
            continue  # an odd structure: it has no twin
        assert twin.record["overlays"] == defect.record["overlays"]
        for key in ("blur_px", "noise_sigma", "gamma", "low_size", "jpeg_quality"):
            assert twin.record["imaging"][key] == defect.record["imaging"][key]
        # Each has its own grey stretch: match the twin's greys on the surroundings before comparing.
        outside = ~defect.mask
        gain, offset = np.polyfit(twin.image[outside].astype(float), defect.image[outside], 1)
        change = np.abs(defect.image - (gain * twin.image + offset))
        twins += 1
        within += change[defect.mask].mean() > np.median(change[outside])
    assert twins >= 5
    assert within >= 0.9 * twins


@pytest.mark.parametrize("class_name", [name for name in CLASSES if name not in ("clean", "ler")])
def test_defects_are_visible_and_near_the_middle(class_name: str):
    size, faint, seen = 128, 0, 0
    for seed in range(25):
        made = render(class_name, 500 + seed, size)
        if not FAMILIES[class_name][made.family].paired:
            continue
        seen += 1
        rows, cols = np.nonzero(made.mask)
        # A rotation overlay comes after the gate and moves the mask a little.
        slack = 8 if "rotation" in made.record["overlays"] else 1
        assert len(rows) >= 8
        assert 0.05 * size - slack <= rows.mean() <= 0.95 * size + slack
        assert 0.05 * size - slack <= cols.mean() <= 0.95 * size + slack
        imaging = made.record["imaging"]
        faint += imaging["contrast"] < 1.5 * imaging["noise"]
    assert seen >= 10
    assert faint == 0


def test_most_clean_images_are_defect_off_twins():
    weights = {name: member.weight for name, member in families_of("clean").items()}
    twins = sum(weights[name] for name, member in families_of("clean").items() if member.twin_of)
    assert twins / sum(weights.values()) >= 0.5


def test_ler_is_rougher_than_every_other_line_scene():
    def relative_roughness(class_name: str) -> list[float]:
        records = [render(class_name, seed, 64).record["scene"] for seed in range(30)]
        return [scene["sigma"] / scene["pitch"] for scene in records if "sigma" in scene]

    rough, smooth = relative_roughness("ler"), relative_roughness("bridge")
    assert min(rough) >= 0.0099  # mild: measured on real images, half of which are smoother than σ/p .02
    assert max(smooth) <= 0.0301
    assert np.median(rough) > 2.5 * np.median(smooth)


def test_the_record_of_a_clean_twin_is_that_of_the_twin():
    for seed in range(12):
        rough, quiet = (render(name, seed, 64, family) for name, family in (("ler", None), ("clean", "ler_off")))
        assert quiet.record["scene"]["sigma"] < rough.record["scene"]["sigma"]
        assert not render("clean", seed, 64, "other_off").record["scene"].get("particles")


@pytest.fixture
def streams(monkeypatch):
    """Every stream that is drawn from: how often it was called, and the ``normals`` that ``standard_normal`` gave."""
    made = []

    class Counting(sampling.Draws):
        calls = 0

        def __init__(self, seeds):
            super().__init__(seeds)
            self.normals = []
            made.append(self)

        def standard_normal(self, *args, **kwargs):
            self.normals.append(super().standard_normal(*args, **kwargs))
            return self.normals[-1]

    for name in ("uniform", "random", "normal", "integers"):

        def counted(self, *args, _name=name, **kwargs):
            self.calls += 1
            return getattr(np.random.Generator, _name)(self, *args, **kwargs)

        setattr(Counting, name, counted)
    monkeypatch.setattr(sys.modules[render.__module__], "Draws", Counting)
    return made


@pytest.mark.parametrize(("class_name", "family"), EVERY_FAMILY)
def test_the_record_holds_whatever_was_drawn(class_name: str, family: str, streams):
    for seed in range(3):
        streams.clear()
        made = render(class_name, seed, 64, family)
        for stream in streams:
            kept = [value for _, value in stream.log if isinstance(value, np.ndarray)]
            parameters = sum(any(np.array_equal(value, drawn) for value in kept) for drawn in stream.normals)
            assert len(stream.log) == stream.calls + parameters  # the other normals are fields of noise
            assert all(drawn.size > 16 for drawn in stream.normals if not any(np.array_equal(drawn, v) for v in kept))
        assert sum(len(run) - 1 for part in made.record["draws"].values() for run in part) > 10


def test_draws_are_named_after_the_function_they_were_for():
    draws = render("other", 5, 64, "device").record["draws"]
    assert {"scene", "imaging", "overlays"} == set(draws)
    assert any(run[0] == "devices.device" for run in draws["scene"])
    greys = render("other", 5, 64, "device").record["imaging"]["greys"]
    optics = [value for run in draws["imaging"] if run[0] == "imaging.sample_optics" for value in run[1:]]
    assert all(any(value == pytest.approx(grey, abs=1e-4) for value in optics) for grey in greys)


@pytest.mark.parametrize("size", [64, 256, 1024])
def test_lengths_grow_with_the_picture(size: int):
    found = []
    for seed in range(12):
        made = render("clean", seed, size, "line_space")
        scene = made.record["scene"]
        if scene["orientation"] in (0.0, 90.0) and 6 < scene["pitch"] < 25:
            found.append(period_of(made.image.astype(np.float32)) / (scene["pitch"] * size / FRAME))
    assert len(found) > 3
    # A line shows two edges, so half a pitch can be the strongest period; in some patterns every third line differs.
    assert np.mean([min(abs(ratio - whole) for whole in (0.5, 1.0)) < 0.15 for ratio in found]) > 0.6, found
    assert made.image.shape == made.mask.shape == (size, size)


def test_isolated_lines_stay_whole_and_apart():
    for seed in range(20):
        scene = find_family("ler", "isolated").draw(np.random.default_rng(seed), canvas_of(96))
        mode = scene.params["mode"]
        if mode != "binary" or scene.params["orientation"] not in (0.0, 90.0):
            continue
        signal = scene.signal if scene.params["orientation"] == 0.0 else scene.signal.T
        on_a_row = (np.diff((signal > signal.mean()).astype(int), axis=1) == 1).sum(axis=1)
        assert np.ptp(on_a_row) <= 1  # a line at the border may begin outside


def test_scenes_without_a_twin_stand_out_from_the_noise():
    for family in ("circuit", "device", "blocks", "rows", "conformal", "odd_section", "fins"):
        for seed in range(10):
            made = render("other", seed, 64, family)
            smooth = gaussian_filter(made.image.astype(float), 2)
            assert smooth.std() > 4, (family, seed)  # gray levels


def test_unknown_names_say_what_is_allowed():
    with pytest.raises(UserError, match="bridge, clean"):
        render("bridges", 1)
    with pytest.raises(UserError, match="neck"):
        render("bridge", 1, 64, "knot")
    with pytest.raises(UserError, match="negative"):
        render("bridge", -1)


def test_every_listed_family_is_drawn():
    for class_name in CLASSES:
        weights = [member.weight for member in families_of(class_name).values()]
        assert len(weights) >= 3
        assert min(weights) / sum(weights) >= 0.05
