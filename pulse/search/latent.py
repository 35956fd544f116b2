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
    """Mean, standard deviation and covariance of the Gaussianised styles of one generator.

    Attributes:
        mean: (D,) of LeakyReLU(5)(w).
        std: (D,) of the same.
        covariance: (D, D) of the same; None where only mean and std are known.
    """

    mean: Tensor
    std: Tensor
    covariance: Tensor | None = None

    def __post_init__(self) -> None:
        D = self.mean.shape[0]
        check_shape("mean", self.mean, None)
        check_shape("std", self.std, D)
        if self.covariance is not None:
            check_shape("covariance", self.covariance, D, D)

    def to_w(self, v: Tensor) -> Tensor:
        """Map v (..., D), standard normal under the prior, to styles w (..., D)."""
        return F.leaky_relu(v * self.std + self.mean, SLOPE)

    def from_w(self, w: Tensor) -> Tensor:
        """Map styles w (..., D) to v (..., D): the inverse of `to_w`."""
        return (F.leaky_relu(w, 1 / SLOPE) - self.mean) / self.std

    def to(self, device: torch.device) -> LatentPrior:
        """The same prior on a device."""
        covariance = None if self.covariance is None else self.covariance.to(device)
        return LatentPrior(self.mean.to(device), self.std.to(device), covariance)


@torch.no_grad()
def fit_prior(
    mapping: Callable[[Tensor], Tensor],
    z_dim: int,
    samples: int = 100_000,
    chunk: int = 10_000,
    on_progress: Callable[[int, int], None] | None = None,
) -> LatentPrior:
    """Fit the prior to a mapping network by sampling, always with the same random stream.

    Args:
        mapping: z (B, z_dim) to w (B, D), on the CPU.
        z_dim: size of z.
        samples: how many styles; 100,000 give the mean to 0.3 % of a standard deviation.
        chunk: how many at a time.
        on_progress: called with the samples drawn so far and the samples in all.
    """
    rng = torch.Generator().manual_seed(0)
    shift: Tensor | None = None  # near the mean, so that the squares do not cancel
    total, products = torch.zeros(()), torch.zeros(())
    for start in range(0, samples, chunk):
        z = torch.randn(min(chunk, samples - start), z_dim, generator=rng)
        u = F.leaky_relu(mapping(z), 1 / SLOPE)  # (chunk, D)
        shift = u.mean(0) if shift is None else shift
        u = u - shift
        total = total + u.sum(0).double()
        products = products + (u.T @ u).double()  # (D, D)
        if on_progress:
            on_progress(start + len(z), samples)
    assert shift is not None
    mean = total / samples
    covariance = products / samples - torch.outer(mean, mean)
    std = covariance.diagonal().clamp(min=0).sqrt()
    return LatentPrior((shift + mean).float(), std.float(), covariance.float())
