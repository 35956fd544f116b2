"""Resampling against its definition, and the filtered activation against its steps."""

import pytest
import torch
import torch.nn.functional as F

from pulse.generators.filters import FilteredLeakyReLU, downsample, upsample


@pytest.mark.parametrize("clamp", [256, 40])
@pytest.mark.parametrize(
    ("up", "down", "crop", "up_shape", "down_shape"),
    [(2, 2, 2, (12,), (12,)), (4, 2, 5, (24,), (12, 12)), (3, 2, 1, (5, 5), (4, 4))],
)
def test_filtered_activation_equals_its_steps(up, down, crop, up_shape, down_shape, clamp):
    rng = torch.Generator().manual_seed(0)
    x, up_taps, down_taps = (
        torch.randn(shape, generator=rng, dtype=torch.float64)
        for shape in [(1, 2, 11, 12), up_shape, down_shape]
    )
    x = (200 * x).requires_grad_()  # some samples reach the clamp
    got = FilteredLeakyReLU.apply(x, up_taps, down_taps, up, down, crop, clamp)
    y = F.leaky_relu(upsample(x, up_taps, up, crop), 0.2) * 2**0.5
    assert 0 < int((y.abs() > clamp).sum()) < y.numel()
    want = downsample(y.clamp(-clamp, clamp), down_taps, down)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    v = torch.randn(want.shape, generator=rng, dtype=torch.float64)
    (got_gradient,) = torch.autograd.grad(got, x, v)
    (want_gradient,) = torch.autograd.grad(want, x, v)
    torch.testing.assert_close(got_gradient, want_gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(6,), (6, 5)], ids=["separable", "square"])
def test_upsample_is_zero_insertion_and_convolution(shape):
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(1, 1, 5, 4, generator=rng, dtype=torch.float64)
    taps = torch.randn(shape, generator=rng, dtype=torch.float64)
    kernel = taps if taps.ndim == 2 else taps[:, None] * taps[None, :]
    spread = torch.zeros(5 * 3 - 2, 4 * 3 - 2, dtype=torch.float64)
    spread[::3, ::3] = x[0, 0]
    rows, columns = kernel.shape
    full = torch.zeros(spread.shape[0] + rows - 1, spread.shape[1] + columns - 1).double()
    for i in range(rows):
        for j in range(columns):
            full[i : i + spread.shape[0], j : j + spread.shape[1]] += kernel[i, j] * spread
    got = upsample(x, taps, 3, crop=2)[0, 0]
    torch.testing.assert_close(got, 9 * full[2:-2, 2:-2], rtol=1e-12, atol=1e-12)
