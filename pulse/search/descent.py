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
from pulse.search.sphere import SphericalAdam, linear_one_cycle_drop
from pulse.search.start import Start
from pulse.settings import SearchSettings
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
        step: steps taken so far.
        steps: steps that there can be.
        active: pictures still being searched.
        errors: (B,) lowest error of each picture so far.
    """

    step: int
    steps: int
    active: int
    errors: Tensor


class Descent:
    """A batch of searches in progress; `best` holds what they have found.

    Args:
        G: the generator.
        prior: its Gaussianised styles.
        A: the downscale operator from the generator's size to the target's.
        target: (B, 3, h, w) float in [0, 1].
        start: where each of the B searches begins.
        settings: see `SearchSettings`.

    Raises:
        ValueError: if target and start do not fit each other or the operator.
    """

    def __init__(
        self,
        G: Generator,
        prior: LatentPrior,
        A: Downscale,
        target: Tensor,
        start: Start,
        settings: SearchSettings,
    ) -> None:
        check_shape("target", target, len(start), 3, *A.out_size)
        self.G, self.prior, self.A, self.settings = G, prior, A, settings
        self.target = target
        self.rows = torch.arange(len(start), device=target.device)  # pictures still searched
        trainable = settings.trainable_noise_maps if settings.noise == "trainable" else 0
        maps = [noise.clone() for noise in start.noise_maps]
        self.optimizer = SphericalAdam([start.v.clone(), *maps[:trainable]])
        self.fixed_noise = maps[trainable:]
        self.best = Found(
            images=target.new_zeros(len(start), 3, G.resolution, G.resolution),
            errors=target.new_full((len(start),), torch.inf),
            ws=target.new_zeros(len(start), G.num_ws, G.w_dim),
            v=target.new_zeros(len(start), G.num_ws, G.w_dim),
            noise_maps=[noise.clone() for noise in start.noise_maps],
            steps=torch.zeros(len(start), dtype=torch.long, device=target.device),
        )

    @property
    def is_finished(self) -> bool:
        """Whether every picture has met the tolerance or used up its steps."""
        return len(self.rows) == 0 or self.optimizer.steps >= self.settings.steps

    def step(self) -> Tensor:
        """Draw the pictures, keep the best, and move on; returns the losses (active,)."""
        v, *moving = (x.detach().requires_grad_() for x in self.optimizer.variables)
        ws = self.prior.to_w(v)  # (B, L, D), or (B, 1, D) where all layers share one
        x = self.G.render(ws.expand(-1, self.G.num_ws, -1), [*moving, *self.fixed_noise])
        losses = total_loss(self.A(x), self.target[self.rows], ws, self.settings)  # (B,)
        # a sum over the batch: each picture's gradient is that of its own loss
        gradients = torch.autograd.grad(losses.sum(), [v, *moving])

        self._keep_best(x.detach(), v.detach(), ws.detach(), [noise.detach() for noise in moving])
        schedule = linear_one_cycle_drop(self.optimizer.steps, self.settings.steps)
        self.optimizer.step(gradients, self.settings.step_size * schedule)
        if self.settings.stop_at_tolerance:
            self._leave_finished()
        return losses.detach()

    @torch.no_grad()
    def _keep_best(self, x: Tensor, v: Tensor, ws: Tensor, moving: list[Tensor]) -> None:
        """Remember the pictures that fit better than any before, as they would be saved."""
        saved = round_to_8_bits(x)
        errors = mean_squared(self.A(saved), self.target[self.rows])
        is_better = errors < self.best.errors[self.rows]
        rows = self.rows[is_better]
        self.best.images[rows] = saved[is_better]
        self.best.errors[rows] = errors[is_better]
        self.best.ws[rows] = ws[is_better].expand(-1, self.G.num_ws, -1)
        self.best.v[rows] = v[is_better].expand(-1, self.G.num_ws, -1)
        for kept, noise in zip(self.best.noise_maps, moving, strict=False):
            kept[rows] = noise[is_better]
        self.best.steps[self.rows] += 1

    def _leave_finished(self) -> None:
        """Go on without the pictures that have met the tolerance."""
        going = self.best.errors[self.rows] > self.settings.tolerance
        if not going.all():
            self.rows = self.rows[going]
            self.fixed_noise = [noise[going] for noise in self.fixed_noise]
            self.optimizer.keep(going)


def round_to_8_bits(x: Tensor) -> Tensor:
    """What remains of pictures (B, 3, H, W) when they are saved: [0, 1] in steps of 1/255."""
    return x.clamp(0, 1).mul(255).round().div(255)


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

    Arguments and errors are those of `Descent`; `on_step` is called after each step, and an
    exception from it ends the search.
    """
    descent = Descent(G, prior, A, target, start, settings)
    while not descent.is_finished:
        descent.step()
        if on_step:
            step, steps = descent.optimizer.steps, settings.steps
            on_step(Progress(step, steps, len(descent.rows), descent.best.errors))
    return descent.best
