"""Operations that the generations share."""

from __future__ import annotations

import copy

import pytest
import torch

from pulse.generators.ops import Dense, Kept, StyleDense, times_rows
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


def test_what_is_kept_does_not_travel(dense):
    x = torch.randn(3, 8)
    kept = dense.scaled(x)[0]
    other = copy.deepcopy(dense)
    assert other.scaled(x)[0] is not kept
    assert torch.equal(other(x), dense(x))


@pytest.mark.parametrize("copies", [1, 2])
def test_a_row_is_rounded_alike_in_any_company(copies):
    """To the last bit, with its gradient; a product of matrices has other bits for most of them."""
    rng = torch.Generator().manual_seed(0)
    x, matrix = torch.randn(8, 512, generator=rng), torch.randn(64, 512, generator=rng)
    x.requires_grad_()
    several = times_rows(x, matrix, copies)
    (gradient,) = torch.autograd.grad(several.sin().sum(), x)
    assert torch.allclose(several, x @ matrix.T, atol=1e-4)
    for i in range(8):
        alone = times_rows(x[i : i + 1], matrix, copies)
        (its_gradient,) = torch.autograd.grad(alone.sin().sum(), x)
        assert torch.equal(alone[0], several[i])
        assert torch.equal(its_gradient[i], gradient[i])


def test_styles_have_the_precision_of_w_unless_they_are_trained():
    layer = StyleDense(8, 5).requires_grad_(False)
    layer.weight.normal_(generator=torch.Generator().manual_seed(0))
    layer.bias.fill_(0.3)
    x = torch.randn(3, 8)
    want = by_hand(layer, x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(layer(x), want, atol=1e-6)
        layer.requires_grad_()
        assert layer(x).dtype == torch.bfloat16


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
