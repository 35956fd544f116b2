"""Distances whose answers are known."""

from __future__ import annotations

import pytest
import torch

from pulse.training.metrics import frechet_distance, nearest, nearness, recall_by_group


def normal(count, size, seed):
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def test_the_frechet_distance_of_shifted_and_scaled_sets():
    a = normal(500, 6, 0)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    shift = torch.tensor([3.0, 0, 0, 0, 4, 0])
    assert frechet_distance(a, a + shift) == pytest.approx(25, abs=1e-4)
    # the same shape, twice as wide: the sum of the squared differences of the deviations
    centered = a - a.mean(0)
    expected = float(torch.cov(a.T).trace())
    assert frechet_distance(centered, 2 * centered) == pytest.approx(expected, rel=1e-5)


def test_the_frechet_distance_where_covariances_do_not_commute():
    """By the roots of the eigenvalues of the product, which is not symmetric."""
    a, b = normal(400, 4, 0) @ normal(4, 4, 1), normal(400, 4, 2) @ normal(4, 4, 3)
    C, D = torch.cov(a.T).double(), torch.cov(b.T).double()
    cross = torch.linalg.eigvals(C @ D).real.clamp(min=0).sqrt().sum()
    expected = (a.mean(0) - b.mean(0)).square().sum() + C.trace() + D.trace() - 2 * cross
    assert frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-4)


def test_recall_sees_the_group_that_is_not_drawn():
    majority, minority = normal(80, 5, 0), normal(20, 5, 1) + 30
    real = torch.cat([majority, minority])
    members = {"majority": list(range(80)), "minority": list(range(80, 100))}
    recall = recall_by_group(real, normal(400, 5, 2), members)
    assert recall["majority"] > 0.8
    assert recall["minority"] == 0


def test_copies_of_the_data_are_told_from_new_samples():
    real = normal(100, 5, 0)
    assert nearness(real[:50] + 1e-4, real) < 0.01
    assert 0.7 < nearness(normal(100, 5, 1), real) < 1.4
    distances, places = nearest(real[[7, 3]], real)
    assert places.tolist() == [7, 3]
    assert distances.max() < 1e-2  # distances from dot products, in single precision
