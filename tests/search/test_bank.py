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


def test_changes_are_how_pictures_answer_to_nudges(small_generator):
    """The mean of |J e|^2 is |J|^2, and so is that of |J^T u|^2, which takes exact gradients."""
    G, prior = small_generator.network, small_generator.prior
    bank = fit_bank(G, prior, samples=48)
    A = Downscale((32, 32), (32, 32))
    at = bank.v[:, None].repeat(1, G.num_ws, 1).requires_grad_()
    low_res = A(G.render(prior.to_w(at), G.zero_noise()))
    u = torch.randn(low_res.shape, generator=torch.Generator().manual_seed(0))
    (back,) = torch.autograd.grad((low_res * u).sum(), at)
    want, got = back.square().sum((1, 2)), bank.changes.square().sum((1, 2, 3))
    spread = ((want.var() + got.var()) / len(got)).sqrt().item()
    assert spread < 0.2 * want.mean().item()
    assert got.mean().item() == pytest.approx(want.mean().item(), abs=4 * spread)


def test_large_generators_have_small_pictures(embedded):
    seen = []
    bank = fit_bank(embedded.network, embedded.prior, 3, 2, lambda *numbers: seen.append(numbers))
    assert bank.pictures.shape == (3, 3, 32, 32)
    assert seen == [(2, 3), (3, 3)]


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="pictures has shape"):
        Bank(torch.zeros(2, 4), torch.zeros(3, 3, 8, 8), torch.zeros(3, 3, 8, 8))
    with pytest.raises(ValueError, match="changes has shape"):
        Bank(torch.zeros(2, 4), torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 4, 4))
