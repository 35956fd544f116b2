"""The PULSE search (Menon et al. 2020, algorithm 1): descent on spheres in Gaussianised W+.

    minimise   100 |A(G(w)) - y|^2 + 0.05 GEOCROSS(w),   w = LeakyReLU(std v + mean),   |v| fixed

with the best picture of each search kept, and each picture decided upon alone. Many searches share
the network: each sits in a slot of one batch, and may begin and end at any step.
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

    @classmethod
    def nothing(cls, B: int, G: Generator) -> Found:
        """Room for B searches that have found nothing yet."""
        device, latent = G.device, (B, G.num_ws, G.w_dim)
        return cls(
            images=torch.zeros(B, 3, G.resolution, G.resolution, device=device),
            errors=torch.full((B,), torch.inf, device=device),
            ws=torch.zeros(latent, device=device),
            v=torch.zeros(latent, device=device),
            noise_maps=[torch.zeros(B, 1, size, size, device=device) for size in G.noise_sizes],
            steps=torch.zeros(B, dtype=torch.long, device=device),
        )

    def row(self, i: int) -> Found:
        """A copy of one search: B = 1."""
        images, errors, ws, v, steps = (
            x[i : i + 1].clone() for x in (self.images, self.errors, self.ws, self.v, self.steps)
        )
        return Found(images, errors, ws, v, [n[i : i + 1].clone() for n in self.noise_maps], steps)

    @staticmethod
    def stack(parts: list[Found]) -> Found:
        """Put searches together to one batch."""
        images, errors, ws, v, steps = (
            torch.cat([getattr(part, name) for part in parts])
            for name in ("images", "errors", "ws", "v", "steps")
        )
        maps = zip(*(part.noise_maps for part in parts), strict=True)
        return Found(images, errors, ws, v, [torch.cat(noise) for noise in maps], steps)


@dataclass(frozen=True)
class Progress:
    """How the searches stand after a step, for whoever watches.

    Attributes:
        steps: steps that a search can take.
        taken: the steps that each search in progress has taken.
        errors: the lowest error of each of them so far.
    """

    steps: int
    taken: list[int]
    errors: list[float]

    @property
    def active(self) -> int:
        """Searches in progress."""
        return len(self.taken)


class Descent:
    """Searches in progress, one in each slot.

    The network always sees a batch of the same size, whatever slots are in use: libraries choose
    their algorithms by shape, so only then does what a search finds depend neither on its company
    nor on its slot, to the last bit.

    Args:
        G: the generator.
        prior: its Gaussianised styles.
        settings: see `SearchSettings`.
        slots: how many searches there can be at a time.

    Attributes:
        best: what the search in each slot has found so far; `slots` rows.
        active: the slots in use, in order.
    """

    def __init__(
        self, G: Generator, prior: LatentPrior, settings: SearchSettings, slots: int
    ) -> None:
        self.G, self.prior, self.settings, self.slots = G, prior, settings, slots
        layers = 1 if settings.tile_latent else G.num_ws
        self.trainable = settings.trainable_noise_maps if settings.noise == "trainable" else 0
        self.best = Found.nothing(slots, G)
        maps = [torch.zeros_like(noise) for noise in self.best.noise_maps]
        v = torch.zeros(slots, layers, G.w_dim, device=G.device)
        self.optimizer = SphericalAdam([v, *maps[: self.trainable]])
        self.fixed_noise = maps[self.trainable :]
        self.operators: dict[int, Downscale] = {}  # slot to A
        self.targets: dict[int, Tensor] = {}  # slot to (3, h, w)
        self._groups: list[tuple[list[int], Downscale, Tensor]] = []

    @property
    def active(self) -> list[int]:
        """The slots in use, in order."""
        return sorted(self.targets)

    def admit(self, slot: int, A: Downscale, target: Tensor, start: Start) -> None:
        """Begin a search in a slot, in the place of any that was there.

        Args:
            slot: from 0.
            A: the downscale operator from the generator's size to the target's.
            target: (3, h, w) float in [0, 1].
            start: where it begins, B = 1.

        Raises:
            ValueError: if target and operator do not fit each other.
        """
        check_shape("target", target, 3, *A.out_size)
        start = start.to(self.G.device)
        self.operators[slot], self.targets[slot] = A, target.to(self.G.device)
        self.optimizer.restart(slot, [start.v, *start.noise_maps[: self.trainable]])
        for kept, noise in zip(self.fixed_noise, start.noise_maps[self.trainable :], strict=True):
            kept[slot] = noise[0]
        for kept, noise in zip(self.best.noise_maps, start.noise_maps, strict=True):
            kept[slot] = noise[0]
        self.best.errors[slot] = torch.inf
        self.best.steps[slot] = 0
        self._group()

    def release(self, slot: int) -> Found:
        """End the search in a slot and give back what it found: B = 1."""
        del self.operators[slot], self.targets[slot]
        self._group()
        return self.best.row(slot)

    def _group(self) -> None:
        """Put slots with low-resolution pictures of one size together: one operator for each."""
        by_size: dict[tuple[int, int], list[int]] = {}
        for slot in self.active:
            by_size.setdefault(self.operators[slot].out_size, []).append(slot)
        self._groups = [
            (slots, self.operators[slots[0]], torch.stack([self.targets[slot] for slot in slots]))
            for slots in by_size.values()
        ]

    def step(self) -> Tensor:
        """Draw the pictures, keep the best, and move on.

        Returns:
            (slots,) the losses; 0 for slots that are not in use.
        """
        v, *moving = (x.detach().requires_grad_() for x in self.optimizer.variables)
        ws = self.prior.to_w(v)  # (B, L, D), or (B, 1, D) where all layers share one
        x = self.G.render(ws.expand(-1, self.G.num_ws, -1), [*moving, *self.fixed_noise])
        losses = x.new_zeros(self.slots)
        for slots, A, target in self._groups:
            low_res = A(self._pick(x, slots))
            losses[slots] = total_loss(low_res, target, self._pick(ws, slots), self.settings)
        # a sum over the batch: each picture's gradient is that of its own loss
        gradients = torch.autograd.grad(losses.sum(), [v, *moving])

        self._keep_best(x.detach(), v.detach(), ws.detach(), [noise.detach() for noise in moving])
        taken, steps = self.optimizer.steps, self.settings.steps
        schedules = [linear_one_cycle_drop(min(i, steps), steps) for i in taken]
        self.optimizer.step(gradients, [self.settings.step_size * s for s in schedules])
        return losses.detach()

    @torch.no_grad()
    def _keep_best(self, x: Tensor, v: Tensor, ws: Tensor, moving: list[Tensor]) -> None:
        """Remember the pictures that fit better than any before, as they would be saved."""
        saved = round_to_8_bits(x)
        errors = x.new_full((self.slots,), torch.inf)
        for slots, A, target in self._groups:
            errors[slots] = mean_squared(A(self._pick(saved, slots)), target)
        rows = errors < self.best.errors  # (slots,)
        self.best.images[rows] = saved[rows]
        self.best.errors[rows] = errors[rows]
        self.best.ws[rows] = ws[rows].expand(-1, self.G.num_ws, -1)
        self.best.v[rows] = v[rows].expand(-1, self.G.num_ws, -1)
        for kept, noise in zip(self.best.noise_maps, moving, strict=False):
            kept[rows] = noise[rows]
        self.best.steps.add_(1)

    def _pick(self, x: Tensor, slots: list[int]) -> Tensor:
        """The rows of some slots; all of them without a copy."""
        return x if len(slots) == self.slots else x[slots]

    def finished(self) -> list[int]:
        """The slots whose search has met the tolerance or used up its steps."""
        errors = self.best.errors.tolist()
        stop, tolerance = self.settings.stop_at_tolerance, self.settings.tolerance
        return [
            slot
            for slot in self.active
            if self.optimizer.steps[slot] >= self.settings.steps
            or (stop and errors[slot] <= tolerance)
        ]

    def progress(self) -> Progress:
        """How the searches stand."""
        errors = self.best.errors.tolist()
        return Progress(
            steps=self.settings.steps,
            taken=[self.optimizer.steps[slot] for slot in self.active],
            errors=[errors[slot] for slot in self.active],
        )


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

    Args:
        G: the generator.
        prior: its Gaussianised styles.
        A: the downscale operator from the generator's size to the targets'.
        target: (B, 3, h, w) float in [0, 1].
        start: where each of the B searches begins.
        settings: see `SearchSettings`.
        on_step: called after each step; an exception from it ends the search.

    Raises:
        ValueError: if target and start do not fit each other or the operator.
    """
    check_shape("target", target, len(start), 3, *A.out_size)
    descent = Descent(G, prior, settings, len(start))
    for slot in range(len(start)):
        descent.admit(slot, A, target[slot], start.rows(slot, slot + 1))
    found: dict[int, Found] = {}
    while descent.active:
        descent.step()
        if on_step:
            on_step(descent.progress())
        found.update({slot: descent.release(slot) for slot in descent.finished()})
    return Found.stack([found[slot] for slot in range(len(start))])
