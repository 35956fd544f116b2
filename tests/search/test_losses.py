from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from pulse.search.losses import geocross, mean_absolute, mean_squared, misfit
from pulse.settings import LossWeights, SearchSettings


def test_mean_squared_and_absolute_are_one_number_a_picture():
    a = torch.zeros(2, 3, 4, 4)
    b = torch.stack([torch.full((3, 4, 4), 0.5), torch.full((3, 4, 4), -0.1)])
    assert mean_squared(a, b).tolist() == pytest.approx([0.25, 0.01])
    assert mean_absolute(a, b).tolist() == pytest.approx([0.5, 0.1])


def test_geocross_of_two_perpendicular_styles():
    """Angles (0, 90, 90, 0 degrees): mean square of pi^2 / 8, times D / 8."""
    ws = torch.zeros(1, 2, 16)
    ws[0, 0, 0] = ws[0, 1, 1] = 2.0
    # 2e-3: the guard under the root bends angles of 0 to about sqrt(1e-9)
    assert geocross(ws).item() == pytest.approx(16 / 8 * math.pi**2 / 8, rel=2e-3)


def test_geocross_is_0_for_one_style_and_for_equal_ones():
    assert geocross(torch.randn(3, 1, 8)).tolist() == [0, 0, 0]
    assert geocross(torch.ones(2, 5, 8)).tolist() == pytest.approx([0, 0], abs=1e-6)


def test_geocross_has_a_gradient_where_styles_are_equal():
    ws = torch.ones(1, 4, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(geocross(ws).sum(), ws)
    assert torch.isfinite(gradient).all()


def test_misfit_weighs_the_terms():
    target, low_res = torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.5)
    weights = LossWeights(l2=2, l1=3, geocross=0)
    got = misfit(low_res, target, SearchSettings(method="descent", loss=weights))
    assert got.tolist() == pytest.approx([2 * 0.25 + 3 * 10 * 0.5])


def test_clamping_is_for_each_picture_alone():
    """The first tool clamped, summed, and compared the sum: a batch of two never met it."""
    settings = replace(
        SearchSettings(method="descent"),
        clamp_misfit=True,
        tolerance=1e-2,
        loss=LossWeights(1, 0, 0),
    )
    target = torch.zeros(2, 3, 2, 2)
    low_res = torch.stack([torch.full((3, 2, 2), 0.01), torch.full((3, 2, 2), 0.2)])
    losses = misfit(low_res, target, settings)
    assert losses.tolist() == pytest.approx([1e-2, 0.04])
