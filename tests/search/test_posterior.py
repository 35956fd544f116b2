"""The posterior sampler against answers that are known."""

from __future__ import annotations

import math

import pytest
import torch

from pulse.downscale import Downscale
from pulse.search.particles import (
    Likelihood,
    Particles,
    Preconditioner,
    Target,
    ess_share,
    systematic,
)
from pulse.search.posterior import Sampler
from pulse.search.sampling import Diagnostics, Model, SamplerSettings
from pulse.search.together import Together, noise_maps_of, sample_face

Z, P = 6, 10
SIGMA = 0.3
SETTINGS = SamplerSettings(explorers=512, particles=256, moves=20)


def rng_of(seed):
    return torch.Generator().manual_seed(seed)


def identity_model(surrogate, variance, noise_values=0, z_dim=Z, values=P):
    """A model whose surrogate errs by the same variance in every value."""
    return Model(surrogate, torch.eye(values), torch.full((values,), variance), z_dim, noise_values)


def run(sampler, draw):
    """Draw what a sampler asks for, to its end."""
    sampling = sampler.run()
    asked = next(sampling)
    try:
        while True:
            asked = sampling.send(draw(asked.z, asked.noise))
    except StopIteration as end:
        return end.value


def linear(seed=0, scale=1.0):
    return scale * torch.randn(P, Z, generator=rng_of(seed)) / Z**0.5


def drawn_by(J):
    return lambda z, _noise: z @ J.T


def exact(J, y, sigma=SIGMA):
    """Mean and covariance of N(z; 0, I) N(y; J z, sigma^2 I)."""
    covariance = torch.linalg.inv(torch.eye(Z) + J.T @ J / sigma**2)
    return covariance @ J.T @ y / sigma**2, covariance


def check_moments(z, J, y, runs):
    """Mean and covariance within 4 standard errors of `runs` samples: 1e-4 for each entry."""
    mean, covariance = exact(J, y)
    z = z @ torch.linalg.inv(torch.linalg.cholesky(covariance)).T  # mean known, covariance I
    mean = mean @ torch.linalg.inv(torch.linalg.cholesky(covariance)).T
    assert (z.mean(0) - mean).abs().max() < 4 / runs**0.5
    error = (z - mean).T @ (z - mean) / len(z) - torch.eye(Z)
    assert error.diagonal().abs().max() < 4 * (2 / runs) ** 0.5
    assert error.abs().max() < 4 * (2 / runs) ** 0.5


def linear_samples(surrogate, J, y, variance, seeds=4, settings=SETTINGS):
    model = identity_model(lambda z: z @ surrogate.T, variance)
    return torch.cat(
        [
            run(Sampler(model, y, SIGMA, rng_of(seed), settings), drawn_by(J)).z
            for seed in range(seeds)
        ]
    )


def test_a_linear_generator_has_the_posterior_of_the_books():
    J = linear()
    y = J @ torch.randn(Z, generator=rng_of(1)) + SIGMA * torch.randn(P, generator=rng_of(2))
    z = linear_samples(J, J, y, 1e-6)
    # resampled particles are moved, but not all independent: counted as a half
    check_moments(z, J, y, len(z) / 2)


def test_a_wrong_surrogate_is_corrected_by_the_generator():
    """Its Jacobian is a fifth too large and askew, and it says of itself that it errs."""
    J = linear()
    wrong = 1.2 * J + 0.1 * linear(7)
    y = J @ torch.randn(Z, generator=rng_of(1)) + SIGMA * torch.randn(P, generator=rng_of(2))
    z = linear_samples(wrong, J, y, 0.05, settings=SamplerSettings(512, 256, 80))
    check_moments(z, J, y, len(z) / 2)
    mean, covariance = exact(J, y)
    wrong_mean, _ = exact(wrong, y)
    # the surrogate alone is far off: the test would see it
    far = (wrong_mean - mean) @ torch.linalg.inv(covariance) @ (wrong_mean - mean)
    assert far > 30 * Z * 2 / len(z)


