from __future__ import annotations

import torch

from pulse.search.anderson import AndersonMixing

CPU = torch.device("cpu")


def systems(rows=3, size=5):
    """Linear systems matrix x = b, ill-conditioned: eigenvalues from 0.02 to 1."""
    rng = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(rows, size, size, generator=rng)).Q
    matrix = axes * torch.logspace(-1.7, 0, size) @ axes.transpose(1, 2)
    return matrix, torch.randn(rows, size, generator=rng)


def residual(matrix, b, x):
    return b - (matrix @ x[:, :, None])[:, :, 0]


def solve(matrix, b, steps, mixing=None):
    x = torch.zeros_like(b)
    for _ in range(steps):
        r = residual(matrix, b, x)
        x = x + r if mixing is None else mixing.step(x, r, r)
    return residual(matrix, b, x).norm(dim=1) / b.norm(dim=1)


def test_a_linear_system_is_solved_in_as_many_steps_as_it_has_dimensions():
    """Walker & Ni 2011, theorem 2.2: the iterates are those of GMRES, up to the ridge."""
    matrix, b = systems()
    mixed = solve(matrix, b, 10, AndersonMixing(3, 5, 5, CPU))
    plain = solve(matrix, b, 10)
    assert (plain > 0.1).all()
    assert (mixed < 0.02).all()  # the ridge of 1e-3 keeps it from 0


def test_the_first_step_is_the_plain_one():
    x, move, r = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(AndersonMixing(2, 4, 4, CPU).step(x, move, r), x + move)


def test_rows_begin_anew_when_told_and_do_not_see_each_other():
    matrix, b = systems()
    mixing, alone = AndersonMixing(3, 5, 5, CPU), AndersonMixing(3, 5, 5, CPU)
    solve(matrix, b, 4, mixing)
    mixing.forget(torch.tensor([1]))
    x, other = torch.zeros_like(b), torch.zeros_like(b)
    for _ in range(4):
        r = residual(matrix, b, x)
        x = mixing.step(x, r, r)
        r = residual(matrix, b, other)
        other = alone.step(other, r, r)
    assert torch.equal(x[1], other[1])
    assert not torch.allclose(x[0], other[0])


def test_only_the_last_steps_are_remembered():
    """With a depth of 1 the history is the last change alone: the secant method."""
    matrix, b = systems(rows=1)
    x = [torch.zeros_like(b)]
    mixing = AndersonMixing(1, 5, 5, CPU, depth=1)
    for _ in range(4):
        r = residual(matrix, b, x[-1])
        x.append(mixing.step(x[-1], r, r))
    r, before = residual(matrix, b, x[3]), residual(matrix, b, x[2])
    dr, dx = r - before, x[3] - x[2]
    mix = (dr * r).sum() / ((dr * dr).sum() * (1 + 1e-3))
    assert torch.allclose(x[4], x[3] + r - mix * (dx + dr), atol=1e-5)
