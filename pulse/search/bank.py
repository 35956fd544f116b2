"""A bank of latents with their small pictures, to find a start near a face."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pulse.downscale import Downscale
from pulse.generators.base import Generator
from pulse.search.latent import LatentPrior
from pulse.shapes import check_shape

BANK_PX = 32  # large enough for the low-resolution faces that are searched for


@dataclass(frozen=True)
class Bank:
    """Samples of a generator.

    Attributes:
        v: (N, D) Gaussianised styles, one for all layers.
        pictures: (N, 3, s, s) what the generator draws from them, downscaled, in [0, 1].
    """

    v: Tensor
    pictures: Tensor

    def __post_init__(self) -> None:
        check_shape("v", self.v, None, None)
        check_shape("pictures", self.pictures, self.v.shape[0], 3, None, None)


@torch.no_grad()
def fit_bank(
    G: Generator,
    prior: LatentPrior,
    samples: int,
    batch_size: int = 16,
    on_progress: Callable[[int, int], None] | None = None,
) -> Bank:
    """Draw samples of a generator, always the same, and keep them small.

    Args:
        G: the generator.
        prior: its Gaussianised styles, on its device.
        samples: how many.
        batch_size: pictures at a time.
        on_progress: called with the samples drawn so far and the samples in all.
    """
    rng = torch.Generator().manual_seed(1)  # not the stream that the prior was fitted with
    size = min(BANK_PX, G.resolution)
    A = Downscale((G.resolution, G.resolution), (size, size), device=G.device)
    v, pictures = [], []
    for start in range(0, samples, batch_size):
        z = torch.randn(min(batch_size, samples - start), G.z_dim, generator=rng)
        w = G.mapping(z.to(G.device))  # (B, D)
        x = G.render(G.broadcast(w), G.zero_noise())
        v.append(prior.from_w(w).cpu())
        pictures.append(A(x).clamp(0, 1).cpu())
        if on_progress:
            on_progress(start + len(z), samples)
    return Bank(torch.cat(v), torch.cat(pictures))
