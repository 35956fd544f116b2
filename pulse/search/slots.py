"""Searches in progress, one in each slot of a batch; how they move is for `descent` and `mixing`.

The network always sees a batch of the same size, whatever slots are in use: libraries choose their
algorithms by shape, so only then does what a search finds depend neither on its company nor on its
slot, to the last bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pulse.downscale import Downscale
from pulse.generators.base import Generator
from pulse.search.latent import LatentPrior
from pulse.search.losses import mean_squared
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


@dataclass(frozen=True)
class Group:
    """Slots with low-resolution pictures of one size: n of them, one operator for all.

    Attributes:
        slots: in order.
        A: to that size.
        target: (n, 3, h, w).
    """

    slots: list[int]
    A: Downscale
    target: Tensor


class SlotSearch(ABC):
    """Searches in progress, one in each slot.

    Args:
        G: the generator.
        prior: its Gaussianised styles.
        settings: see `SearchSettings`.
        slots: how many searches there can be at a time.

    Attributes:
        best: what the search in each slot has found so far; `slots` rows.
        taken: the steps that the search in each slot has taken.
        active: the slots in use, in order.
    """

    def __init__(
        self, G: Generator, prior: LatentPrior, settings: SearchSettings, slots: int
    ) -> None:
        self.G, self.prior, self.settings, self.slots = G, prior, settings, slots
        self.trainable = settings.trainable_noise_maps if settings.noise == "trainable" else 0
        self.best = Found.nothing(slots, G)
        self.taken = [0] * slots
        self.operators: dict[int, Downscale] = {}  # slot to A
        self.targets: dict[int, Tensor] = {}  # slot to (3, h, w)
        self.groups: list[Group] = []
        layers = 1 if settings.tile_latent else G.num_ws
        maps = [torch.zeros_like(noise) for noise in self.best.noise_maps]
        v = torch.zeros(slots, layers, G.w_dim, device=G.device)
        self.variables = [v, *maps[: self.trainable]]
        self.fixed_noise = maps[self.trainable :]

    @abstractmethod
    def draw_start(self, target: Tensor, rng: torch.Generator) -> Start:
        """Where to begin the search for a target (3, h, w): B = 1, on the CPU."""

    @abstractmethod
    def step(self) -> Tensor:
        """Draw the pictures, keep the best, and move on.

        Returns:
            (slots,) what is made small; 0 for slots that are not in use.
        """

    @abstractmethod
    def _restart(self, slot: int, variables: list[Tensor]) -> None:
        """Put another search's variables, one row each, into a slot."""

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
        self._restart(slot, [start.v, *start.noise_maps[: self.trainable]])
        for kept, noise in zip(self.fixed_noise, start.noise_maps[self.trainable :], strict=True):
            kept[slot] = noise[0]
        for kept, noise in zip(self.best.noise_maps, start.noise_maps, strict=True):
            kept[slot] = noise[0]
        self.best.errors[slot] = torch.inf
        self.best.steps[slot] = 0
        self.taken[slot] = 0
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
        self.groups = [
            Group(slots, self.operators[slots[0]], torch.stack([self.targets[i] for i in slots]))
            for slots in by_size.values()
        ]

    @torch.no_grad()
    def _keep_best(self, x: Tensor, ws: Tensor, variables: list[Tensor]) -> Tensor:
        """Count the step, and remember the pictures that fit better than any before.

        Args:
            x: (slots, 3, H, W) what was drawn.
            ws: (slots, L or 1, D) from which styles.
            variables: and from which v and noise maps.

        Returns:
            (slots,) the errors of what was drawn; infinity for slots that are not in use.
        """
        saved = round_to_8_bits(x)  # the error is that of what would be saved
        errors = x.new_full((self.slots,), torch.inf)
        for group in self.groups:
            errors[group.slots] = mean_squared(self._low_res(group, saved), group.target)
        rows = errors < self.best.errors  # (slots,)
        v, *moving = variables
        self.best.images[rows] = saved[rows]
        self.best.errors[rows] = errors[rows]
        self.best.ws[rows] = ws[rows].expand(-1, self.G.num_ws, -1)
        self.best.v[rows] = v[rows].expand(-1, self.G.num_ws, -1)
        for kept, noise in zip(self.best.noise_maps, moving, strict=False):
            kept[rows] = noise[rows]
        self.best.steps.add_(1)
        self.taken = [steps + 1 for steps in self.taken]
        return errors

    @torch.no_grad()
    def _redraw_best(self, slots: list[int]) -> None:
        """Draw the best pictures of slots again, in single precision: errors are those of these."""
        for i in range(0, len(slots), 2):
            some = slots[i : i + 2]
            # always two: on a CPU a single row is rounded by the number of threads, and two are not
            two = (2 * some)[:2]
            x = self.G.render(self.best.ws[two], [noise[two] for noise in self.best.noise_maps])
            self.best.images[some] = round_to_8_bits(x[: len(some)])
        for slot in slots:
            low_res = self.operators[slot](self.best.images[slot : slot + 1])  # (1, 3, h, w)
            self.best.errors[slot] = mean_squared(low_res, self.targets[slot][None])[0]

    def _low_res(self, group: Group, x: Tensor) -> Tensor:
        """The low-resolution pictures of a group: of x (slots, 3, H, W), (n, 3, h, w)."""
        # of all slots, then those in use: on a GPU a product is rounded by how many there are
        return self._pick(group.A(x), group.slots)

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
            if self.taken[slot] >= self.settings.steps or (stop and errors[slot] <= tolerance)
        ]

    def progress(self) -> Progress:
        """How the searches stand."""
        errors = self.best.errors.tolist()
        return Progress(
            steps=self.settings.steps,
            taken=[self.taken[slot] for slot in self.active],
            errors=[errors[slot] for slot in self.active],
        )


def round_to_8_bits(x: Tensor) -> Tensor:
    """What remains of pictures (B, 3, H, W) when they are saved: [0, 1] in steps of 1/255."""
    return x.clamp(0, 1).mul(255).round().div(255)


def search_together(
    search: SlotSearch,
    A: Downscale,
    target: Tensor,
    start: Start,
    on_step: Callable[[Progress], None] | None = None,
) -> Found:
    """Search for pictures that the generator draws and that downscale to the targets.

    Args:
        search: with one free slot for each target.
        A: the downscale operator from the generator's size to the targets'.
        target: (B, 3, h, w) float in [0, 1].
        start: where each of the B searches begins.
        on_step: called after each step; an exception from it ends the search.

    Raises:
        ValueError: if target and start do not fit each other or the operator.
    """
    check_shape("target", target, len(start), 3, *A.out_size)
    for slot in range(len(start)):
        search.admit(slot, A, target[slot], start.rows(slot, slot + 1))
    found: dict[int, Found] = {}
    while search.active:
        search.step()
        if on_step:
            on_step(search.progress())
        found.update({slot: search.release(slot) for slot in search.finished()})
    return Found.stack([found[slot] for slot in range(len(start))])
