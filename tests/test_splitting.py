"""No base image, nor a copy of it, lies in two splits; shares are kept; what cannot be split is refused."""

import random
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from samples import params, row, texture

from semdefect import CLASSES
from semdefect.balance import load_base_images, plan
from semdefect.errors import UserError
from semdefect.splitting import split_rows

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def random_manifest(seed: int):
    """Rows as synthesize writes them: real images, their children, rendered ones, and a few copies across classes."""
    rng = random.Random(seed)
    rows = []
    for label in CLASSES:
        count = rng.choice([24, 60, 150])
        real = rng.choice([0, 0, 1, 4, 12])
        children = rng.randint(0, min(8, (count - real) // max(real, 1)))
        for number in range(real):
            group = f"real-{label}-{number}" if rng.random() < 0.9 else f"real-copies-{rng.randint(0, 3)}"
            for child in range(1 + children):
                name = f"{label}/r{number}-{child}.png"
                rows.append(row(name, origin="real", group=group, source_id=f"{label}/{number}"))
        rows += [row(f"{label}/{number}.png") for number in range(count - len([r for r in rows if r.label == label]))]
    rng.shuffle(rows)
    return rows


@pytest.mark.parametrize("seed", range(60))
def test_groups_stay_whole_and_shares_are_kept(seed):
    rows = random_manifest(seed)
    splits = split_rows(rows, SHARES, seed)
    assert sorted(r.path for members in splits.values() for r in members) == sorted(r.path for r in rows)

    homes = defaultdict(set)
    for name, members in splits.items():
        for member in members:
            homes[member.group].add(name)
    assert all(len(names) == 1 for names in homes.values())

    largest = max(Counter(r.group for r in rows).values())
    for label in CLASSES:
        for origin in ("real", "rendered"):
            found = {n: sum((r.label, r.origin) == (label, origin) for r in m) for n, m in splits.items()}
            total = sum(found.values())
            for name, count in found.items():
                assert abs(count - SHARES[name] * total) <= largest + 1
        assert all(any(r.label == label for r in members) for members in splits.values())


def test_a_split_without_a_share_stays_empty_and_needs_no_group():
    rows = [row(f"{label}/{number}.png") for label in CLASSES for number in range(2)]
    splits = split_rows(rows, {"train": 0.85, "val": 0.15, "test": 0.0}, 1)
    assert splits["test"] == []
    for name in ("train", "val"):
        assert {member.label for member in splits[name]} == set(CLASSES)


@pytest.mark.parametrize("seed", range(20))
def test_the_order_of_rows_does_not_matter(seed):
    rows = random_manifest(seed)
    splits = split_rows(rows, SHARES, 5)
    random.Random(seed + 1).shuffle(rows)
    again = split_rows(iter(rows), SHARES, 5)
    for name, members in splits.items():
        assert {r.path for r in members} == {r.path for r in again[name]}


def test_many_single_images_meet_the_shares_exactly():
    rows = [row(f"{label}/{number}.png") for label in CLASSES for number in range(100)]
    splits = split_rows(rows, SHARES, 1)
    for label in CLASSES:
        assert [sum(r.label == label for r in splits[name]) for name in SHARES] == [70, 15, 15]


def test_another_seed_gives_another_split():
    rows = [row(f"{label}/{number}.png") for label in CLASSES for number in range(20)]
    first, second = (split_rows(rows, SHARES, seed)["test"] for seed in (1, 2))
    assert {r.path for r in first} != {r.path for r in second}


def small_class(real_groups: int, rendered_groups: int):
    """A manifest whose class crack has few groups, each real one with children."""
    rows = [row(f"{label}/{number}.png") for label in CLASSES if label != "crack" for number in range(10)]
    for number in range(real_groups):
        for child in range(9):
            rows.append(row(f"crack/r{number}-{child}.png", origin="real", group=f"real-{number}"))
    return rows + [row(f"crack/{number}.png") for number in range(rendered_groups)]


@pytest.mark.parametrize("groups", [(3, 0), (0, 3), (1, 2), (2, 1), (2, 2), (1, 3), (3, 1)])
def test_three_groups_of_a_class_are_enough_whatever_their_origin(groups):
    splits = split_rows(small_class(*groups), SHARES, 3)
    assert all(any(r.label == "crack" for r in members) for members in splits.values())


@pytest.mark.parametrize("groups", [(0, 0), (1, 0), (2, 0), (1, 1), (0, 2)])
def test_a_class_with_too_few_groups_is_refused_by_name(groups):
    with pytest.raises(UserError, match=f"class crack has {sum(groups)} lineage groups and needs 3"):
        split_rows(small_class(*groups), SHARES, 3)


def test_copies_across_classes_that_no_split_can_hold_are_refused_by_name():
    # Any three of the four groups make up a class: whatever the assignment, two groups of some class meet.
    rows = [row(f"{label}/{n}.png") for label in ("clean", "cmp", "ler", "other") for n in range(10)]
    for missing, label in enumerate(("bridge", "crack", "open", "via")):
        rows += [row(f"{label}/{n}.png", group=f"shared-{n}") for n in range(4) if n != missing]
    with pytest.raises(UserError, match=r"no lineage group of class (bridge|crack|open|via) is left for the .* split"):
        split_rows(rows, SHARES, 3)


def test_planted_copies_of_a_real_image_end_in_one_split(tmp_path):
    """From image files to splits: mirrored, turned and re-encoded copies, in other classes and under other names."""
    original = texture(0, 96)
    planted = {
        "crack/original.png": original,
        "crack/mirrored.jpg": original[:, ::-1],
        "other/turned.jpg": np.rot90(original),
        "via/upside-down.jpg": original[::-1],
    }
    others = {f"{label}/{n}.png": texture(100 + 10 * i + n, 96) for i, label in enumerate(CLASSES) for n in range(6)}
    for name, pixels in (planted | others).items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.ascontiguousarray(pixels)).save(path)

    bases = load_base_images(tmp_path, 0.85)
    groups = {base.source_id: base.group for base in bases}
    assert len({groups[name] for name in planted}) == 1
    assert len(set(groups.values())) == len(others) + 1

    jobs = plan(bases, params(synthesize={"images_per_class": 40}).synthesize, seed=1)
    rows = []
    for job in jobs:
        made = row(job.path, label=job.label, seed=job.seed, group=f"rendered/{job.seed}")
        if job.base:
            made = replace(made, origin="real", group=job.base.group, source_id=job.base.source_id)
        rows.append(made)
    for seed in range(10):
        splits = split_rows(rows, SHARES, seed)
        homes = {name for name, members in splits.items() for r in members if r.source_id in planted}
        assert len(homes) == 1
        assert sum(r.source_id in planted for members in splits.values() for r in members) > len(planted)
