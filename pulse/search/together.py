"""Samplers of several faces side by side: what they ask for is drawn in batches that they share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pulse.downscale import Downscale
from pulse.generators.base import Generator
from pulse.search.posterior import Sampling
from pulse.search.precision import feature_dtype
from pulse.search.sampling import Draw, Posterior
from pulse.settings import PrecisionName

ALIKE = 4  # measured on CPUs: batches of multiples of this round alike to the last bit


@dataclass
class Underway:
    """A sampler that waits for pictures.

    Attributes:
        sampling: the sampler.
        A: to the size of its face.
        asked: what it waits for.
    """

    sampling: Sampling
    A: Downscale
    asked: Draw


class Together:
    """Samplers in progress, each under a key of its own.

    Args:
        G: the generator.
        batch_size: pictures drawn at a time, in several batches where there are more.
        precision: of the features; see `SearchSettings`.
    """

    def __init__(self, G: Generator, batch_size: int, precision: PrecisionName = "auto") -> None:
        self.G, self.batch_size = G, batch_size
        self.dtype = feature_dtype(precision, G.device)
        self.underway: dict[int, Underway] = {}

    def __len__(self) -> int:
        """Samplers in progress."""
        return len(self.underway)

    def add(self, key: int, sampling: Sampling, A: Downscale) -> None:
        """Begin with a face."""
        self.underway[key] = Underway(sampling, A, next(sampling))

    def step(self) -> dict[int, Posterior]:
        """Draw what every sampler asks for, and let each go on to its next question.

        Returns:
            The samples of the faces that are finished, by key.
        """
        keys = list(self.underway)
        asked = [self.underway[key].asked for key in keys]
        pictures = self.draw(
            torch.cat([one.z for one in asked]), torch.cat([one.noise for one in asked])
        )
        finished: dict[int, Posterior] = {}
        rows = torch.split(pictures, [len(one.z) for one in asked])
        for key, x in zip(keys, rows, strict=True):
            one = self.underway[key]
            try:
                one.asked = one.sampling.send(one.A(x).flatten(1))
            except StopIteration as end:
                finished[key] = end.value
                del self.underway[key]
        return finished

    @torch.no_grad()
    def draw(self, z: Tensor, noise: Tensor) -> Tensor:
        """Draw N latents with their flattened noise maps: (N, 3, H, W) float in [0, 1]."""
        return torch.cat(
            [
                self._batch(z[i : i + self.batch_size], noise[i : i + self.batch_size])
                for i in range(0, len(z), self.batch_size)
            ]
        )

    def _batch(self, z: Tensor, noise: Tensor) -> Tensor:
        """One batch, filled up so that each picture is the same in any company.

        Libraries choose their algorithms by the size of a batch.
        """
        n = len(z)
        size = -(-n // ALIKE) * ALIKE if z.device.type == "cpu" else self.batch_size
        rows = torch.arange(size, device=z.device).clamp(max=n - 1)
        ws = self.G.broadcast(self.G.mapping(z[rows]))
        is_mixed = self.dtype != torch.float32
        with torch.autocast(self.G.device.type, self.dtype, enabled=is_mixed):
            x = self.G.render(ws, noise_maps_of(self.G, noise[rows]))
        return x[:n].float().clamp(0, 1)  # as it is saved


def drawn_of_prior(G: Generator, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Latents of the prior, z (N, z_dim) and noise (N, Q), from a stream on the CPU."""
    noise_values = sum(size**2 for size in G.noise_sizes)
    z = torch.randn(count, G.z_dim, generator=rng)
    noise = torch.randn(count, noise_values, generator=rng)
    return z.to(G.device), noise.to(G.device)


def noise_maps_of(G: Generator, noise: Tensor) -> list[Tensor]:
    """Flattened noise maps (N, Q) as the generator takes them."""
    parts = torch.split(noise, [size**2 for size in G.noise_sizes], 1)
    return [part.view(-1, 1, size, size) for part, size in zip(parts, G.noise_sizes, strict=True)]


def sample_face(together: Together, sampling: Sampling, A: Downscale) -> Posterior:
    """The samples of one face alone."""
    together.add(0, sampling, A)
    while True:
        finished = together.step()
        if finished:
            return finished[0]
