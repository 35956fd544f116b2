"""What the posterior sampler is given, asks for and gives back; see `posterior`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from pulse.shapes import check_shape


@dataclass(frozen=True)
class Draw:
    """What the sampler asks for: the low-resolution pictures of N latents.

    Attributes:
        z: (N, z_dim).
        noise: (N, Q) all noise maps, flattened.
    """

    z: Tensor
    noise: Tensor


@dataclass(frozen=True)
class Model:
    """What the sampler knows of a generator at one size of low-resolution pictures; P = 3 h w.

    Attributes:
        surrogate: z (N, z_dim) to about what is drawn along the axes, (N, P), differentiable.
        axes: (P, P) orthonormal directions along which its errors are not correlated.
        variances: (P,) of its errors along them.
        z_dim: size of z.
        noise_values: Q, values in all noise maps.
    """

    surrogate: Callable[[Tensor], Tensor]
    axes: Tensor
    variances: Tensor
    z_dim: int
    noise_values: int

    def __post_init__(self) -> None:
        check_shape("axes", self.axes, len(self.variances), len(self.variances))


@dataclass(frozen=True)
class SamplerSettings:
    """How thorough the sampler is.

    Attributes:
        explorers: particles on the surrogate.
        particles: those of them that go over to the generator; the samples are of these.
        moves: that each sample takes there, once there.
    """

    explorers: int = 256
    particles: int = 32
    moves: int = 40

    def __post_init__(self) -> None:
        if not self.explorers >= self.particles >= 2 or self.moves < 1:
            raise ValueError(f"got {self}, expected explorers >= particles >= 2, and moves >= 1")


@dataclass
class Diagnostics:
    """How a sampler fared.

    Attributes:
        sigma: standard deviation of the misfit, pixels in [0, 1]: given or estimated.
        steps: temperature steps, on the surrogate and on the way to the generator.
        ess: the least effective sample size after one, as a share of the particles.
        ancestors: draws of the prior that the samples descend from.
        acceptance: mean share of the particles that a move of the generator took elsewhere.
        unmoved: samples that the generator never moved.
        log_evidence: log p(y | sigma), from the weights of all steps.
        drawn: pictures that the generator drew.
    """

    sigma: float
    steps: int = 0
    ess: float = 1.0
    ancestors: int = 0
    acceptance: float = 0.0
    unmoved: int = 0
    log_evidence: float = 0.0
    drawn: int = 0


@dataclass(frozen=True)
class Posterior:
    """Samples of one face, of equal weight and in random order.

    Attributes:
        z: (N, z_dim).
        noise: (N, Q) all noise maps, flattened.
        drawn: (N, P) their low-resolution pictures by the generator.
        log_likelihood: (N,) of these.
        diagnostics: how the sampler fared.
    """

    z: Tensor
    noise: Tensor
    drawn: Tensor
    log_likelihood: Tensor
    diagnostics: Diagnostics
