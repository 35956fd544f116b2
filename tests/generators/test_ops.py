"""Operations that the generations share."""

from __future__ import annotations

import pytest
import torch

from pulse.generators.ops import Dense, Kept
from pulse.generators.stylegan2 import ToRGB


@pytest.fixture
def dense():
    layer = Dense(8, 5, lr_multiplier=0.5).requires_grad_(False)
    layer.weight.normal_(generator=torch.Generator().manual_seed(0))
    layer.bias.fill_(0.3)
    return layer


def by_hand(layer, x):
    return x @ layer.weight.T * layer.weight_gain + layer.bias * layer.bias_gain


def test_scaled_weights_are_kept_and_made_anew_when_they_change(dense):
    x = torch.randn(3, 8)
    for change in (
        lambda: None,
        lambda: dense.weight.mul_(2),
        lambda: dense.bias.add_(1),
        lambda: dense.load_state_dict({"weight": torch.ones(5, 8), "bias": torch.ones(5)}),
        lambda: dense.double(),
    ):
        change()
        y = x.to(dense.weight.dtype)
        assert torch.allclose(dense(y), by_hand(dense, y), atol=1e-6)
    kept = dense.scaled(y)[0]
    assert dense.scaled(y)[0] is kept
    dense.kept = Kept()
    assert dense.scaled(y)[0] is not kept


def test_weights_are_kept_for_each_precision_apart(dense):
    x = torch.randn(3, 8)
    kept = dense.scaled(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert dense(x).dtype == torch.bfloat16
    assert dense.scaled(x)[0] is kept  # a search goes from one to the other and back
    assert torch.allclose(dense(x), by_hand(dense, x), atol=1e-6)


def test_trained_weights_are_not_kept(dense):
    """Each step has a graph of its own, and gradients reach the weights."""
    dense.requires_grad_()
    for _ in range(2):
        dense(torch.ones(1, 8)).sum().backward()
    assert torch.allclose(dense.weight.grad, torch.full((5, 8), 2 * dense.weight_gain))


def test_colours_are_the_same_in_both_orders_of_memory():
    """And with channels last, features get a gradient that has them last too."""
    rng = torch.Generator().manual_seed(0)
    layer = ToRGB(6, 4)
    for parameter in layer.parameters():
        parameter.data.normal_(generator=rng)
    x, w = torch.randn(2, 6, 8, 8, generator=rng), torch.randn(2, 4, generator=rng)
    found = []
    for order in (torch.contiguous_format, torch.channels_last):
        features = x.contiguous(memory_format=order).requires_grad_()
        rgb = layer(features, w)
        (gradient,) = torch.autograd.grad(rgb.square().sum(), features)
        assert gradient.is_contiguous(memory_format=order)
        found.append((rgb, gradient))
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, atol=1e-4)
