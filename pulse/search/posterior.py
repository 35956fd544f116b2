"""Samples of all faces that fit: tempered sequential Monte Carlo over x = (z, noise maps).

    y = A(G(x)) + N(0, sigma^2 I),   x ~ N(0, I):   p(x | y) ~ exp(l(x)) N(x; 0, I)

Particles go from the prior to p(x | y) through targets exp(l_k(x)) N(x; 0, I) (Del Moral, Doucet &
Jasra 2006):

1. A surrogate s(z) of A(G(x)) takes many of them from a large sigma down to the one asked for, with
   its own error added: y - s(z) ~ N(0, sigma^2 I + R). Where sigma is not known, the way ends where
   the evidence p(y | sigma) is highest.
2. The generator draws a few, and the surrogate's mean error there is taken out of it: the guide.
3. The generator draws many of them, of which a few go over to it, l_k = (1 - t) l_guide + t l. As
   many of these as are asked for move on. Where sigma is not known, it becomes the root mean square
   of the residuals (expectation maximisation).

Between neighbours particles are weighted by exp(l_k+1 - l_k), as far as a share of them stays
effective, and resampled (systematically, Kitagawa 1996). Then they are moved:

- on the surrogate by Hamiltonian walks (`walks`), long enough to forget, within a mode, where the
  last temperature left them;
- on the generator by delayed acceptance (Christen & Fox 2005): a walk on the guide proposes x', and
  (l_k - l_guide)(x') - (l_k - l_guide)(x) decides. A move costs one drawing and no gradient of the
  generator, and is right whatever the surrogate. Noise maps move by preconditioned Crank-Nicolson
  steps (Cotter et al. 2013).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import replace

import torch
from torch import Tensor

from pulse.search.particles import (
    Likelihood,
    Particles,
    Preconditioner,
    Target,
    adapted,
    ess_share,
    systematic,
)
from pulse.search.rng import Stream
from pulse.search.sampling import Diagnostics, Draw, Model, Posterior, SamplerSettings
from pulse.search.walks import Walks
from pulse.shapes import check_shape

SIGMA_START = 10.0  # pixels in [0, 1]: so large that the first step keeps every particle
ESS_SHARE = 0.3  # of the explorers that stays effective in a step
FEW_ESS_SHARE, MOVES_A_STEP = 0.5, 2  # of the particles, and moves between two steps
HANDED_OVER = 8  # explorers that the generator draws for each particle, to choose from
BISECTIONS = 12  # of the way to the next target: to 1/4096
DELAYED_ACCEPTANCE = 0.3  # that the generator's moves aim at
LONGEST_WALK = 1.2  # radians that one of the generator's walks turns at most
FINER = 0.5  # steps of the generator's walks: to draw a walk that the guide refuses is a waste
EIGHT = 8  # samples whose random numbers are a stream
NOISE_RHO = 0.95  # correlation of the noise maps before and after a move

Asking = Generator[Draw, Tensor, Particles]
Sampling = Generator[Draw, Tensor, Posterior]
"""A sampler in progress: it yields `Draw`, is sent pictures (N, P), and returns its samples."""


class Sampler:
    """The sampler of one face; `run` is the whole of it.

    Args:
        model: of the generator.
        y: (P,) the low-resolution picture.
        sigma: standard deviation of the misfit, pixels in [0, 1].
        rng: of the face, on the CPU.
        settings: see `SamplerSettings`.
        samples: that are asked for; None for as many as there are particles.
        is_estimated: whether sigma is only the least that it may be.
    """

    def __init__(
        self, model: Model, y: Tensor, sigma: float, rng: torch.Generator,
        settings: SamplerSettings, *, samples: int | None = None, is_estimated: bool = False,
    ) -> None:  # fmt: skip
        check_shape("y", y, len(model.variances))
        if not sigma > 0:
            raise ValueError(f"got sigma {sigma}, expected more than 0")
        self.model, self.settings = model, settings
        self.samples = settings.particles if samples is None else samples
        if not 1 <= self.samples <= settings.particles:
            raise ValueError(f"got samples {samples}, expected 1 to {settings.particles}")
        self.y = y @ model.axes  # all pictures are taken along the axes
        self.least_sigma, self.is_estimated = sigma, is_estimated
        self.stream = Stream((rng,))
        self.walks = Walks(model.surrogate, self.stream)
        self.walk = LONGEST_WALK / 2
        self.teachers: int | None = None  # particles, the first, by which walks and sigma are set
        self.accepted: list[float] = []
        self.told = Diagnostics(sigma)

    def run(self) -> Sampling:
        """The way from the prior to samples."""
        x, now = self._explore()
        few = yield from self._drawn_some(x, self.settings.particles)
        x, guide = self._bridge(x, now, self._corrected(few))
        C = self.walks.preconditioner(x, guide)
        x = yield from self._drawn_some(x, HANDED_OVER * self.settings.particles)
        x = yield from self._handed_over(x, guide, C)
        x = self._asked_for(x)
        start = x.z
        for _ in range(self.settings.moves):
            if self.is_estimated:
                misfit = (self.y - x.drawn[: self.teachers]).square().mean().sqrt().item()
                self.told.sigma = max(self.least_sigma, misfit)
            x = yield from self._moved(x, self._exact(), guide, C)
        self.told.unmoved = int((x.z == start).all(1)[: self.samples].sum())
        return self._posterior(x.rows(torch.arange(self.samples, device=x.z.device)))

    def _asked_for(self, x: Particles) -> Particles:
        """Enough of the particles, in random order: copies of one are neighbours.

        From here on each eight has a stream of its own, and the first eight set the length of walks
        and sigma: samples are the same however many others are asked for.
        """
        order = torch.randperm(len(x), generator=self.stream.first)
        self.stream = self.walks.stream = self.stream.parted(EIGHT, -(-len(x) // EIGHT))
        self.teachers = EIGHT
        return x.rows(order[: EIGHT * -(-self.samples // EIGHT)].to(x.z.device))

    def _posterior(self, x: Particles) -> Posterior:
        """The particles as they are in the end."""
        self.told.acceptance = sum(self.accepted) / len(self.accepted)
        self.told.ancestors = len(torch.unique(x.ancestors))
        log_likelihood = self._exact().log(x)
        return Posterior(x.z, x.noise, x.drawn @ self.model.axes.T, log_likelihood, self.told)

    # 1. the surrogate, from the prior to sigma

    def _explore(self) -> tuple[Particles, Target]:
        """From draws of the prior to the surrogate's posterior."""
        count, goal = self.settings.explorers, self.told.sigma
        z = self.stream.normal(count, self.model.z_dim, device=self.y.device)
        seen = self._seen(z)
        x = Particles(z, z.new_zeros(count, 0), seen, seen, torch.arange(count, device=z.device))
        sigma = max(SIGMA_START, goal)
        x, _ = self._resampled(x, Target(), lambda _: self._annealed(sigma))
        now = self._annealed(sigma)
        while sigma > goal and not (self.is_estimated and self._is_best(x, sigma)):
            start = sigma
            x, t = self._resampled(x, now, lambda t: self._annealed(start ** (1 - t) * goal**t))  # noqa: B023
            sigma = start ** (1 - t) * goal**t if t < 1 else goal
            now = self._annealed(sigma)
            x = self.walks.mixed(x, now)
        self.told.sigma = sigma
        return x, now

    def _annealed(self, sigma: float) -> Target:
        """The surrogate's likelihood at some sigma."""
        return Target(((1.0, Likelihood(self.y, sigma**2 + self.model.variances, False)),))

    def _is_best(self, x: Particles, sigma: float) -> bool:
        """Whether a smaller sigma would lower the evidence: d log p(y | sigma) / d sigma^2 >= 0."""
        v = sigma**2 + self.model.variances
        squares = (self.y - x.seen).square().mean(0)
        return bool((squares / v.square() - 1 / v).sum() >= 0)

    # 2. and 3. the generator

    def _drawn_some(self, x: Particles, count: int) -> Asking:
        """Some of the particles, drawn by the generator with noise maps of their own."""
        rows = torch.randperm(len(x), generator=self.stream.first)[:count]
        x = x.rows(rows.to(x.z.device))
        noise = self.stream.normal(len(x), self.model.noise_values, device=x.z.device)
        return replace(x, noise=noise, drawn=(yield from self._drawn(x.z, noise)))

    def _corrected(self, few: Particles) -> Target:
        """The surrogate's likelihood, its error taken to be what it is at a few particles."""
        error = few.drawn - few.seen
        mean = error.mean(0)
        share = (error - mean).square().sum() / (len(few) - 1) / self.model.variances.sum()
        variances = self.told.sigma**2 + share.clamp(max=1) * self.model.variances
        return Target(((1.0, Likelihood(self.y - mean, variances, False)),))

    def _exact(self) -> Target:
        """The generator's likelihood."""
        variances = torch.full_like(self.y, self.told.sigma**2)
        return Target(((1.0, Likelihood(self.y, variances, True)),))

    def _handed_over(self, x: Particles, guide: Target, C: Preconditioner) -> Asking:
        """From the guide to the generator, and from many particles to few."""
        goal, count = self._exact(), self.settings.particles
        x, t = self._resampled(x, guide, lambda t: guide.towards(goal, t), count / len(x), count)
        while t < 1:
            now, here = guide.towards(goal, t), t
            for _ in range(MOVES_A_STEP):
                x = yield from self._moved(x, now, guide, C)
            x, step = self._resampled(x, now, lambda t: now.towards(goal, t), FEW_ESS_SHARE)  # noqa: B023
            t = 1.0 if step == 1 else here + step * (1 - here)
        return x

    def _bridge(self, x: Particles, start: Target, goal: Target) -> tuple[Particles, Target]:
        """From one target of the surrogate to another, by as many steps as it takes."""
        now, t = start, 0.0
        while t < 1:
            here = now
            x, t = self._resampled(x, here, lambda t: here.towards(goal, t))  # noqa: B023
            now = here.towards(goal, t)
            x = self.walks.mixed(x, now)
        return x, goal

    # weights

    def _resampled(
        self, x: Particles, now: Target, at: Callable[[float], Target],
        share: float = ESS_SHARE, count: int | None = None,
    ) -> tuple[Particles, float]:  # fmt: skip
        """Go along a path as far as enough particles stay effective, and resample.

        Args:
            x: the particles.
            now: their target.
            at: the path's targets, from 0 to 1.
            share: of the particles that stays effective.
            count: of the particles then; None for as many as before.

        Returns:
            The particles, of equal weight again, and how far they went, in (0, 1].
        """
        before = now.log(x)
        t, step = 1.0, 1.0
        if ess_share(at(1.0).log(x) - before) < share:
            t = 0.0
            for _ in range(BISECTIONS):
                step /= 2
                if ess_share(at(t + step).log(x) - before) >= share:
                    t += step
            t = t or step
        log_weights = at(t).log(x) - before
        count = count or len(x)
        self.told.ess = min(self.told.ess, ess_share(log_weights) * len(x) / count)
        self.told.log_evidence += (log_weights.logsumexp(0) - math.log(len(x))).item()
        self.told.steps += 1
        return x.rows(systematic(log_weights.softmax(0), count, self.stream.first)), t

    # moves

    def _moved(self, x: Particles, target: Target, guide: Target, C: Preconditioner) -> Asking:
        """A walk on the surrogate, accepted by the generator: it leaves `target` as it is."""
        other, walked = self.walks.walked(x, guide, C, self.walk, FINER * self.walks.angle)
        step = self.stream.normal(*x.noise.shape, device=x.noise.device)[walked]
        if not walked.any():
            self.accepted.append(0.0)
            return x
        noise = NOISE_RHO * x.noise[walked] + (1 - NOISE_RHO**2) ** 0.5 * step
        drawn = yield from self._drawn(other.z[walked], noise)
        other = replace(
            other,
            noise=x.noise.index_put((walked,), noise), drawn=x.drawn.index_put((walked,), drawn),
        )  # fmt: skip
        # the walk is reversible for the guide and the prior: what is left is how targets differ
        log_ratio = target.log(other) - guide.log(other) - target.log(x) + guide.log(x)
        accepted = self.stream.uniform(len(x), x.z.device).log() < log_ratio
        taught = accepted[: self.teachers][walked[: self.teachers]]
        if len(taught):
            self.walk = adapted(self.walk, taught, DELAYED_ACCEPTANCE, LONGEST_WALK)
        self.accepted.append((accepted & walked).double().mean().item())
        return x.replaced(accepted, other)

    @torch.no_grad()
    def _seen(self, z: Tensor) -> Tensor:
        """The surrogate's pictures: (N, P)."""
        return self.model.surrogate(z)

    def _drawn(self, z: Tensor, noise: Tensor) -> Generator[Draw, Tensor, Tensor]:
        """The generator's pictures: (N, P)."""
        self.told.drawn += len(z)
        return (yield Draw(z, noise)) @ self.model.axes
