from __future__ import annotations

import pytest
import torch

from pulse.downscale import Downscale
from pulse.search.bank import Bank, fit_bank


def test_pictures_are_what_the_generator_draws_from_the_latents(small_generator):
    G, prior = small_generator.network, small_generator.prior
    bank = fit_bank(G, prior, samples=10, batch_size=4)
    assert bank.v.shape == (10, G.w_dim)
    with torch.no_grad():
        x = G.render(G.broadcast(prior.to_w(bank.v)), G.zero_noise()).clamp(0, 1)
    want = Downscale((32, 32), (32, 32))(x)
    assert torch.allclose(bank.pictures, want.clamp(0, 1), atol=1e-4)  # w to v and back


def test_the_bank_is_the_same_every_time_and_in_any_batch(small_generator):
    G, prior = small_generator.network, small_generator.prior
    one, two = (fit_bank(G, prior, samples=6, batch_size=size) for size in (6, 4))
    assert torch.allclose(one.v, two.v, atol=1e-4)  # rounding in other batch shapes


def test_large_generators_have_small_pictures(embedded):
    seen = []
    bank = fit_bank(embedded.network, embedded.prior, 3, 2, lambda *numbers: seen.append(numbers))
    assert bank.pictures.shape == (3, 3, 32, 32)
    assert seen == [(2, 3), (3, 3)]


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="pictures has shape"):
        Bank(torch.zeros(2, 4), torch.zeros(3, 3, 8, 8))
