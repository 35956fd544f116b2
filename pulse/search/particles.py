"""Particles of the posterior sampler, and the likelihoods that weigh them; see `posterior`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pulse.search.threads import one_thread


@dataclass(frozen=True)
class Particles:
    """N particles, with what is known of each.

    Attributes:
        z: (N, z_dim).
        noise: (N, Q) all noise maps, flattened; Q is 0 as long as the generator draws nothing.
        seen: (N, P) low-resolution pictures by the surrogate.
        drawn: (N, P) those of the generator; those of the surrogate as long as it draws nothing.
        ancestors: (N,) numbers of the particles that they descend from.
    """

    z: Tensor
    noise: Tensor
    seen: Tensor
    drawn: Tensor
    ancestors: Tensor

    def __len__(self) -> int:
        return len(self.z)

    def rows(self, index: Tensor) -> Particles:
        """Some of them, perhaps several times."""
        return Particles(
            self.z[index], self.noise[index], self.seen[index], self.drawn[index],
            self.ancestors[index],
        )  # fmt: skip

    def replaced(self, accepted: Tensor, other: Particles) -> Particles:
        """These, but where accepted (N,) holds those of `other`; descent is kept."""
        rows = accepted[:, None]
        return Particles(
            torch.where(rows, other.z, self.z),
            torch.where(rows, other.noise, self.noise),
            torch.where(rows, other.seen, self.seen),
            torch.where(rows, other.drawn, self.drawn),
            self.ancestors,
        )


@dataclass(frozen=True)
class Likelihood:
    """N(y - picture; 0, diag(variances)).

    Attributes:
        y: (P,) what was observed; less the surrogate's mean error where that is known.
        variances: (P,).
        is_drawn: whether the picture is the generator's, and not the surrogate's.
    """

    y: Tensor
    variances: Tensor
    is_drawn: bool

    def residual(self, x: Particles) -> Tensor:
        """Of N particles: (N, P)."""
        return self.y - (x.drawn if self.is_drawn else x.seen)

    def log(self, x: Particles) -> Tensor:
        """Log density of N particles: (N,) float64."""
        squares = (self.residual(x).square() / self.variances).double().sum(1)
        return -0.5 * (squares + (2 * math.pi * self.variances).double().log().sum())


@dataclass(frozen=True)
class Target:
    """l_k: a sum of log likelihoods, each with its weight; none leaves the prior."""

    terms: tuple[tuple[float, Likelihood], ...] = ()

    @property
    def is_drawn(self) -> bool:
        """Whether it needs the generator."""
        return any(term.is_drawn for _, term in self.terms)

    def log(self, x: Particles) -> Tensor:
        """l_k of N particles: (N,) float64."""
        total = x.z.new_zeros(len(x), dtype=torch.float64)
        for weight, term in self.terms:
            total = total + weight * term.log(x)
        return total

    def slope(self, x: Particles) -> Tensor:
        """The gradient of l_k by the picture: (N, P)."""
        total = torch.zeros_like(x.seen)
        for weight, term in self.terms:
            total = total + weight * term.residual(x) / term.variances
        return total

    def precision(self, x: Particles) -> Tensor:
        """The second derivative of -l_k by each value of the picture: (P,)."""
        total = torch.zeros_like(x.seen[0])
        for weight, term in self.terms:
            total = total + weight / term.variances
        return total

    def towards(self, other: Target, t: float) -> Target:
        """(1 - t) l_k + t l for t in [0, 1]."""
        ours = tuple((weight * (1 - t), term) for weight, term in self.terms if t < 1)
        return Target((*ours, *((weight * t, term) for weight, term in other.terms if t > 0)))


@dataclass(frozen=True)
class Preconditioner:
    """C = (I + H)^-1, H = axes diag(curvatures) axes^T.

    Attributes:
        axes: (z_dim, z_dim) orthonormal.
        curvatures: (z_dim,) not below 0.
        matrix: (z_dim, z_dim) C itself.
    """

    axes: Tensor
    curvatures: Tensor
    matrix: Tensor

    @classmethod
    def of(cls, H: Tensor) -> Preconditioner:
        """From H (z_dim, z_dim), symmetric."""
        with one_thread():
            curvatures, axes = torch.linalg.eigh(H)
        curvatures = curvatures.clamp(min=0)
        return cls(axes, curvatures, (axes / (1 + curvatures)) @ axes.T)

    def times(self, x: Tensor) -> Tensor:
        """C x for each row of x (N, z_dim)."""
        return x @ self.matrix

    def power(self, x: Tensor, p: float) -> Tensor:
        """C^p x for each row of x (N, z_dim)."""
        return (x @ self.axes) * (1 + self.curvatures) ** -p @ self.axes.T


def squared(x: Tensor) -> Tensor:
    """Squared lengths of the rows of x (N, D): (N,) float64."""
    return x.double().square().sum(1)


def adapted(size: float, accepted: Tensor, share: float, most: float) -> float:
    """A size of moves, larger where more than a share of them was accepted, else smaller."""
    return min(size * math.exp(accepted.double().mean().item() - share), most)


def ess_share(log_weights: Tensor) -> float:
    """Effective sample size of weights (N,), as a share of N (Kong, Liu & Wong 1994)."""
    w = log_weights.softmax(0)
    return float(1 / (len(w) * w.square().sum()))


def systematic(weights: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """Resample: each particle on average count w times, by one random number (Kitagawa 1996).

    Args:
        weights: (N,) float64, of sum 1.
        count: of particles then.
        rng: on the CPU.

    Returns:
        (count,) indices in order.
    """
    u = torch.rand(1, generator=rng, dtype=torch.float64)
    places = ((torch.arange(count) + u) / count).to(weights.device)
    return torch.searchsorted(weights.cumsum(0), places).clamp(max=len(weights) - 1)
