"""The PULSE search (Menon et al. 2020, algorithm 1): descent on spheres in Gaussianised W+.

    minimise   100 |A(G(w)) - y|^2 + 0.05 GEOCROSS(w),   w = LeakyReLU(std v + mean),   |v| fixed

with the best picture of each search kept, and each picture decided upon alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pulse.downscale import Downscale
from pulse.generators.base import Generator
from pulse.search.latent import LatentPrior
from pulse.search.losses import mean_squared, total_loss
from pulse.search.settings import SearchSettings
from pulse.search.sphere import SphericalAdam, linear_one_cycle_drop
from pulse.search.start import Start
from pulse.shapes import check_shape


@dataclass(frozen=True)
class Found:
    """The best picture of each of B searches.

    Attributes:
        images: (B, 3, H, W) float in [0, 1], rounded to 8 bits as they will be saved.
        errors: (B,) mean squared error of A(images) against the target.
        ws: (B, L, D) styles of the images.
        v: (B, L, D) the same in Gaussianised coordinates.
        noise_maps: one (B, 1, size, size) for each noise input.
        steps: (B,) steps that were taken before the search of each picture ended.
    """

    images: Tensor
    errors: Tensor
    ws: Tensor
    v: Tensor
    noise_maps: list[Tensor]
    steps: Tensor


@dataclass(frozen=True)
class Progress:
    """How a search stands after a step, for whoever watches.

    Attributes:
        step: steps taken so far, at most `steps`.
        steps: steps that there can be.
        active: pictures still being searched.
        errors: (B,) lowest error of each picture so far.
        losses: (active,) loss of each picture still searched, before the step.
    """

    step: int
    steps: int
    active: int
    errors: Tensor
    losses: Tensor


def descend(
    G: Generator,
    prior: LatentPrior,
    A: Downscale,
    target: Tensor,
    start: Start,
    settings: SearchSettings,
    on_step: Callable[[Progress], None] | None = None,
) -> Found:
    """Search for pictures that the generator draws and that downscale to the targets.

    Args:
        G: the generator.
        prior: its Gaussianised styles.
        A: the downscale operator from the generator's size to the target's.
        target: (B, 3, h, w) float in [0, 1].
        start: where each of the B searches begins.
        settings: see `SearchSettings`.
        on_step: called after each evaluation; an exception from it ends the search.

    Returns:
        The best of each search, which need not be its last.

    Raises:
        ValueError: if target and start do not fit each other or the operator.
    """
    check_shape("target", target, len(start), 3, *A.out_size)
    trainable = settings.trainable_noise_maps if settings.noise == "trainable" else 0
    v = start.v.clone()
    noise_maps = [noise.clone() for noise in start.noise_maps]
    optimizer = SphericalAdam([v, *noise_maps[:trainable]])
    best = _empty(G, target, start)
    rows = torch.arange(len(start), device=target.device)  # of the pictures still searched

    for step in range(settings.steps):
        v, *moving = (x.requires_grad_() for x in optimizer.variables)
        maps = [*moving, *noise_maps[trainable:]]
        ws = prior.to_w(v)  # (B, L, D), or (B, 1, D) for a tiled latent
        x = G.render(ws.expand(-1, G.num_ws, -1), maps)
        losses = total_loss(A(x), target[rows], ws, settings)  # (B,)
        gradients = torch.autograd.grad(losses.sum(), [v, *moving], allow_unused=True)

        _keep_best(best, rows, A, target, x.detach(), v.detach(), ws.detach(), maps, step)
        if on_step:
            on_step(Progress(step + 1, settings.steps, len(rows), best.errors, losses.detach()))
        if settings.stop_at_tolerance:
            going = best.errors[rows] > settings.tolerance
            if not going.any():
                break
            if not going.all():
                rows = rows[going]
                noise_maps = [noise.detach()[going] for noise in noise_maps]
                gradients = tuple(None if g is None else g[going] for g in gradients)
                optimizer.keep(going)
        ...
    return best
