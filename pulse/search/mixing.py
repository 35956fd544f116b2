"""The fast search: whitened residuals back through the generator, and Anderson mixing.

A root is looked for instead of a minimum, r(v) = y - A(G(v)) = 0. Every step costs one drawing and
one gradient, as a step of the descent does:

    r = y - A(G(v)),   v <- v + mixing(J^T M r),   J = dA(G(v))/dv,   |v| fixed

M whitens: it divides a residual by what the generator varies anyway, known from a bank of samples
(`whitening`), and the mixing learns from the last few steps how the residual, in units of what the
generator varies, answers to moves (`anderson`). It begins at a sample of the bank, moved to where
the target is expected. A search that gets lost goes back to the best it had, and on from there in
shorter moves.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pulse.generators.base import Generator
from pulse.search.anderson import AndersonMixing
from pulse.search.bank import Bank
from pulse.search.latent import LatentPrior
from pulse.search.precision import feature_dtype
from pulse.search.slots import SlotSearch
from pulse.search.sphere import norms
from pulse.search.start import Start, random_noise
from pulse.search.whitening import Whitening, conditioned, whitening_of
from pulse.settings import SearchSettings

# Length of a move for each unit of step_size: at 0.4, what is lacking times 0.72, or times 1.
# Moves of 0.66 to 1 take about as many steps: the mixing finds its own length.
LENGTH, LENGTH_TILED = 1.8, 2.5

# A search is lost when its error is this many times the lowest it had, or when so many steps have
# brought none lower: the mixing has learned from too far away.
LOST, PATIENCE = 2.0, 5


@dataclass(frozen=True)
class Drawn:
    """What a step has drawn, with the graph of its gradient.

    Attributes:
        x: (slots, 3, H, W) in about [0, 1].
        ws: (slots, L or 1, D) styles.
        variables: v and noise maps, which x depends on.
        residuals: r of each group of slots, (n, 3, h, w).
        standardized: the same in units of what the generator varies.
        along: <A(G(v)), M r>, with M r held.
    """

    x: Tensor
    ws: Tensor
    variables: list[Tensor]
    residuals: list[Tensor]
    standardized: list[Tensor]
    along: Tensor

    def gradients(self) -> tuple[Tensor, ...]:
        """J^T M r, for each of the variables."""
        return torch.autograd.grad(self.along, self.variables)


class Mixing(SlotSearch):
    """Searches in progress; see `SlotSearch`.

    Args:
        G: the generator.
        prior: its Gaussianised styles.
        settings: see `SearchSettings`.
        slots: how many searches there can be at a time.
        bank: samples of the generator.
    """

    def __init__(
        self, G: Generator, prior: LatentPrior, settings: SearchSettings, slots: int, bank: Bank
    ) -> None:
        self._histories: dict[tuple[int, int], AndersonMixing] = {}
        self._known: dict[tuple[int, int], Whitening] = {}
        super().__init__(G, prior, settings, slots)
        self.bank = bank
        self.dtype = feature_dtype(settings.precision, G.device)
        self.radii = [norms(x) for x in self.variables]
        self.length = settings.step_size * (LENGTH_TILED if settings.tile_latent else LENGTH)
        self.lengths = [self.length] * slots
        self.idle = [0] * slots  # steps since the lowest error

    def draw_start(self, target: Tensor, rng: torch.Generator) -> Start:
        """A sample of the bank, moved towards the target, one style for all layers."""
        known = self.known((target.shape[1], target.shape[2]))
        v = conditioned(known, target, rng)  # (D,)
        layers = self.variables[0].shape[1]
        return Start(
            v.expand(1, layers, -1).clone(), random_noise(rng, self.G.noise_sizes, self.settings)
        )

    @property
    def is_mixed(self) -> bool:
        """Whether steps are of mixed precision."""
        return self.dtype != torch.float32

    def known(self, size: tuple[int, int]) -> Whitening:
        """What the bank tells of low-resolution pictures of a size."""
        if size not in self._known:
            self._known[size] = whitening_of(
                self.bank, self.prior, size, self.G.device, is_tiled=self.settings.tile_latent
            )
        return self._known[size]

    def _restart(self, slot: int, variables: list[Tensor]) -> None:
        for value, x, radius in zip(variables, self.variables, self.radii, strict=True):
            x[slot] = value[0]
            radius[slot] = norms(value)[0]
        self.lengths[slot], self.idle[slot] = self.length, 0
        self._forget(slot)

    def _forget(self, slot: int) -> None:
        for history in self._histories.values():
            history.forget(torch.tensor([slot], device=self.G.device))

    def _group(self) -> None:
        super()._group()
        in_use = {group.A.out_size for group in self.groups}
        self._histories = {size: h for size, h in self._histories.items() if size in in_use}

    def _history(self, size: tuple[int, int]) -> AndersonMixing:
        """The mixing of all slots for residuals of one size; others are idle in it."""
        if size not in self._histories:
            x_size = sum(x[0].numel() for x in self.variables)
            r_size = 3 * size[0] * size[1]
            self._histories[size] = AndersonMixing(self.slots, x_size, r_size, self.G.device)
        return self._histories[size]

    def step(self) -> Tensor:
        """Draw the pictures, keep the best, and move on.

        Returns:
            (slots,) mean squared residuals; 0 for slots that are not in use.
        """
        drawn = self._drawn()
        losses = drawn.x.new_zeros(self.slots)
        for group, r in zip(self.groups, drawn.residuals, strict=True):
            losses[group.slots] = r.square().mean((1, 2, 3))
        variables = [variable.detach() for variable in drawn.variables]
        errors = self._keep_best(drawn.x.detach(), drawn.ws.detach(), variables)

        is_over = self.finished() == self.active
        if is_over:  # then there is nowhere to go, unless single precision finds the pictures worse
            del drawn
            self._redraw_finished()
            if self.finished() == self.active:
                return losses
            drawn = self._drawn()
        standardized, gradients = drawn.standardized, drawn.gradients()
        del drawn
        if not is_over:
            self._redraw_finished()
        self._move(gradients, standardized)
        self._go_back(errors)
        return losses

    def _drawn(self) -> Drawn:
        """The pictures of all slots, and what they lack."""
        variables = [x.detach().requires_grad_() for x in self.variables]
        v, *moving = variables
        ws = self.prior.to_w(v)  # (B, L, D), or (B, 1, D) where all layers share one
        with torch.autocast(self.G.device.type, self.dtype, enabled=self.is_mixed):
            x = self.G.render(ws.expand(-1, self.G.num_ws, -1), [*moving, *self.fixed_noise])
        residuals, standardized, along = [], [], x.new_zeros(())
        for group in self.groups:
            low_res = self._low_res(group, x)
            residuals.append(group.target - low_res.detach())
            whitened, root = self.known(group.A.out_size).weigh(residuals[-1])
            standardized.append(root)
            along = along + (low_res * whitened).sum()
        return Drawn(x, ws, variables, residuals, standardized, along)

    def _redraw_finished(self) -> None:
        """Draw what searches have found in single precision, where they end."""
        if self.is_mixed:
            self._redraw_best(self.finished())

    @torch.no_grad()
    def _move(self, gradients: tuple[Tensor, ...], residuals: list[Tensor]) -> None:
        """Mix the moves of every slot, and go back to the spheres."""
        at = torch.cat([x.flatten(1) for x in self.variables], 1)
        move = torch.cat([g.flatten(1) for g in gradients], 1)
        move = move * at.new_tensor(self.lengths)[:, None]
        for group, r in zip(self.groups, residuals, strict=True):
            rows = at.new_zeros(self.slots, r[0].numel())
            rows[group.slots] = r.flatten(1)
            mixed = self._history(group.A.out_size).step(at, move, rows)
            at[group.slots] = mixed[group.slots]
        sizes = [x[0].numel() for x in self.variables]
        for x, radius, moved in zip(
            self.variables, self.radii, torch.split(at, sizes, 1), strict=True
        ):
            x.copy_(moved.view_as(x))
            x.div_(norms(x)).mul_(radius)

    @torch.no_grad()
    def _go_back(self, errors: Tensor) -> None:
        """Put lost searches where they were best, remembering nothing, with shorter moves."""
        pairs = list(zip(errors.tolist(), self.best.errors.tolist(), strict=True))
        best = [self.best.v[:, : self.variables[0].shape[1]], *self.best.noise_maps]
        for slot in self.active:
            error, lowest = pairs[slot]
            self.idle[slot] = self.idle[slot] + 1 if error > lowest else 0
            if error > LOST * lowest or self.idle[slot] >= PATIENCE:
                for x, kept in zip(self.variables, best, strict=False):
                    x[slot] = kept[slot]
                self.lengths[slot] /= 4
                self.idle[slot] = 0
                self._forget(slot)
