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
NUDGE = (
    0.1  # of the Gaussianised styles, whose deviation is 1: small, so that pictures answer in line
)


@dataclass(frozen=True)
class Bank:
    """Samples of a generator.

    Attributes:
        v: (N, D) Gaussianised styles, one for all layers.
        pictures: (N, 3, s, s) what the generator draws from them, downscaled, in [0, 1].
        changes: (N, 3, s, s) how each picture changes when the style of every layer is nudged on
            its own, at random: J e with e ~ N(0, I) over all layers, J the Jacobian.
    """

    v: Tensor
    pictures: Tensor
    changes: Tensor

    def __post_init__(self) -> None:
        check_shape("v", self.v, None, None)
        check_shape("pictures", self.pictures, self.v.shape[0], 3, None, None)
        check_shape("changes", self.changes, *self.pictures.shape)


@torch.no_grad()
def fit_bank(
    G: Generator,
    prior: LatentPrior,
    samples: int,
    batch_size: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Bank:
    """Draw samples of a generator, always the same, and keep them small.

    Args:
        G: the generator.
        prior: its Gaussianised styles, on its device.
        samples: how many.
        batch_size: pictures at a time; None for `at_once` of the generator.
        on_progress: called with the samples drawn so far and the samples in all.
    """
    # not the stream that the prior was fitted with, and none that depends on the batch
    rng, of_nudges = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    size, batch_size = min(BANK_PX, G.resolution), batch_size or G.at_once
    A = Downscale((G.resolution, G.resolution), (size, size), device=G.device)
    v, pictures, changes = [], [], []
    for start in range(0, samples, batch_size):
        z = torch.randn(min(batch_size, samples - start), G.z_dim, generator=rng)
        e = torch.randn(len(z), G.num_ws, G.w_dim, generator=of_nudges).to(G.device)
        at = prior.from_w(G.mapping(z.to(G.device)))  # (B, D)
        low_res = A(G.render(G.broadcast(prior.to_w(at)), G.zero_noise()))
        nudged = A(G.render(prior.to_w(at[:, None] + NUDGE * e), G.zero_noise()))
        v.append(at.cpu())
        pictures.append(low_res.clamp(0, 1).cpu())
        changes.append((nudged - low_res).div(NUDGE).cpu())
        if on_progress:
            on_progress(start + len(z), samples)
    return Bank(torch.cat(v), torch.cat(pictures), torch.cat(changes))
