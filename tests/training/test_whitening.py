"""Whitening changes no picture and makes the prior what the latents are."""

from __future__ import annotations

import torch

from pulse.training.networks import Encoder, mapped, new_state, trainable
from pulse.training.randomness import stream
from pulse.training.settings import NetworkSettings
from pulse.training.whitening import aggregate_moments, whiten

SETTINGS = NetworkSettings(resolution=16, z_dim=12, w_dim=16, mapping_layers=2, channel_max=16)


def posteriors(encoder, x):
    with torch.no_grad():
        mean, log_variance = encoder(x)
    return mean, log_variance


def make():
    rng = stream(0, "test", 0)
    G, encoder = trainable(new_state(SETTINGS, rng)), Encoder(SETTINGS, rng)
    with torch.no_grad():  # latents of very different size, mean and correlation
        encoder.head.weight[:12] *= torch.linspace(0.1, 6, 12)[:, None]
        encoder.head.bias[:12] += 2
        G.mapping.fc0.bias += torch.randn(16, generator=rng)
    return G, encoder, torch.rand(200, 3, 16, 16, generator=rng) * 2 - 1


def test_no_picture_changes():
    G, encoder, x = make()
    eps = torch.randn(8, 12, generator=stream(1, "test", 0))

    def decoded():
        with torch.no_grad():
            z = encoder.latents(*encoder(x[:8]), eps)
            return G.synthesis(G.broadcast(mapped(G.mapping, z)), G.zero_noise())

    before = decoded()
    whiten([G.mapping], encoder, aggregate_moments([posteriors(encoder, x)]))
    assert not torch.equal(encoder.whitening, torch.eye(12))
    # single precision through six layers of a hundred terms each
    assert (decoded() - before).abs().max() < 1e-4 * before.abs().max()


def test_the_aggregate_posterior_has_mean_0_and_covariance_1():
    G, encoder, x = make()
    mean, log_variance = posteriors(encoder, x)
    values = whiten([G.mapping], encoder, aggregate_moments([(mean, log_variance)]))
    assert values[-1] > 2  # it had something to do
    # of many draws for each picture, as the generator takes them
    rng = stream(2, "test", 0)
    draws = [
        encoder.latents(mean, log_variance, torch.randn(mean.shape, generator=rng))
        for _ in range(500)
    ]
    z = torch.cat(draws)
    # 500 draws of 200 pictures: deviations of 1/sqrt(100,000), seldom more than five of them
    assert z.mean(0).abs().max() < 0.016
    assert (torch.cov(z.T) - torch.eye(12)).abs().max() < 0.025


def test_moments_are_those_of_the_mixture():
    mean = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    log_variance = torch.tensor([[4.0, 9.0], [2.0, 1.0]]).log()
    moments = aggregate_moments([(mean[:1], log_variance[:1]), (mean[1:], log_variance[1:])])
    assert torch.allclose(moments.mean, torch.zeros(2).double())
    # the variance of the means plus the mean of the variances: 1 + 3, 0 + 5
    assert torch.allclose(moments.covariance, torch.tensor([[4.0, 0], [0, 5]]).double())
