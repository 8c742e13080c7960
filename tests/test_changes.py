"""Changes between two runs: tests and intervals from the literature, and what chance is allowed to mark."""

import numpy as np
import pytest

from semdefect.changes import Change, beyond_chance, paired, unpaired


def flags(number, true):
    return np.arange(number) < true


def test_mcnemar_counts_only_images_that_differ():
    before = np.array([True] * 50 + [False] * 50)
    now = before.copy()
    now[:1], now[50:59] = False, True  # one lost, nine gained
    change = paired(before, now)
    assert (change.gained, change.lost, change.images) == (9, 1, (100, 100))
    assert change.p == pytest.approx(2 * (1 + 10) / 2**10)  # two-sided binomial tail of 1 in 10
    assert (change.before, change.now, change.difference) == pytest.approx((0.5, 0.58, 0.08))
    assert change.low < 0.08 < change.high


def test_the_paired_interval_is_bonett_and_prices():
    # n = 100, 9 gained, 1 lost: (9 - 1) / 102 -+ 1.96 sqrt((10/102 + 2/102 - (8/102)^2) / 102)
    before = flags(100, 50)
    now = before.copy()
    now[:1], now[50:59] = False, True
    change = paired(before, now)
    centre, width = 8 / 102, 1.959964 * ((12 / 102 - (8 / 102) ** 2) / 102) ** 0.5
    assert (change.low, change.high) == pytest.approx((centre - width, centre + width))


def test_equal_answers_are_no_change_and_no_images_none():
    change = paired(flags(10, 5), flags(10, 5))
    assert (change.p, change.gained, change.lost) == (1.0, 0, 0)
    assert change.low < 0 < change.high
    assert paired(flags(0, 0), flags(0, 0)) is None


def test_the_unpaired_interval_is_newcombes():
    # Newcombe, Statistics in Medicine 17 (1998) 873, table II, method 10: 56/70 - 48/80 and 9/10 - 3/10
    change = unpaired((48, 80), (56, 70))
    assert (change.low, change.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    change = unpaired((3, 10), (9, 10))
    assert (change.low, change.high) == pytest.approx((0.1705, 0.8090), abs=5e-5)
    assert change.gained is None
    assert unpaired((0, 0), (1, 2)) is None is unpaired((1, 2), (0, 0))


def of(p):
    return Change(0.5, 0.6, 0.0, 0.2, p, (10, 10))


def test_holm_marks_fewer_than_each_test_alone():
    assert beyond_chance([of(0.04), of(0.001), of(0.02)]) == [True, True, True]
    assert beyond_chance([of(0.04), of(0.001), of(0.03)]) == [False, True, False]
    assert beyond_chance([of(0.02), of(0.03), of(0.04)]) == [False, False, False]
    assert beyond_chance([]) == []


def test_equal_models_are_rarely_marked():
    rng = np.random.default_rng(0)
    reports = 0
    for _ in range(60):
        pairs = [paired(*(rng.random((2, 300)) < 0.9)) for _ in range(6)]
        reports += any(beyond_chance(pairs))
    assert reports <= 6  # 3 expected at most
