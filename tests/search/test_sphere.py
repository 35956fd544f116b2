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
        optimizer.step(gradients(step), [0.4] * 3)
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
        optimizer.step(gradients(step), [0.4] * 3)
    for got, want in zip(optimizer.variables, x, strict=True):
        assert torch.allclose(got, want, atol=1e-5)


def test_a_picture_goes_its_way_whoever_comes_and_goes():
    """Another picture takes row 1 after two steps; it goes as if it had begun there."""
    together, changing, late = (SphericalAdam(variables()) for _ in range(3))
    other = [2 * x.flip(0) for x in variables()]
    late.restart(1, [x[1:2] for x in other])
    for step in range(4):
        together.step(gradients(step), [0.4] * 3)
        if step == 2:
            changing.restart(1, [x[1:2] for x in other])
        changing.step(gradients(step), [0.4] * 3)
        if step >= 2:
            late.step(gradients(step), [0.1, 0.4, 0.1])
    assert changing.steps == [4, 2, 4]
    for got, want, begun in zip(
        changing.variables, together.variables, late.variables, strict=True
    ):
        assert torch.equal(got[[0, 2]], want[[0, 2]])
        assert torch.equal(got[1], begun[1])


def test_each_picture_has_its_own_step_size():
    still = SphericalAdam(variables())
    still.step(gradients(0), [0.0, 0.4, 0.0])
    for got, before in zip(still.variables, variables(), strict=True):
        assert torch.allclose(got[[0, 2]], before[[0, 2]], rtol=1e-6)
        assert not torch.allclose(got[1], before[1], rtol=1e-2)


def test_schedule_rises_falls_and_drops():
    """Known points for 100 steps: 0.1 at the start, 1 at 45, 0.1 at 90, 0.001 at 100."""
    values = [linear_one_cycle_drop(step, 100) for step in (0, 45, 90, 100)]
    assert values == pytest.approx([0.1, 1, 0.1, 0.001])
    assert linear_one_cycle_drop(95, 100) == pytest.approx((0.1 + 0.001) / 2)
