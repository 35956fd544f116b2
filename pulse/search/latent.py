"""Gaussianised W: coordinates in which the styles of a generator are about standard normal.

The last layer of a mapping network is a leaky ReLU of slope 0.2. Undone by one of slope 5, styles
are close to a normal distribution (Menon et al. 2020, section 3.2; Wulff & Torralba 2020), which
concentrates on a sphere of radius sqrt(D): staying on it keeps the pictures faces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pulse.shapes import check_shape

SLOPE = 0.2


@dataclass(frozen=True)
class LatentPrior:
    """Mean and standard deviation of the Gaussianised styles of one generator.

    Attributes:
        mean: (D,) of LeakyReLU(5)(w).
        std: (D,) of the same.
    """

    mean: Tensor
    std: Tensor

    def __post_init__(self) -> None:
        check_shape("mean", self.mean, None)
        check_shape("std", self.std, self.mean.shape[0])

    def to_w(self, v: Tensor) -> Tensor:
        """Map v (..., D), standard normal under the prior, to styles w (..., D)."""
        return F.leaky_relu(v * self.std + self.mean, SLOPE)

    def from_w(self, w: Tensor) -> Tensor:
        """Map styles w (..., D) to v (..., D): the inverse of `to_w`."""
        return (F.leaky_relu(w, 1 / SLOPE) - self.mean) / self.std

    def to(self, device: torch.device) -> LatentPrior:
        """The same prior on a device."""
        return LatentPrior(self.mean.to(device), self.std.to(device))


@torch.no_grad()
def fit_prior(
    mapping: Callable[[Tensor], Tensor], z_dim: int, samples: int = 100_000, chunk: int = 10_000
) -> LatentPrior:
    """Fit the prior to a mapping network by sampling, always with the same random stream.

    Args:
        mapping: z (B, z_dim) to w (B, D), on the CPU.
        z_dim: size of z.
        samples: how many styles; 100,000 give the mean to 0.3 % of a standard deviation.
        chunk: how many at a time.
    """
    rng = torch.Generator().manual_seed(0)
    total: Tensor | None = None
    squares: Tensor | None = None
    for start in range(0, samples, chunk):
        z = torch.randn(min(chunk, samples - start), z_dim, generator=rng)
        u = F.leaky_relu(mapping(z), 1 / SLOPE).double()  # (chunk, D)
        total = u.sum(0) if total is None else total + u.sum(0)
        squares = u.square().sum(0) if squares is None else squares + u.square().sum(0)
    assert total is not None
    assert squares is not None
    mean = total / samples
    std = (squares / samples - mean.square()).clamp(min=0).sqrt()
    return LatentPrior(mean.float(), std.float())
