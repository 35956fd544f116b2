from __future__ import annotations

import pytest
import torch

from pulse.downscale import Downscale
from pulse.search.bank import Bank
from pulse.search.latent import LatentPrior
from pulse.search.losses import mean_squared
from pulse.search.rng import rng_for
from pulse.search.whitening import DAMPING, GAIN_DAMPING, conditioned, whitening_of

D, SIDE = 5, 4


@pytest.fixture(scope="module")
def linear():
    """A bank of a generator that is linear: pictures = 0.5 + v @ response, latents independent."""
    rng = torch.Generator().manual_seed(0)
    response = torch.randn(D, 3 * SIDE * SIDE, generator=rng)
    v = torch.randn(4000, D, generator=rng)
    nudges = torch.randn(4000, D, generator=rng)  # of its one layer
    low_res, changes = ((x @ response).view(-1, 3, SIDE, SIDE) for x in (v, nudges))
    bank = Bank(v, 0.5 + low_res, 2 * changes)  # twice: J J^T is not the covariance
    prior = LatentPrior(torch.zeros(D), torch.ones(D), torch.eye(D))
    return bank, response, whitening_of(bank, prior, (SIDE, SIDE))


@pytest.mark.parametrize("is_tiled", [False, True])
def test_residuals_are_divided_by_what_the_generator_varies(linear, is_tiled):
    """Along an axis in which pictures answer with variance c, by c and the damping."""
    bank, response, known = linear
    variances, axes = torch.linalg.eigh(response.T @ response)
    if is_tiled:
        prior = LatentPrior(torch.zeros(D), torch.ones(D))
        known = whitening_of(bank, prior, (SIDE, SIDE), is_tiled=True)
    else:
        variances = 4 * variances
    damping = DAMPING * variances.sum()
    strongest, none = axes[:, -1].view(1, 3, SIDE, SIDE), axes[:, 0].view(1, 3, SIDE, SIDE)
    # 4000 samples know a variance to 4 sqrt(2 / 4000) = 9 %
    want = strongest / (variances[-1] + damping)
    assert (known.weigh(strongest)[0] - want).norm() < 0.1 * want.norm()
    assert (known.weigh(none)[0] - none / damping).norm() < 0.1 / damping


def test_what_is_compared_is_the_root_of_what_is_whitened(linear):
    """(C / damping + 1)^-1/2, symmetric and positive, twice is damping (C + damping)^-1."""
    _, response, known = linear
    rng = torch.Generator().manual_seed(2)
    residual = torch.randn(3, 3, SIDE, SIDE, generator=rng)
    whitened, standardized = known.weigh(residual)
    _, twice = known.weigh(standardized)
    assert torch.allclose(twice, known.damping * whitened, atol=1e-5)
    for axis in torch.linalg.eigh(response.T @ response)[1].T.view(-1, 1, 3, SIDE, SIDE):
        assert (known.weigh(axis)[1] * axis).sum() > 0


def test_the_gain_is_that_of_the_conditional_mean(linear):
    """E[v | picture] of a linear Gaussian model: response (response^T response + damping)^-1."""
    _, response, known = linear
    covariance = response.T @ response
    damping = GAIN_DAMPING * covariance.trace()
    want = response @ torch.linalg.inv(covariance + damping * torch.eye(len(covariance)))
    assert (known.gain - want).norm() < 0.1 * want.norm()


def test_a_target_of_a_linear_generator_is_met_at_once(linear):
    _, response, known = linear
    truth = torch.tensor([0.5, -0.5, 0.3, 0.8, -0.1])
    target = (0.5 + truth @ response).view(3, SIDE, SIDE)
    start = conditioned(known, target, rng_for(0, "p", 1, 1))
    assert torch.allclose(start, truth, atol=0.1)


def test_a_start_is_no_further_out_than_samples_are(linear):
    _, response, known = linear
    target = (0.5 + torch.full((D,), 40.0) @ response).view(3, SIDE, SIDE)
    start = conditioned(known, target, rng_for(0, "p", 1, 1))
    assert (start @ known.radius).square().mean().item() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("side", [3, SIDE])
def test_few_samples_and_many_values_give_the_same_as_many_and_few(side):
    """A bank repeated four times has the same covariance, and goes the other way about it."""
    rng = torch.Generator().manual_seed(1)
    pictures, changes = torch.rand(2, 40, 3, SIDE, SIDE, generator=rng)
    few = Bank(torch.randn(40, D, generator=rng), pictures, changes)
    prior = LatentPrior(torch.zeros(D), torch.ones(D))
    # repeated, a variance is divided by 4 x 40 - 1 instead of 4 x (40 - 1): 2 % less
    many = Bank(*(x.repeat(4, *[1] * (x.ndim - 1)) for x in (few.v, few.pictures, few.changes)))
    one, two = (whitening_of(bank, prior, (side, side)) for bank in (few, many))
    residual = torch.rand(2, 3, side, side, generator=rng) - 0.5
    want = one.weigh(residual)[0]
    assert (two.weigh(residual)[0] - want).norm() < 0.03 * want.norm()
    assert (two.gain - one.gain).norm() < 0.03 * one.gain.norm()


def test_correlated_coordinates_are_told_apart():
    """A vector of the prior has length sqrt(D) in coordinates of unit variance."""
    mixing = torch.tensor([[1.0, 0.9], [0.0, 0.436]])
    covariance = mixing.T @ mixing
    prior = LatentPrior(torch.zeros(2), covariance.diagonal().sqrt(), covariance)
    bank = Bank(torch.randn(20, 2), torch.rand(20, 3, 2, 2), torch.rand(20, 3, 2, 2))
    v = torch.randn(100_000, 2, generator=torch.Generator().manual_seed(0)) @ mixing / prior.std
    white = v @ whitening_of(bank, prior, (2, 2)).radius
    assert torch.allclose(torch.cov(white.T), torch.eye(2), atol=0.02)  # 4 / sqrt(100,000)


def test_candidates_start_nearer_than_samples_and_apart_from_each_other(embedded):
    """On the generator itself, with a bank of samples and a target that is none of them."""
    from pulse.search.bank import fit_bank

    G, prior = embedded.network, embedded.prior
    bank = fit_bank(G, prior, samples=64)
    known = whitening_of(bank, prior, (16, 16))
    A = Downscale((128, 128), (16, 16))
    z = torch.randn(1, G.z_dim, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        target = A(G.render(G.broadcast(G.mapping(z)), G.zero_noise()).clamp(0, 1))
        v = torch.stack([
            conditioned(known, target[0], rng_for(0, "p", 1, k)) for k in range(1, 5)
        ])  # fmt: skip
        x = A(G.render(G.broadcast(prior.to_w(v)), G.zero_noise()).clamp(0, 1))
    of_samples = (known.pictures - target.flatten()).square().mean(1).median()
    assert (mean_squared(x, target) < 0.5 * of_samples).all()
    assert torch.pdist(v @ known.radius).min() > 1


def test_the_number_of_threads_changes_no_bit(embedded, one_thread):
    """Neither of what is known, nor of what is done with it."""
    rng = torch.Generator().manual_seed(0)
    target, residual = torch.rand(3, 16, 16, generator=rng), torch.rand(4, 3, 16, 16, generator=rng)
    told = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        known = whitening_of(embedded.bank, embedded.prior, (16, 16))
        start = conditioned(known, target, rng_for(0, "p", 1, 1))
        told.append([known.gain, known.radius, known.axes, start, *known.weigh(residual)])
        assert torch.get_num_threads() == threads
    for other in told[1:]:
        assert all(map(torch.equal, told[0], other))
