"""Tests of uniform ranks: they pass what is uniform and see what is not."""

from __future__ import annotations

import numpy as np
import pytest

from pulse.audit.uniformity import bins_of, chi_squares, distances, draw_ranks, uniformity_of

L, DRAWS = 31, 200


def ranks_of(kind, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "uniform":
        return rng.integers(0, L + 1, DRAWS)
    # what a truth of N(0, 1) gives among answers that are shifted, or spread too little
    truth = rng.standard_normal(DRAWS)
    answers = rng.standard_normal((DRAWS, L))
    answers = answers + 0.5 if kind == "biased" else 0.6 * answers
    return (answers < truth[:, None]).sum(1)


def test_bins_are_equal():
    assert bins_of(31) == 8
    assert bins_of(7) == 8
    assert bins_of(9) == 5


def test_statistics_of_known_ranks():
    even = np.arange(32)[None].repeat(2, 0)
    assert chi_squares(even, 31).tolist() == [0, 0]
    assert distances(even, 31) == pytest.approx([0, 0])
    # all in the first of 8 bins: (8 - 1) of N = 16
    assert chi_squares(np.zeros((1, 16), int), 31).tolist() == [112]
    # and all at rank 0: the share up to 0 is 1, not 1/32
    assert distances(np.zeros((1, 16), int), 31) == pytest.approx((16 * 31) ** 0.5)


def test_uniform_ranks_pass_at_the_level_that_is_promised():
    """Of 60 studies of 10 quantities 5 % fail: more than 9 have a chance of 1e-3."""
    failed = 0
    for study in range(60):
        ranks = {str(i): ranks_of("uniform", 10 * study + i) for i in range(10)}
        failed += not all(row.passes for row in uniformity_of(ranks, L))
    assert failed <= 9


@pytest.mark.parametrize("kind", ["biased", "narrow"])
def test_wrong_answers_are_seen(kind):
    ranks = {f"good {i}": ranks_of("uniform", i) for i in range(9)} | {"bad": ranks_of(kind)}
    rows = {row.quantity: row for row in uniformity_of(ranks, L)}
    assert not rows["bad"].passes
    assert sum(row.passes for row in rows.values()) == 9
    assert rows["bad"].draws == DRAWS
    assert (rows["bad"].mean < 0.4) == (kind == "biased")


def test_the_picture_is_written(tmp_path):
    draw_ranks({"one": ranks_of("uniform"), "two": ranks_of("biased")}, L, tmp_path / "ranks.png")
    assert (tmp_path / "ranks.png").stat().st_size > 2000
