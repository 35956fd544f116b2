"""Adam on spheres: a step, then back to the radius each vector began with.

Menon et al. 2020, section 3.3; Adam from Kingma & Ba 2015, algorithm 1. The state is kept for
each picture, so that pictures may leave a batch, and one alone goes the way it goes in company.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BETA_1, BETA_2, EPS = 0.9, 0.999, 1e-8


def norms(x: Tensor) -> Tensor:
    """The length of each vector: over all dimensions of x (B, N, ...) but the first two."""
    # 1e-9: the published code's guard, part of its arithmetic
    return (x.square().sum(tuple(range(2, x.ndim)), keepdim=True) + 1e-9).sqrt()


class SphericalAdam:
    """Adam with a retraction to the sphere after each step.

    Args:
        variables: tensors (B, N, ...), B pictures with N vectors each; changed in place. Their
            lengths at this moment are the radii.
    """

    def __init__(self, variables: list[Tensor]) -> None:
        self.variables = [x.detach() for x in variables]
        self.radii = [norms(x) for x in self.variables]
        self.first_moments = [torch.zeros_like(x) for x in self.variables]
        self.second_moments = [torch.zeros_like(x) for x in self.variables]
        self.steps = 0

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], step_size: float) -> None:
        """Move each variable against its gradient and retract it to its sphere."""
        self.steps += 1
        correction_1 = 1 - BETA_1**self.steps
        correction_2 = 1 - BETA_2**self.steps
        moments = zip(self.first_moments, self.second_moments, strict=True)
        for x, g, radius, (m, v) in zip(
            self.variables, gradients, self.radii, moments, strict=True
        ):
            m.lerp_(g, 1 - BETA_1)
            v.mul_(BETA_2).addcmul_(g, g, value=1 - BETA_2)
            x.addcdiv_(
                m, v.sqrt().div_(correction_2**0.5).add_(EPS), value=-step_size / correction_1
            )
            x.div_(norms(x)).mul_(radius)

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the pictures only: rows (B,) bool."""
        self.variables = [x[rows] for x in self.variables]
        self.radii = [radius[rows] for radius in self.radii]
        self.first_moments = [m[rows] for m in self.first_moments]
        self.second_moments = [v[rows] for v in self.second_moments]


def linear_one_cycle_drop(step: int, steps: int) -> float:
    """The published schedule: up to 1 and down to 0.1 over 90 % of the steps, then to 0.001.

    Args:
        step: how many steps have been taken.
        steps: how many there will be.

    Returns:
        The factor on the step size.
    """
    cycle = 0.9 * steps
    if step < cycle:
        return (9 * (1 - abs(step / cycle - 0.5) * 2) + 1) / 10
    return 0.1 + (step - cycle) / (0.1 * steps) * (0.001 - 0.1)
