"""Luck of the draw: whether the true faces of a calibration are typical, told without a sampler.

What is read off a true face, less its best linear guess from what is seen of it, is 0 on average
over faces of the prior. Where a study's faces miss that by many standard errors, ranks among exact
samples are not uniform either: what is called for is more faces, not another sampler.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pulse.audit.quantities import quantities_of
from pulse.downscale import Downscale
from pulse.search.together import Together, drawn_of_prior
from pulse.shapes import check_shape

# Of the prior, that guesses are fitted to: several for each value of a picture.
SAMPLES = 2048


@dataclass(frozen=True)
class Guess:
    """The best linear guess of Q quantities from a low-resolution picture with noise.

    Attributes:
        mean_picture: (P,).
        mean_value: (Q,).
        gain: (P, Q).
        samples: that it was fitted to.
    """

    mean_picture: Tensor
    mean_value: Tensor
    gain: Tensor
    samples: int

    @classmethod
    def fit(cls, pictures: Tensor, values: Tensor, sigma: float) -> Guess:
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
        return cls(mean, value, torch.linalg.solve(seen, x.T @ q / len(x)), len(x))

    def off_by(self, y: Tensor, values: Tensor) -> Tensor:
        """By how many standard errors N faces differ from their guesses on average: (Q,).

        Args:
            y: (N, P) what is seen of them, noise and all.
            values: (N, Q) what is true.
        """
        x = values.double() - self.mean_value - (y.double() - self.mean_picture) @ self.gain
        return x.mean(0) / x.std(0) / (1 / len(x) + 1 / self.samples) ** 0.5


def fit_guess(together: Together, A: Downscale, sigma: float, rng: torch.Generator) -> Guess:
    """Fit the guess of every quantity that is read off pictures to faces of the prior.

    Args:
        together: draws them.
        A: to what is seen.
        sigma: standard deviation of its noise.
        rng: on the CPU.
    """
    pictures, values = [], []
    for start in range(0, SAMPLES, together.batch_size):
        n = min(together.batch_size, SAMPLES - start)
        images = together.draw(*drawn_of_prior(together.G, n, rng))
        pictures.append(A(images).flatten(1).cpu())
        values.append(torch.stack(list(quantities_of(images.cpu()).values()), 1))
    return Guess.fit(torch.cat(pictures), torch.cat(values), sigma)
