"""The aggregate posterior of the autoencoder made the prior that the generator is sampled from.

The latents of all pictures together have a mean and a covariance far from those of the prior (in
the prototype, eigenvalues up to 34), so that samples of the prior were all the average face.
Whitened by the full covariance they have mean 0 and covariance 1; the inverse is taken into the
first mapping layer, so that no picture changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pulse.generators.mapping import MappingNetwork
from pulse.generators.ops import Dense
from pulse.training.networks import Encoder

SMALLEST_EIGENVALUE = 1e-6  # of dimensions that no picture uses; rounding would make them negative


@dataclass(frozen=True)
class Moments:
    """Mean (D,) and covariance (D, D) of latents, double precision."""

    mean: Tensor
    covariance: Tensor


def aggregate_moments(posteriors: Iterable[tuple[Tensor, Tensor]]) -> Moments:
    """The moments of the mixture of all pictures' posteriors.

    Args:
        posteriors: means and log variances (B, D) of batches of pictures.
    """
    batches = [(mean.double(), log_variance.double()) for mean, log_variance in posteriors]
    means = torch.cat([mean for mean, _ in batches])
    variances = torch.cat([log_variance.exp() for _, log_variance in batches])
    mean = means.mean(0)
    centered = means - mean
    covariance = centered.T @ centered / len(means) + variances.mean(0).diag()
    return Moments(mean, covariance)


def whiten(mappings: Sequence[MappingNetwork], encoder: Encoder, moments: Moments) -> Tensor:
    """Give the aggregate posterior mean 0 and covariance 1 without changing any picture.

    With C = E diag(l) E^T the encoder gives z' = C^(-1/2) (z - m), and the first mapping layer,
    which took z, takes C^(1/2) z' + m: the same.

    Args:
        mappings: of the generators that decode: the trained one, and the average of its weights.
        encoder: not whitened before.
        moments: of what it gives.

    Returns:
        The eigenvalues l (D,) from the smallest, for the log.
    """
    values, vectors = torch.linalg.eigh(moments.covariance)
    values = values.clamp(min=SMALLEST_EIGENVALUE)
    root = (vectors * values.sqrt()) @ vectors.T
    with torch.no_grad():
        for mapping in mappings:
            _absorb(mapping, root, moments.mean)
        encoder.center.copy_(moments.mean)
        encoder.whitening.copy_((vectors * values.rsqrt()) @ vectors.T)
    return values


def _absorb(mapping: MappingNetwork, matrix: Tensor, shift: Tensor) -> None:
    """Let the first layer take z' where it took matrix @ z' + shift; gains apply at run time."""
    first = mapping.get_submodule("fc0")
    assert isinstance(first, Dense)
    weight = first.weight.double()
    gain = first.weight_gain / first.bias_gain
    first.bias.copy_(first.bias.double() + weight @ shift * gain)
    first.weight.copy_(weight @ matrix)