def bent(z):
    """A curved picture of one number: (N, 2)."""
    return torch.cat([z + 0.4 * z.square(), torch.sin(2 * z)], 1)


def quadrature(y, sigma):
    """A grid of z, and the weights of N(z; 0, 1) N(y; bent(z), sigma^2 I) there."""
    grid = torch.linspace(-6, 6, 20_001, dtype=torch.float64)[:, None]
    misfit = (bent(grid) - y).square().sum(1) / (2 * sigma**2)
    return grid[:, 0], (-0.5 * grid[:, 0].square() - misfit).softmax(0)


def test_a_bent_generator_has_the_posterior_of_quadrature():
    y = torch.tensor([0.4, 0.3])
    grid, weights = quadrature(y, 0.5)
    mean = (weights * grid).sum()
    std = (weights * (grid - mean).square()).sum().sqrt()
    model = identity_model(bent, 1e-6, z_dim=1, values=2)
    settings = SamplerSettings(512, 512, 10)
    z = torch.cat(
        [
            run(Sampler(model, y, 0.5, rng_of(k), settings), lambda z, _noise: bent(z)).z[:, 0]
            for k in range(6)
        ]
    )
    # 3,072 samples, counted as a quarter of it for what they share: 4 standard errors
    assert (z.mean() - mean).abs() < 4 * std / 768**0.5
    assert (z.std() / std - 1).abs() < 4 / (2 * 768) ** 0.5


def test_walks_with_long_steps_leave_a_bent_target_as_it_is():
    """Such steps are wrong by themselves: accepting some of them only is what mends it.

    40 numbers, each with a bent picture of its own, so that their errors add up.
    """
    numbers, y, sigma = 40, torch.tensor([0.4, 0.3]), 0.5
    grid, weights = quadrature(y, sigma)
    at = torch.multinomial(weights, 1000 * numbers, replacement=True, generator=rng_of(0))
    z = grid[at].float().view(1000, numbers)

    def picture(z):
        return bent(z.reshape(-1, 1)).view(len(z), 2 * numbers)

    model = identity_model(picture, 1e-6, z_dim=numbers, values=2 * numbers)
    sampler = Sampler(model, y.repeat(numbers), sigma, rng_of(1), SETTINGS)
    x = Particles(z, z[:, :0], picture(z), picture(z), torch.arange(1000))
    target = sampler._annealed(sigma)
    C = sampler.walks.preconditioner(x, target)
    for _ in range(30):
        x, _ = sampler.walks.walked(x, target, C, length=1.5, angle=1.0)
    assert (x.z != z).any(1).float().mean() > 0.3  # and they do go somewhere
    # the share beyond a place, against its chance: 4 standard errors of 40,000 draws
    for place in (-3.5, -3.0, -2.5, -2.0, -0.6, 0.0, 0.3, 0.6):
        p = weights[grid > place].sum().item()
        near = pytest.approx(p, abs=4 * (p * (1 - p) / z.numel()) ** 0.5)
        assert (x.z > place).float().mean().item() == near


def test_the_evidence_is_that_of_the_books():
    J = linear()
    y = J @ torch.randn(Z, generator=rng_of(1)) + SIGMA * torch.randn(P, generator=rng_of(2))
    normal = torch.distributions.MultivariateNormal(
        torch.zeros(P), J @ J.T + SIGMA**2 * torch.eye(P)
    )
    found = [
        run(
            Sampler(
                identity_model(lambda z: z @ J.T, 1e-9), y, SIGMA, rng_of(seed),
                SamplerSettings(512, 2, 1),
            ),
            drawn_by(J),
        ).diagnostics.log_evidence
        for seed in range(6)
    ]  # fmt: skip
    # each has a standard error of about sqrt(steps / 512 (1 / 0.3 - 1)) = 0.2; six of them 0.1
    assert sum(found) / 6 == pytest.approx(normal.log_prob(y).item(), abs=0.4)


