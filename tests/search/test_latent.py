from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pulse.search.latent import LatentPrior, fit_prior


def test_to_w_and_from_w_are_inverse():
    rng = torch.Generator().manual_seed(0)
    prior = LatentPrior(torch.randn(64, generator=rng), torch.rand(64, generator=rng) + 0.1)
    v = torch.randn(2, 5, 64, generator=rng)
    assert torch.allclose(prior.from_w(prior.to_w(v)), v, atol=1e-4)  # 5 / 0.1 times rounding


def test_fit_finds_the_moments_of_a_mapping_that_is_gaussian_by_construction():
    mean, std = torch.tensor([1.0, -2, 0]), torch.tensor([0.5, 1, 2])
    prior = fit_prior(lambda z: F.leaky_relu(z * std + mean, 0.2), z_dim=3, samples=100_000)
    # the mean of 100,000 samples is within 4 / sqrt(100,000) = 1.3 % of a standard deviation
    assert ((prior.mean - mean) / std).abs().max() < 0.013
    assert (prior.std / std - 1).abs().max() < 0.013


def test_fit_is_the_same_every_time(small_stylegan2):
    one, two = (fit_prior(small_stylegan2.mapping, 64, samples=1000, chunk=400) for _ in range(2))
    assert torch.equal(one.mean, two.mean)
    assert torch.equal(one.std, two.std)


def test_styles_of_the_embedded_generator_are_about_normal(embedded):
    z = torch.randn(2000, embedded.network.z_dim, generator=torch.Generator().manual_seed(1))
    v = embedded.prior.from_w(embedded.network.mapping(z))
    assert v.mean(0).abs().max() < 0.1  # 4 / sqrt(2000)
    # on the sphere: the squared length has mean D and, were all directions independent, a relative
    # spread of sqrt(2 / D); a mapping network correlates them, so several times that is allowed
    length = v.square().sum(1).div(v.shape[1])
    assert length.mean() == pytest.approx(1, abs=0.05)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"std has shape \(2,\), expected \(3\)"):
        LatentPrior(torch.zeros(3), torch.ones(2))


def test_the_covariance_is_that_of_a_mixing_that_is_known():
    mixing = torch.tensor([[1.0, 0, 0], [0.5, 2, 0], [0, -1, 0.3]])
    prior = fit_prior(lambda z: F.leaky_relu(z @ mixing.T + 3, 0.2), z_dim=3, samples=100_000)
    want = mixing @ mixing.T
    scale = want.diagonal().sqrt()
    # a correlation of 100,000 samples is within 4 / sqrt(100,000)
    assert ((prior.covariance - want) / torch.outer(scale, scale)).abs().max() < 0.013 * 1.5
    assert torch.allclose(prior.covariance.diagonal().sqrt(), prior.std, rtol=1e-5)


def test_the_moments_do_not_depend_on_how_the_samples_are_cut_up():
    """With chunks of 5 the first chunk's mean, from which differences are taken, is far off."""
    z = torch.cat(
        [torch.randn(5, 3, generator=rng) for rng in [torch.Generator().manual_seed(0)]
         for _ in range(200)]
    ).double()  # fmt: skip
    prior = fit_prior(lambda z: F.leaky_relu(z + 10, 0.2), z_dim=3, samples=1000, chunk=5)
    assert torch.allclose(prior.mean.double(), z.mean(0) + 10, atol=1e-5)
    assert torch.allclose(prior.covariance.double(), torch.cov(z.T, correction=0), atol=1e-4)
