"""The PULSE search (Menon et al. 2020, algorithm 1): descent on spheres in Gaussianised W+.

    minimise   100 |A(G(w)) - y|^2 + 0.05 GEOCROSS(w),   w = LeakyReLU(std v + mean),   |v| fixed

with the best picture of each search kept, and each picture decided upon alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pulse.downscale import Downscale
from pulse.generators.base import Generator
from pulse.search.latent import LatentPrior
from pulse.search.losses import geocross, misfit
from pulse.search.slots import Found, Progress, SlotSearch, search_together
from pulse.search.sphere import SphericalAdam, linear_one_cycle_drop
from pulse.search.start import Start, random_start
from pulse.settings import SearchSettings


class Descent(SlotSearch):
    """Descents in progress; see `SlotSearch`."""

    def __init__(
        self, G: Generator, prior: LatentPrior, settings: SearchSettings, slots: int
    ) -> None:
        super().__init__(G, prior, settings, slots)
        self.optimizer = SphericalAdam(self.variables)

    def draw_start(self, target: Tensor, rng: torch.Generator) -> Start:  # noqa: ARG002
        """A draw from the prior, whatever the target."""
        G = self.G
        return random_start(rng, G.num_ws, G.w_dim, G.noise_sizes, self.settings)

    def _restart(self, slot: int, variables: list[Tensor]) -> None:
        self.optimizer.restart(slot, variables)

    def step(self) -> Tensor:
        """Draw the pictures, keep the best, and move on.

        Returns:
            (slots,) the losses; 0 for slots that are not in use.
        """
        v, *moving = (x.detach().requires_grad_() for x in self.optimizer.variables)
        ws = self.prior.to_w(v)  # (B, L, D), or (B, 1, D) where all layers share one
        x = self.G.render(ws.expand(-1, self.G.num_ws, -1), [*moving, *self.fixed_noise])
        # of all slots at once: how sums are rounded depends on how many rows there are
        spread = self.settings.loss.geocross * geocross(ws)
        losses = x.new_zeros(self.slots)
        for group in self.groups:
            low_res = group.A.as_published(self._pick(x, group.slots))
            losses[group.slots] = misfit(low_res, group.target, self.settings) + spread[group.slots]
        # a sum over the batch: each picture's gradient is that of its own loss
        gradients = torch.autograd.grad(losses.sum(), [v, *moving])

        self._keep_best(x.detach(), ws.detach(), [v.detach(), *(n.detach() for n in moving)])
        taken, steps = self.optimizer.steps, self.settings.steps
        schedules = [linear_one_cycle_drop(min(i, steps), steps) for i in taken]
        self.optimizer.step(gradients, [self.settings.step_size * s for s in schedules])
        return losses.detach()


def descend(
    G: Generator,
    prior: LatentPrior,
    A: Downscale,
    target: Tensor,
    start: Start,
    settings: SearchSettings,
    on_step: Callable[[Progress], None] | None = None,
) -> Found:
    """Descend for each of B targets; see `search_together`."""
    return search_together(Descent(G, prior, settings, len(start)), A, target, start, on_step)
