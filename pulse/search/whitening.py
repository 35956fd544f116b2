"""What a bank of samples tells before a search: which residuals are easy, and where to begin.

Low-resolution faces vary a thousand times more in overall brightness than in fine detail, and a
gradient follows the same proportions. Residuals divided by what the generator varies anyway are
removed at one rate (`Whitening`). And because pictures and latents of samples are correlated, a
sample can be moved to where the generator, were it linear, would draw the target: a draw from the
prior conditioned on the target (`conditioned`; Matheron's rule, Journel & Huijbregts 1978), so
that different samples remain different answers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pulse.downscale import Downscale
from pulse.search.bank import Bank
from pulse.search.latent import LatentPrior
from pulse.shapes import check_shape

DAMPING = 0.25  # squared length of a residual along one direction, pixels in [0, 1]
GAIN_DAMPING = 0.1  # the same for the move to a target; smaller ones follow chance correlations
SMALLEST_VARIANCE = 1e-5  # of the Gaussianised styles, whose mean variance is 1


@dataclass(frozen=True)
class Whitening:
    """What is known of a generator at one size of low-resolution pictures; P = 3 h w.

    Attributes:
        v: (N, D) latents of the bank.
        pictures: (N, P) their low-resolution pictures.
        inverse: (P, P) about the inverse covariance of the pictures, times `DAMPING`.
        gain: (D, P) the change of v for each change of the picture.
        radius: (D, D) turns v into coordinates in which the prior is standard normal.
    """

    v: Tensor
    pictures: Tensor
    inverse: Tensor
    gain: Tensor
    radius: Tensor

    def __post_init__(self) -> None:
        (samples, D), values = self.v.shape, self.pictures.shape[1]
        check_shape("pictures", self.pictures, samples, values)
        check_shape("inverse", self.inverse, values, values)
        check_shape("gain", self.gain, D, values)
        check_shape("radius", self.radius, D, D)

    def to(self, device: torch.device) -> Whitening:
        """The same on a device."""
        return Whitening(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))

    def whiten(self, residual: Tensor) -> Tensor:
        """Scale residuals (B, 3, h, w) so that a step removes each part of them at one rate."""
        flat = residual.flatten(1)[:, None]  # (B, 1, P): row by row, whatever the others are
        return torch.bmm(flat, self.inverse.expand(len(flat), -1, -1)).view_as(residual)


def whitening_of(bank: Bank, prior: LatentPrior, size: tuple[int, int]) -> Whitening:
    """Take from a bank what a search for pictures (3, h, w) wants to know.

    Args:
        bank: samples of the generator, on the CPU.
        prior: its Gaussianised styles.
        size: (h, w).
    """
    side = bank.pictures.shape[-1]
    A = Downscale((side, side), size)
    y = A(bank.pictures.float()).flatten(1)  # (N, P)
    v = bank.v.float()
    centred, moved = y - y.mean(0), v - v.mean(0)
    variances, axes = torch.linalg.eigh((centred.T @ centred / (len(y) - 1)).double())
    variances = variances.clamp(min=0)  # rounding

    def damped(damping: float) -> Tensor:
        """(covariance / damping + 1)^-1."""
        return ((axes * (damping / (variances + damping))) @ axes.T).float()

    cross = moved.T @ centred / (len(y) - 1)  # (D, P)
    gain = cross @ damped(GAIN_DAMPING) / GAIN_DAMPING
    return Whitening(v, y, damped(DAMPING), gain, _radius_map(prior))


def _radius_map(prior: LatentPrior) -> Tensor:
    """The matrix that turns v into coordinates of unit variance, correlations removed."""
    D = len(prior.mean)
    if prior.covariance is None:
        return torch.eye(D)
    correlation = prior.covariance / torch.outer(prior.std, prior.std)
    variances, axes = torch.linalg.eigh(correlation.double().cpu())
    return (axes / variances.clamp(min=SMALLEST_VARIANCE).sqrt()).float()


def conditioned(
    known: Whitening, target: Tensor, rng: torch.Generator, drawn: int
) -> Tensor:  # fmt: skip
    """One answer to a target were the generator linear: where to begin the search for it.

    Args:
        known: of the generator, at the target's size, on the CPU.
        target: (3, h, w) float in [0, 1].
        rng: chooses the samples among which the nearest is taken.
        drawn: how many those are: many begin nearer to the target, few further from each other.

    Returns:
        v (D,), as far from the mean as samples of the prior are.
    """
    y = target.flatten().cpu()
    some = torch.randperm(len(known.v), generator=rng)[:drawn]
    nearest = some[(known.pictures[some] - y).square().mean(1).argmin()]
    v = known.v[nearest] + known.gain @ (y - known.pictures[nearest])
    # the move lengthens v where the target is unlike any sample; the sphere is where faces are
    length = (v @ known.radius).square().mean().sqrt()
    return v / length.clamp(min=1)
