from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pulse.downscale import Downscale, cubic, resampling_matrix
from pulse.settings import KERNELS

SIZES = [((128, 128), (16, 16)), ((48, 64), (7, 9)), ((30, 30), (10, 10)), ((8, 8), (16, 16))]


def published_bicubic(x: torch.Tensor, factor: int) -> torch.Tensor:
    """The first PULSE's convolution, from its description: a cubic of 4 * factor taps."""
    taps = 4 * factor
    t = (torch.arange(taps, dtype=torch.float64) - taps / 2 + 0.5).abs() / factor
    near = 1.5 * t**3 - 2.5 * t**2 + 1
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    k = torch.where(t <= 1, near, torch.where(t < 2, far, torch.zeros_like(t)))
    k = (k / k.sum()).expand(3, 1, 1, -1)
    pad = (taps - factor) // 2
    x = F.conv2d(
        F.pad(x, (0, 0, pad, pad), "reflect"), k.transpose(2, 3), stride=(factor, 1), groups=3
    )
    return F.conv2d(F.pad(x, (pad, pad, 0, 0), "reflect"), k, stride=(1, factor), groups=3)


def picture(*size, dtype=torch.float32):
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("factor", [2, 4, 8, 16])
def test_bicubic_is_the_published_convolution(factor):
    x = picture(64, 64)
    A = Downscale((64, 64), (64 // factor, 64 // factor))
    want = published_bicubic(x.double(), factor).float()
    for got in (A(x), A.as_published(x)):
        assert torch.allclose(got, want, atol=1e-6)  # float32 sums of some 4 * factor terms
    assert not torch.equal(A(x), A.as_published(x))  # the order of the additions tells


def test_where_the_first_pulse_had_no_convolution_there_is_one_order():
    x = picture(48, 64)
    A = Downscale((48, 64), (7, 9))
    assert torch.equal(A.as_published(x), A(x))
    with pytest.raises(ValueError, match="x has shape"):
        Downscale((64, 64), (8, 8)).as_published(x)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("in_size", "out_size"), SIZES)
def test_adjoint(kernel, in_size, out_size):
    A = Downscale(in_size, out_size, kernel)
    x = picture(*in_size)
    y = torch.randn(2, 3, *out_size, generator=torch.Generator().manual_seed(1))
    left, right = (A(x) * y).sum().item(), (x * A.adjoint(y)).sum().item()
    assert left == pytest.approx(right, rel=1e-4)  # float32 sums over some 10^5 products


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("in_size", "out_size"), SIZES)
def test_a_flat_picture_stays_as_it_is(kernel, in_size, out_size):
    low_res = Downscale(in_size, out_size, kernel)(torch.full((1, 3, *in_size), 0.3))
    assert low_res.shape == (1, 3, *out_size)
    assert torch.allclose(low_res, torch.tensor(0.3), atol=1e-6)


@pytest.mark.parametrize("kernel", ["bicubic", "lanczos", "area"])
@pytest.mark.parametrize(("in_px", "out_px"), [(64, 16), (50, 7), (45, 15)])
def test_a_ramp_stays_a_ramp_through_the_pixel_centres(kernel, in_px, out_px):
    """No kernel shifts the picture: the inner pixels of a ramp keep their places."""
    ramp = (np.arange(in_px) + 0.5) / in_px
    low_res = resampling_matrix(kernel, in_px, out_px) @ ramp
    want = (np.arange(out_px) + 0.5) / out_px
    # sampled kernels keep a ramp to about 1 % of a pixel where they end between two pixels
    assert np.allclose(low_res[3:-3], want[3:-3], atol=0.02 / out_px)


def test_area_is_the_mean_of_what_a_pixel_covers():
    x = np.array([1.0, 2, 3, 4, 5])
    assert resampling_matrix("area", 5, 2) @ x == pytest.approx([(1 + 2 + 1.5) / 2.5, 10.5 / 2.5])


def test_nearest_takes_the_pixel_in_the_middle():
    assert (resampling_matrix("nearest", 6, 2) @ np.arange(6)).tolist() == [1, 4]


def test_cubic_known_values():
    # Keys 1981, equation 4 with a = -1/2
    assert cubic(np.array([0, 0.5, 1, 1.5, 2, -0.5])) == pytest.approx(
        [1, 0.5625, 0, -0.0625, 0, 0.5625]
    )


def test_wrong_sizes_say_got_and_expected():
    A = Downscale((8, 8), (4, 4))
    with pytest.raises(ValueError, match=r"x has shape \(1, 3, 9, 8\), expected \(any, any, 8, 8"):
        A(torch.zeros(1, 3, 9, 8))
    with pytest.raises(ValueError, match="y has shape"):
        A.adjoint(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="got sizes 0 and 4, expected 1 or more"):
        Downscale((0, 8), (4, 4))
    with pytest.raises(ValueError, match="got kernel 'magic', expected one of bicubic, area"):
        resampling_matrix("magic", 8, 4)