def test_an_unknown_sigma_is_estimated():
    J = torch.randn(200, Z, generator=rng_of(0)) / Z**0.5
    y = J @ torch.randn(Z, generator=rng_of(1)) + 0.2 * torch.randn(200, generator=rng_of(2))
    model = identity_model(lambda z: z @ J.T, 1e-6, values=200)
    sampler = Sampler(model, y, 0.02, rng_of(0), SETTINGS, is_estimated=True)
    told = run(sampler, drawn_by(J)).diagnostics
    # 200 values tell it to 1 / sqrt(400) = 5 %
    assert told.sigma == pytest.approx(0.2, rel=0.15)
    sampler = Sampler(model, y, 0.4, rng_of(0), SETTINGS, is_estimated=True)
    assert run(sampler, drawn_by(J)).diagnostics.sigma == 0.4  # never below


def test_samples_are_the_same_however_many_are_asked_for():
    """Sigma and the length of walks too, which are learnt on the way; noise maps of odd size."""
    J = torch.randn(200, Z, generator=rng_of(0)) / Z**0.5
    y = J @ torch.randn(Z, generator=rng_of(1)) + 0.2 * torch.randn(200, generator=rng_of(2))
    model = identity_model(lambda z: z @ (1.05 * J).T, 1e-3, noise_values=3, values=200)
    ends = []
    for samples in (3, 8, 9, 24, None):
        settings = SamplerSettings(64, 30, 12)
        sampler = Sampler(
            model, y, 0.02, rng_of(0), settings, samples=samples, is_estimated=True
        )  # fmt: skip
        found = run(sampler, lambda z, noise: z @ J.T + noise.mean(1, keepdim=True))
        assert len(found.z) == (samples or 30)
        assert 0.2 < found.diagnostics.acceptance < 0.9
        ends.append((found.z, found.noise, sampler.walk, found.diagnostics.sigma))
    z, noise, walk, sigma = ends[-1]
    for few in ends[:-1]:
        assert torch.equal(few[0], z[: len(few[0])])
        assert torch.equal(few[1], noise[: len(few[1])])
        assert few[2:] == (walk, sigma)


def test_noise_maps_are_sampled_too():
    """y = z + noise + N(0, sigma^2): the noise maps take their share of the residual."""
    model = identity_model(lambda z: z[:, :2], 1.0, noise_values=2, z_dim=2, values=2)
    y = torch.tensor([1.5, -1.0])
    settings = SamplerSettings(512, 256, 150)
    found = [
        run(Sampler(model, y, SIGMA, rng_of(k), settings), lambda z, noise: z + noise)
        for k in range(3)
    ]
    noise = torch.cat([one.noise for one in found])
    # both are N(0, 1) and enter alike: each has the mean y / (2 + sigma^2)
    expected = y / (2 + SIGMA**2)
    assert (noise.mean(0) - expected).abs().max() < 4 * 0.72 / (len(noise) / 4) ** 0.5


def test_what_a_face_gets_does_not_depend_on_its_company(small_stylegan2):
    G = small_stylegan2
    A = Downscale((G.resolution, G.resolution), (4, 4))
    values, count = 48, sum(size**2 for size in G.noise_sizes)
    J = 0.05 * torch.randn(values, G.z_dim, generator=rng_of(0))
    model = identity_model(lambda z: z @ J.T, 0.05, count, G.z_dim, values)

    def sampling(seed):
        y = torch.rand(values, generator=rng_of(seed))
        return Sampler(model, y, 0.2, rng_of(seed), SamplerSettings(32, 6, 2)).run()

    alone = sample_face(Together(G, 16), sampling(1), A)
    together = Together(G, 16)
    for seed in (3, 1, 2):
        together.add(seed, sampling(seed), A)
    found = {}
    while len(together):
        found |= together.step()
    assert torch.equal(found[1].z, alone.z)
    assert torch.equal(found[1].drawn, alone.drawn)


