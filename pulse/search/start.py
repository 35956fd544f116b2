"""Where a search begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pulse.settings import SearchSettings


@dataclass(frozen=True)
class Start:
    """A place in latent space for each of B pictures.

    Attributes:
        v: (B, L, D) Gaussianised latent; (B, 1, D) where all layers share one vector.
        noise_maps: one (B, 1, size, size) for each noise input of the generator.
    """

    v: Tensor
    noise_maps: list[Tensor]

    def __len__(self) -> int:
        return self.v.shape[0]

    def to(self, device: torch.device) -> Start:
        """The same start on a device."""
        return Start(self.v.to(device), [noise.to(device) for noise in self.noise_maps])

    def rows(self, first: int, last: int) -> Start:
        """The pictures from `first` up to, not including, `last`."""
        return Start(self.v[first:last], [noise[first:last] for noise in self.noise_maps])


def random_start(
    rng: torch.Generator,
    num_ws: int,
    w_dim: int,
    noise_sizes: Sequence[int],
    settings: SearchSettings,
) -> Start:
    """Draw the start of one picture from the prior, on the CPU: B = 1.

    The latent is drawn before the noise, so that one seed gives one face whatever the noise mode.
    """
    layers = num_ws if settings.start == "independent" and not settings.tile_latent else 1
    v = torch.randn(1, layers, w_dim, generator=rng)
    if not settings.tile_latent:
        v = v.expand(1, num_ws, w_dim).clone()
    return Start(v, random_noise(rng, noise_sizes, settings))


def random_noise(
    rng: torch.Generator, noise_sizes: Sequence[int], settings: SearchSettings
) -> list[Tensor]:
    """Draw the noise maps that one search begins with, (1, 1, size, size) each, on the CPU."""
    noise_maps = [torch.randn(1, 1, size, size, generator=rng) for size in noise_sizes]
    if settings.noise == "zero":
        noise_maps = [torch.zeros_like(noise) for noise in noise_maps]
    elif settings.last_noise_map_is_zero and noise_maps:
        noise_maps[-1] = torch.zeros_like(noise_maps[-1])
    return noise_maps


def stack(starts: Sequence[Start]) -> Start:
    """Put single starts together to one batch."""
    v = torch.cat([start.v for start in starts])
    maps = zip(*(start.noise_maps for start in starts), strict=True)
    return Start(v, [torch.cat(noise) for noise in maps])
