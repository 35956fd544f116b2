"""What the search makes small: one number for each picture, never one for the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from pulse.settings import SearchSettings


def mean_squared(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference of pictures (B, C, H, W): (B,)."""
    return (a - b).square().mean((1, 2, 3))


def mean_absolute(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of pictures (B, C, H, W): (B,)."""
    return (a - b).abs().mean((1, 2, 3))


def geocross(ws: Tensor) -> Tensor:
    """Spread of a picture's styles: squared geodesic distances (Menon et al. 2020, section 3.3).

    Args:
        ws: (B, L, D) styles.

    Returns:
        (B,): D / 8 times the mean squared angle over pairs; 0 for a single style.
    """
    if ws.shape[1] == 1:
        return ws.new_zeros(ws.shape[0])
    x, y = ws[:, :, None], ws[:, None, :]  # (B, L, 1, D), (B, 1, L, D)
    # 1e-9 under the root: the published code's guard against a gradient of infinity at 0
    apart = ((x - y).square().sum(-1) + 1e-9).sqrt()
    across = ((x + y).square().sum(-1) + 1e-9).sqrt()
    angles = 2 * torch.atan2(apart, across)  # (B, L, L)
    return (angles.square() * ws.shape[2]).mean((1, 2)) / 8


def misfit(low_res: Tensor, target: Tensor, settings: SearchSettings) -> Tensor:
    """The weighted terms that compare pictures; what the descent follows has the geocross besides.

    Args:
        low_res: (B, 3, h, w) the estimate, downscaled.
        target: (B, 3, h, w) float in [0, 1].
        settings: weights and clamping.

    Returns:
        (B,), one loss for each picture.
    """
    weights = settings.loss
    floor = settings.tolerance if settings.clamp_misfit else 0.0
    loss = weights.l2 * mean_squared(low_res, target).clamp(min=floor)
    if weights.l1:
        loss = loss + weights.l1 * 10 * mean_absolute(low_res, target).clamp(min=floor)
    return loss
