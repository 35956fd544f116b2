"""Luck of the draw: whether the true faces of a calibration are typical, told without a sampler.

What is read off a true face, less its best linear guess from what is seen of it, is 0 on average
over faces of the prior. Where a study's faces miss that by many standard errors, ranks among exact
samples are not uniform either: what is called for is more faces, not another sampler.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pulse.audit.quantities import quantities_of
from pulse.downscale import Downscale
from pulse.search.rng import normal
from pulse.search.together import Together
from pulse.shapes import check_shape

SAMPLES = (
    2048  # of the prior that guesses are fitted to; 4,096 give the same to a tenth of an error
)


@dataclass(frozen=True)
class Guess:
    """The best linear guess of Q quantities from a low-resolution picture with noise.

    Attributes:
        picture: (P,) the mean picture.
        value: (Q,) the mean of the quantities.
        gain: (P, Q).
    """

    picture: Tensor
    value: Tensor
    gain: Tensor

    @classmethod
    def fitted(cls, pictures: Tensor, values: Tensor, sigma: float) -> Guess:
        """Fit to samples: (C + sigma^2 I)^-1 C_xq, with C of the pictures without noise.

        Args:
            pictures: (N, P) without noise.
            values: (N, Q).
            sigma: standard deviation of the noise to come.
        """
        check_shape("values", values, len(pictures), values.shape[1])
        x, q = pictures.double(), values.double()
        mean, value = x.mean(0), q.mean(0)
        x, q = x - mean, q - value
        seen = x.T @ x / len(x) + sigma**2 * torch.eye(x.shape[1], dtype=x.dtype)
        return cls(mean, value, torch.linalg.solve(seen, x.T @ q / len(x)))

    def missed(self, y: Tensor, values: Tensor) -> Tensor:
        """How far values (..., Q) are from the guess by pictures y (..., P): (..., Q)."""
        return values.double() - self.value - (y.double() - self.picture) @ self.gain


def fit_guess(together: Together, A: Downscale, sigma: float, rng: torch.Generator) -> Guess:
    """Fit the guess of every quantity that is read off pictures to faces of the prior.

    Args:
        together: draws them.
        A: to what is seen.
        sigma: standard deviation of its noise.
        rng: on the CPU.
    """
    G = together.G
    noise_values = sum(size**2 for size in G.noise_sizes)
    pictures, values = [], []
    for start in range(0, SAMPLES, together.batch_size):
        n = min(together.batch_size, SAMPLES - start)
        images = together.draw(
            normal(rng, n, G.z_dim, device=G.device), normal(rng, n, noise_values, device=G.device)
        )
        pictures.append(A(images).flatten(1).cpu())
        values.append(torch.stack(list(quantities_of(images.cpu()).values()), 1))
    return Guess.fitted(torch.cat(pictures), torch.cat(values), sigma)


def standard_errors(missed: Sequence[float]) -> float:
    """By how many of its standard errors a mean differs from 0; two numbers at least."""
    x = torch.tensor(missed, dtype=torch.float64)
    return float(x.mean() / x.std() * len(x) ** 0.5)
