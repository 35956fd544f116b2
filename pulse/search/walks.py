"""Hamiltonian walks of particles on a surrogate; see `posterior`.

They leave exp(l_k(z)) N(z; 0, I) as it is (Beskos et al. 2011), around the reference N(0, C),
C = (I + H)^-1, with H the mean Gauss-Newton matrix of -l_k: rotations of z and its velocity, and
kicks by C (g - z) + z, g the gradient of l_k, which are constant where the surrogate is linear.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from pulse.search.particles import Particles, Preconditioner, Target, adapted, squared
from pulse.search.rng import Stream

WALKS, TURN = 2, 1.6  # of each particle between two targets, and radians that one turns, about
MOST_STEPS = 24  # turns of a walk
ACCEPTANCE, MOST_ANGLE = 0.7, math.pi / 3  # that walks aim at, and the largest turn
PROBES = 512  # random directions that H is estimated from


class Walks:
    """Walks of one face's particles.

    Args:
        surrogate: z (N, z_dim) to low-resolution pictures (N, P), differentiable.
        stream: of the face.

    Attributes:
        angle: of a turn, adapted to how many walks are accepted.
    """

    def __init__(self, surrogate: Callable[[Tensor], Tensor], stream: Stream) -> None:
        self.surrogate, self.stream = surrogate, stream
        self.angle = 0.5

    def mixed(self, x: Particles, target: Target) -> Particles:
        """Walks enough to forget, within a mode, where the last temperature left the particles."""
        C = self.preconditioner(x, target)
        for _ in range(WALKS):
            x, accepted = self.walked(x, target, C, TURN, self.angle)
            self.angle = adapted(self.angle, accepted, ACCEPTANCE, MOST_ANGLE)
        return x

    def walked(
        self, x: Particles, target: Target, C: Preconditioner, length: float, angle: float
    ) -> tuple[Particles, Tensor]:
        """A Hamiltonian move that leaves a target of the surrogate as it is.

        Args:
            x: the particles.
            target: of the surrogate alone.
            C: the covariance of the reference.
            length: that the turns add up to, about.
            angle: of a turn.

        Returns:
            The particles, and which of them moved (N,).
        """
        steps = max(1, min(MOST_STEPS, round(length * self._jitter() / angle)))
        start = C.power(self.stream.normal(*x.z.shape, device=x.z.device), 0.5)
        kick = math.tan(angle / 2)
        other, v = x, start
        for i in range(steps + 1):
            other, g = self._pulled(other, target.slope)  # of l_k by z
            # two half kicks between turns, one before the first and after the last
            v = v + kick * (1 + (0 < i < steps)) * (C.times(g - other.z) + other.z)
            if i < steps:
                z = math.cos(angle) * other.z + math.sin(angle) * v
                v = math.cos(angle) * v - math.sin(angle) * other.z
                other = replace(other, z=z)
        log_ratio = target.log(other) - target.log(x) + 0.5 * (
            squared(x.z) - squared(other.z)
            + squared(C.power(start, -0.5)) - squared(C.power(v, -0.5))
        )  # fmt: skip
        accepted = self.stream.uniform(len(x), x.z.device).log() < log_ratio
        return x.replaced(accepted, other), accepted

    def preconditioner(self, x: Particles, target: Target) -> Preconditioner:
        """C from H = E[J^T W J], with W the precision of the residuals and J the Jacobian of s."""
        root = target.precision(x).sqrt()
        probes = torch.cat(
            [
                self._pulled(
                    x, lambda x: root * self.stream.normal(*x.seen.shape, device=x.seen.device)
                )[1]
                for _ in range(-(-PROBES // len(x)))
            ]
        )
        return Preconditioner.of(probes.T @ probes / len(probes))

    def _pulled(
        self, x: Particles, by_picture: Callable[[Particles], Tensor]
    ) -> tuple[Particles, Tensor]:
        """The particles with the surrogate's pictures, and J^T times something (N, P)."""
        with torch.enable_grad():
            z = x.z.detach().requires_grad_()
            seen = self.surrogate(z)
            x = replace(x, seen=seen.detach())
            (gradient,) = torch.autograd.grad((seen * by_picture(x)).sum(), z)
        return x, gradient

    def _jitter(self) -> float:
        """A factor on the length of a walk: one length may come back to where it began."""
        return 0.5 + torch.rand((), generator=self.stream.first).item()
