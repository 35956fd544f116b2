"""Luck of the draw: faces that are unusual by themselves are told from a sampler that is wrong."""

from __future__ import annotations

import pytest
import torch

from pulse.audit.luck import Guess, fit_guess
from pulse.audit.quantities import QUANTITIES, quantities_of
from pulse.downscale import Downscale
from pulse.search.together import Together

P, SIGMA = 5, 0.5


def rng_of(seed):
    return torch.Generator().manual_seed(seed)


def samples(count, seed):
    """Pictures x = B s, and two quantities of s, with s ~ N(0, I) of three values."""
    B = torch.randn(3, P, generator=rng_of(0))
    s = torch.randn(count, 3, generator=rng_of(seed))
    return B, s @ B, s[:, :2] + 1


def test_the_guess_is_that_of_a_linear_model():
    B, x, q = samples(200_000, 1)
    guess = Guess.fit(x, q, SIGMA)
    want = torch.linalg.solve(B.T @ B + SIGMA**2 * torch.eye(P), B.T[:, :2])
    assert torch.allclose(guess.gain.float(), want, atol=0.01)  # 0.002 by the number of samples
    assert torch.allclose(guess.mean_value.float(), torch.ones(2), atol=0.01)


def test_luck_shows_in_faces_and_in_noise_alike():
    _, x, q = samples(20_000, 1)
    guess = Guess.fit(x, q, SIGMA)
    _, x, q = samples(2000, 2)
    noise = SIGMA * torch.randn(x.shape, generator=rng_of(3))

    def off(x, q, noise):
        return guess.off_by(x + noise, q)[0]

    assert abs(off(x, q, noise)) < 4
    darkest = q[:, 0].argsort()[:1000]  # of typical faces the darker half
    assert off(x[darkest], q[darkest], noise[darkest]) < -6
    assert abs(off(x, q, noise + 0.3)) > 6


def test_standard_errors_are_of_the_faces_and_of_the_guess():
    guess = Guess(torch.zeros(P), torch.zeros(1), torch.zeros(P, 1).double(), samples=6)
    off = guess.off_by(torch.zeros(3, P), torch.tensor([[1.0], [2.0], [3.0]]))
    assert off.item() == pytest.approx(2 / (1 / 3 + 1 / 6) ** 0.5)


def test_a_generator_s_faces_are_guessed(small_generator, monkeypatch):
    monkeypatch.setattr("pulse.audit.luck.SAMPLES", 300)
    G = small_generator.network
    together, A = Together(G, 16), Downscale((32, 32), (8, 8))
    guess = fit_guess(together, A, 0.02, rng_of(0))
    z = torch.randn(100, G.z_dim, generator=rng_of(1))
    noise = torch.randn(100, sum(size**2 for size in G.noise_sizes), generator=rng_of(2))
    images = together.draw(z, noise)
    values = torch.stack(list(quantities_of(images).values()), 1)
    low_res = A(images).flatten(1)
    y = low_res + 0.02 * torch.randn(low_res.shape, generator=rng_of(3))
    missed = values - guess.mean_value - (y.double() - guess.mean_picture) @ guess.gain
    lightness = torch.tensor([name.endswith("lightness") for name in QUANTITIES])
    # little is left of it: the window is seen
    assert (missed.var(0) < 0.3 * values.var(0))[lightness].all()
    assert (guess.off_by(y, values).abs() < 4).all()
