"""Differentiable augmentation (Zhao et al. 2020): colour, translation and cutout.

The discriminator sees real and drawn pictures only so changed, so that it cannot learn a small
folder by heart; the changes are random for each picture, and gradients pass through them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SHIFT = 1 / 8  # the furthest translation, as a share of the side
HOLE = 1 / 2  # the side of what is cut out, as a share of the side


def augment(x: Tensor, rng: torch.Generator) -> Tensor:
    """Change pictures x (B, 3, H, W) in [-1, 1] at random, each its own way."""
    return cut_out(translate(change_colours(x, rng), rng), rng)


def change_colours(x: Tensor, rng: torch.Generator) -> Tensor:
    """Random brightness, saturation and contrast."""
    draws = torch.rand(3, len(x), 1, 1, 1, generator=rng).to(x.device)
    brightness, saturation, contrast = draws[0] - 0.5, draws[1] * 2, draws[2] + 0.5
    x = x + brightness
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * saturation
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * contrast


def translate(x: Tensor, rng: torch.Generator) -> Tensor:
    """Move pictures by whole pixels; what comes in from outside is 0."""
    B, _, H, W = x.shape
    most = round(H * SHIFT)
    moves = torch.randint(-most, most + 1, (2, B), generator=rng)
    padded = F.pad(x, [most] * 4)
    rows = (moves[0, :, None] + torch.arange(H) + most).to(x.device)  # (B, H)
    columns = (moves[1, :, None] + torch.arange(W) + most).to(x.device)
    pictures = torch.arange(B, device=x.device)[:, None, None]
    moved = padded.permute(0, 2, 3, 1)[pictures, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)  # (B, 3, H, W), channels last


def cut_out(x: Tensor, rng: torch.Generator) -> Tensor:
    """Set a square to 0, whose centre may be anywhere in the picture."""
    B, _, H, W = x.shape
    side = round(H * HOLE)
    centers = torch.rand(2, B, 1, generator=rng) * torch.tensor([H, W])[:, None, None]
    in_rows = (torch.arange(H) - centers[0]).abs() < side / 2  # (B, H)
    in_columns = (torch.arange(W) - centers[1]).abs() < side / 2
    hole = in_rows[:, None, :, None] & in_columns[:, None, None, :]
    return x * (~hole).to(x)
