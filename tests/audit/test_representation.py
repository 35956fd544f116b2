"""Jalal et al.'s definitions on cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from pulse.audit.representation import Answered, measure

ORDER = ("light", "dark")


def people(light, dark, answers, low_res=None):
    """So many light and dark truths; `answers` gives those of each truth."""
    truths = ["light"] * light + ["dark"] * dark
    return [Answered(truth, tuple(answers(truth)), low_res) for truth in truths]


def test_answers_that_are_always_right_fulfil_all():
    r = measure(people(8, 2, lambda truth: [truth] * 3, "y"), ORDER, 2)
    assert (r.demographic_parity_gap, r.proportional_gap, r.pairwise_gap) == (0, 0, 0)
    assert r.conditional_gap == 0
    np.testing.assert_allclose(r.joint, [[0.8, 0], [0, 0.2]])


def test_samples_from_the_posterior_are_in_proportion_without_parity():
    """80/20 truths with one low-resolution picture, answered 80/20 whatever the truth."""
    r = measure(people(8, 2, lambda _: ["light"] * 4 + ["dark"], "y"), ORDER, 2)
    assert r.proportional_gap == pytest.approx(0)
    assert r.pairwise_gap == pytest.approx(0)
    assert r.conditional_gap == pytest.approx(0)
    assert r.demographic_parity_gap == pytest.approx(0.6)
    assert r.shared == 1


def test_always_the_likeliest_fails_all_but_nothing_else_does():
    r = measure(people(8, 2, lambda _: ["light"], "y"), ORDER, 2)
    assert r.proportional_gap == pytest.approx(0.2)
    assert r.pairwise_gap == pytest.approx(0.2)
    assert r.conditional_gap == pytest.approx(0.2)
    assert r.demographic_parity_gap == pytest.approx(1)


def test_what_cannot_be_measured_is_said():
    rows = [Answered("light", ("light",), "a"), Answered("dark", ("dark",), "b")]
    r = measure(rows, ORDER, 2)
    assert r.conditional_gap is None
    assert r.demographic_parity_gap is None
    assert r.people == (1, 1)


def test_a_category_that_only_answers_show_has_no_share_kept():
    r = measure([Answered("light", ("dark", "light"))], ORDER, 1)
    assert r.categories == ORDER
    assert r.kept[0] == 0.5
    assert np.isnan(r.kept[1])


def test_wrong_calls_are_named():
    with pytest.raises(ValueError, match="got nobody"):
        measure([], ORDER, 1)
    with pytest.raises(ValueError, match=r"got categories \['green'\]"):
        measure([Answered("green", ("light",))], ORDER, 1)
