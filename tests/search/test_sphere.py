from __future__ import annotations

import pytest
import torch

from pulse.search.sphere import SphericalAdam, linear_one_cycle_drop, norms


def variables(batch=3):
    rng = torch.Generator().manual_seed(0)
    shapes = [(batch, 4, 16), (batch, 1, 8, 8)]
    return [torch.randn(shape, generator=rng) for shape in shapes]


def gradients(step, batch=3):
    rng = torch.Generator().manual_seed(100 + step)
    return [torch.randn(x.shape, generator=rng) for x in variables(batch)]


def test_every_vector_keeps_its_length():
    optimizer = SphericalAdam(variables())
    before = [norms(x) for x in variables()]
    for step in range(20):
        optimizer.step(gradients(step), step_size=0.4)
    for x, radius in zip(optimizer.variables, before, strict=True):
        assert torch.allclose(norms(x), radius, rtol=1e-5)


def test_a_step_is_that_of_torch_adam_and_a_retraction():
    """torch.optim.Adam is the reference for the moments; the retraction is one division."""
    x = [tensor.clone().requires_grad_() for tensor in variables()]
    reference = torch.optim.Adam(x, lr=0.4)
    optimizer = SphericalAdam(variables())
    radii = [norms(tensor) for tensor in variables()]
    for step in range(5):
        for tensor, gradient in zip(x, gradients(step), strict=True):
            tensor.grad = gradient
        reference.step()
        with torch.no_grad():
            for tensor, radius in zip(x, radii, strict=True):
                tensor.mul_(radius / norms(tensor))
        optimizer.step(gradients(step), step_size=0.4)
    for got, want in zip(optimizer.variables, x, strict=True):
        assert torch.allclose(got, want, atol=1e-5)


def test_a_picture_goes_its_way_whoever_leaves_the_batch():
    together = SphericalAdam(variables())
    leaving = SphericalAdam(variables())
    rows = torch.tensor([True, False, True])
    for step in range(4):
        together.step(gradients(step), 0.4)
        if step < 2:
            leaving.step(gradients(step), 0.4)
        else:
            if step == 2:
                leaving.keep(rows)
            leaving.step([g[rows] for g in gradients(step)], 0.4)
    for got, want in zip(leaving.variables, together.variables, strict=True):
        assert torch.equal(got, want[rows])


def test_schedule_rises_falls_and_drops():
    """Known points for 100 steps: 0.1 at the start, 1 at 45, 0.1 at 90, 0.001 at 100."""
    values = [linear_one_cycle_drop(step, 100) for step in (0, 45, 90, 100)]
    assert values == pytest.approx([0.1, 1, 0.1, 0.001])
    assert linear_one_cycle_drop(95, 100) == pytest.approx((0.1 + 0.001) / 2)
