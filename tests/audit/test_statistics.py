"""Intervals that cover, differences that are found, and audits that seldom cry wolf."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kruskal

from pulse.audit.statistics import (
    FEWEST_PEOPLE,
    LEVEL,
    group_differences,
    index_of,
    mean_interval,
    ratio_interval,
    shifts_from_zero,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_intervals_cover_the_mean_as_often_as_they_say():
    covered = 0
    for seed in range(300):
        interval = mean_interval(rng(seed).exponential(size=60), rng(seed))
        covered += interval.low <= 1 <= interval.high
    # 95 % said; percentile intervals of 60 skewed values have about 93 %, and 300 audits give or
    # take 1.5 %: four of those below, and not all
    assert 0.87 * 300 <= covered < 300


def test_of_too_few_people_nothing_is_said():
    assert mean_interval(np.ones(FEWEST_PEOPLE - 1), rng()) is None
    assert mean_interval(np.array([1.0] * (FEWEST_PEOPLE - 1) + [np.nan]), rng()) is None
    assert mean_interval(np.ones(FEWEST_PEOPLE), rng()).people == FEWEST_PEOPLE
    assert ratio_interval(np.ones(3), np.ones(30), rng()) is None


def test_the_ratio_of_two_groups():
    interval = ratio_interval(rng(1).normal(8, 0.8, 50), rng(2).normal(4, 0.4, 50), rng())
    assert interval.mean == pytest.approx(2, abs=0.1)  # standard error 0.04
    assert interval.low < 2 < interval.high


def test_one_measure_with_ties_has_the_p_value_of_kruskal_and_wallis():
    values = rng(6).integers(0, 4, 60).astype(float) ** 3  # many ties, unevenly spaced
    values[40:] += rng(7).integers(0, 2, 20) * 8.0
    p = group_differences(values[:, None], np.repeat([0, 1, 2], 20), rng())
    expected = kruskal(*np.split(values, 3)).pvalue
    # 4,999 permutations: standard error 0.006; chi-square for 60 people may be off by as much
    assert p[0] == pytest.approx(expected, abs=0.025)
    assert 0.1 < expected < 0.5  # neither end, where every p-value would do


def people(seed, per_group=20, measures=8, shift=0.0):
    """Correlated measures of people in three groups; the last group is shifted in one measure."""
    draw = rng(seed)
    values = draw.normal(size=(3 * per_group, measures)) + draw.normal(size=(3 * per_group, 1))
    values[-per_group:, 2] += shift
    return values, np.repeat([0, 1, 2], per_group)


def test_a_planted_difference_is_found_where_it_is():
    values, groups = people(3, shift=2.5)
    p = group_differences(values, groups, rng())
    assert p[2] < LEVEL
    assert (np.delete(p, 2) > LEVEL).all()


def test_audits_of_no_difference_seldom_cry_wolf():
    wolves = 0
    for seed in range(400):
        values, groups = people(seed)
        differ = group_differences(values, groups, rng(seed), permutations=499)
        shifts = shifts_from_zero(values[:, :2], rng(seed), flips=499)
        wolves += min(differ.min(), shifts.min()) < LEVEL
    # twice LEVEL is expected, 8 audits; more than 20 would happen once in 10,000 times
    assert 0 < wolves <= 0.05 * 400


def test_groups_with_too_few_people_are_left_out():
    values, groups = people(4)
    few = np.concatenate([values, np.full((2, values.shape[1]), 50.0)])
    p = group_differences(few, np.append(groups, [3, 3]), rng())
    np.testing.assert_array_equal(p, group_differences(values, groups, rng()))
    np.testing.assert_array_equal(group_differences(values[:5], groups[:5], rng()), 1)


def test_ties_and_gaps_are_no_difference():
    values = np.ones((30, 2))
    values[::7, 1] = np.nan
    p = group_differences(values, np.repeat([0, 1], 15), rng())
    np.testing.assert_array_equal(p, 1)


def test_a_planted_shift_is_found_where_it_is():
    values = rng(5).normal(size=(30, 3))
    values[:, 1] += 1.2
    p = shifts_from_zero(values, rng())
    assert p[1] < LEVEL
    assert (p[[0, 2]] > LEVEL).all()
    np.testing.assert_array_equal(shifts_from_zero(values[:4], rng()), 1)


def test_names_become_places():
    names, places = index_of(["b", "a", "b"])
    assert names == ("a", "b")
    assert places.tolist() == [1, 0, 1]
