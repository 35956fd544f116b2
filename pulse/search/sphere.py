"""Adam on spheres: a step, then back to the radius each vector began with.

Menon et al. 2020, section 3.3; Adam from Kingma & Ba 2015, algorithm 1. Moments, radii and the
count of steps belong to each picture, so that pictures may come and go, and one alone goes the way
it goes in company.
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

    Attributes:
        steps: (B,) whole numbers, the steps that each picture has taken.
    """

    def __init__(self, variables: list[Tensor]) -> None:
        self.variables = [x.detach() for x in variables]
        self.radii = [norms(x) for x in self.variables]
        self.first_moments = [torch.zeros_like(x) for x in self.variables]
        self.second_moments = [torch.zeros_like(x) for x in self.variables]
        self.steps = [0] * len(self.variables[0])

    @torch.no_grad()
    def restart(self, row: int, values: Sequence[Tensor]) -> None:
        """Put another picture in a row: its variables (1, N, ...), no steps taken."""
        self.steps[row] = 0
        state = zip(
            self.variables, self.radii, self.first_moments, self.second_moments, strict=True
        )
        for value, (x, radius, m, v) in zip(values, state, strict=True):
            x[row] = value[0]
            radius[row] = norms(x[row : row + 1])[0]
            m[row] = 0
            v[row] = 0

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], step_sizes: Sequence[float]) -> None:
        """Move each variable against its gradient and retract it to its sphere.

        Args:
            gradients: one for each variable, of its shape.
            step_sizes: one for each picture.
        """
        self.steps = [steps + 1 for steps in self.steps]
        pairs = list(zip(step_sizes, self.steps, strict=True))
        scales = [-size / (1 - BETA_1**steps) for size, steps in pairs]
        corrections = [(1 - BETA_2**steps) ** 0.5 for _, steps in pairs]
        moments = zip(self.first_moments, self.second_moments, strict=True)
        for x, g, radius, (m, v) in zip(
            self.variables, gradients, self.radii, moments, strict=True
        ):
            m.lerp_(g, 1 - BETA_1)
            v.mul_(BETA_2).addcmul_(g, g, value=1 - BETA_2)
            denominator = v.sqrt().div_(_rows(corrections, x)).add_(EPS)
            x.addcdiv_(m * _rows(scales, x), denominator)
            x.div_(norms(x)).mul_(radius)


def _rows(values: Sequence[float], x: Tensor) -> Tensor:
    """One number for each picture, shaped to be broadcast over x (B, N, ...)."""
    return x.new_tensor(values).view(-1, *(1,) * (x.ndim - 1))


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