def test_flattened_noise_maps_come_back(small_stylegan2):
    G = small_stylegan2
    maps = [torch.randn(3, 1, size, size) for size in G.noise_sizes]
    back = noise_maps_of(G, torch.cat([noise.flatten(1) for noise in maps], 1))
    assert all(torch.equal(a, b) for a, b in zip(maps, back, strict=True))


def test_systematic_resampling_takes_each_as_often_as_its_weight_says():
    weights = torch.tensor([0.5, 0.05, 0.25, 0.2], dtype=torch.float64)
    counts = torch.zeros(4)
    for seed in range(500):
        index = systematic(weights, 4, rng_of(seed))
        counts += torch.bincount(index, minlength=4)
    # the count of each is within 1 of its mean, so that 500 of them have a deviation below 0.5 / 22
    assert torch.allclose(counts / 500, 4 * weights.float(), atol=0.1)


def test_effective_sample_size_of_known_weights():
    assert ess_share(torch.zeros(7)) == pytest.approx(1)
    assert ess_share(torch.tensor([0.0, -math.inf, -math.inf, -math.inf])) == pytest.approx(0.25)


def test_preconditioner_is_the_power_of_a_matrix():
    H = linear().T @ linear()
    C = Preconditioner.of(H)
    x = torch.randn(3, Z, generator=rng_of(0))
    assert torch.allclose(C.power(x, 1), x @ torch.linalg.inv(torch.eye(Z) + H), atol=1e-5)
    assert torch.allclose(C.power(C.power(x, 0.5), 0.5), C.power(x, 1), atol=1e-5)


def test_a_target_between_two_is_their_mean():
    x = Particles(*(torch.randn(3, 4, generator=rng_of(k)) for k in range(4)), torch.arange(3))
    a, b = (
        Target(((1.0, Likelihood(torch.ones(4) * k, torch.ones(4) * (k + 1), k == 1)),))
        for k in range(2)
    )
    mixed = a.towards(b, 0.25)
    assert torch.allclose(mixed.log(x), 0.75 * a.log(x) + 0.25 * b.log(x))
    assert torch.allclose(mixed.slope(x), 0.75 * a.slope(x) + 0.25 * b.slope(x))
    assert a.towards(b, 1.0).terms == b.terms
    assert torch.equal(Target().log(x), torch.zeros(3, dtype=torch.float64))


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="expected explorers >= particles >= 2, and moves >= 1"):
        SamplerSettings(explorers=10, particles=20)
    model = identity_model(lambda z: z @ linear().T, 0.1)
    with pytest.raises(ValueError, match="got sigma 0, expected more than 0"):
        Sampler(model, torch.zeros(P), 0, rng_of(0), SETTINGS)
    with pytest.raises(ValueError, match="y has shape"):
        Sampler(model, torch.zeros(P + 1), 1, rng_of(0), SETTINGS)
    with pytest.raises(ValueError, match="got samples 0, expected 1 to 256"):
        Sampler(model, torch.zeros(P), 1, rng_of(0), SETTINGS, samples=0)
    assert Diagnostics(0.1).drawn == 0


def test_the_handing_over_weighs_particles_by_the_generator():
    """Before the moves have had time to: by the surrogate, twice as sure, they lie too close."""
    J = linear()
    y = J @ torch.randn(Z, generator=rng_of(1)) + SIGMA * torch.randn(P, generator=rng_of(2))
    z = linear_samples(1.4 * J, J, y, 0.02, settings=SamplerSettings(4096, 512, 1))
    mean, covariance = exact(J, y)
    scale = torch.linalg.inv(torch.linalg.cholesky(covariance)).T
    # a mean of 2048 Z squares, at least half of them independent: a deviation of 0.03
    assert ((z - mean) @ scale).square().mean().item() == pytest.approx(1, abs=0.1)
