"""Resampling by any factor with stored filters, and StyleGAN3's leaky ReLU between two of them."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pulse.generators.ops import LEAKY_SLOPE

CLAMP = 256.0
ACTIVATION_GAIN = math.sqrt(2)


def mirrored(taps: Tensor) -> Tensor:
    """A filter reversed along each axis."""
    return taps.flip(tuple(range(taps.ndim)))


def upsample(x: Tensor, taps: Tensor, factor: int, crop: int) -> Tensor:
    """Insert zeros and filter, then cut `crop` samples from each side of (B, C, H, W).

    Args:
        x: (B, C, H, W).
        taps: (T,) for a separable filter, (T, T) for any other, with a sum of 1.
        factor: how many times the size; zero insertion divides the mean by it on each axis.
        crop: samples cut from each side of the full result of (H - 1) * factor + T rows.
    """
    C = x.shape[1]
    if taps.ndim == 2:
        kernel = (taps * factor**2).expand(C, 1, -1, -1)
        return F.conv_transpose2d(x, kernel, stride=factor, padding=crop, groups=C)
    kernel = (taps * factor).expand(C, 1, 1, -1)
    x = F.conv_transpose2d(
        x, kernel.transpose(2, 3), stride=(factor, 1), padding=(crop, 0), groups=C
    )
    return F.conv_transpose2d(x, kernel, stride=(1, factor), padding=(0, crop), groups=C)


def downsample(x: Tensor, taps: Tensor, factor: int) -> Tensor:
    """Filter (B, C, H, W) without padding and keep every `factor`-th sample.

    Args:
        x: (B, C, H, W).
        taps: (T,) for a separable filter, (T, T) for any other, with a sum of 1.
        factor: how many times smaller.
    """
    C = x.shape[1]
    if taps.ndim == 2:
        kernel = mirrored(taps).expand(C, 1, -1, -1)
        return F.conv2d(x, kernel, stride=factor, groups=C)
    kernel = mirrored(taps).expand(C, 1, 1, -1)
    x = F.conv2d(x, kernel, stride=(1, factor), groups=C)
    return F.conv2d(x, kernel.transpose(2, 3), stride=(factor, 1), groups=C)


class FilteredLeakyReLU(torch.autograd.Function):
    """Leaky ReLU at a higher sampling rate: upsample, scaled leaky ReLU, clamp, downsample.

    Equals the same steps in plain autograd, which would keep several tensors of the higher rate
    for each layer: too many gigabytes for 1024 px. This keeps two masks, a byte for each sample.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        x: Tensor,
        up_taps: Tensor,
        down_taps: Tensor,
        up: int,
        down: int,
        crop: int,
        clamp: float,
    ) -> Tensor:
        """Map x (B, C, H, W); `crop` as in `upsample`, `clamp` where samples are cut off."""
        ctx.factors = up, down, crop
        y = upsample(x, up_taps, up, crop)
        is_negative = y < 0
        y = F.leaky_relu_(y, LEAKY_SLOPE).mul_(ACTIVATION_GAIN)
        is_inside = y.abs() <= clamp
        ctx.save_for_backward(up_taps, down_taps, is_negative, is_inside)
        return downsample(y.clamp_(-clamp, clamp), down_taps, down)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """The gradient (B, C, H, W); linear filters are undone by their mirror images."""
        up_taps, down_taps, is_negative, is_inside = ctx.saved_tensors
        up, down, crop = ctx.factors
        g = upsample(gradient, mirrored(down_taps), down, 0) / down**2
        g = F.pad(g, [0, is_inside.shape[3] - g.shape[3], 0, is_inside.shape[2] - g.shape[2]])
        g = torch.where(is_negative, LEAKY_SLOPE * g, g)
        g = torch.where(is_inside, ACTIVATION_GAIN * g, 0)
        g = downsample(F.pad(g, [crop] * 4), mirrored(up_taps), up) * up**2
        return g, None, None, None, None, None, None
