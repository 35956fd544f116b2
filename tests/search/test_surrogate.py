"""The head: a small network in the place of a generator, at low resolution."""

from __future__ import annotations

import pytest
import torch

from pulse.downscale import Downscale
from pulse.search.particles import Likelihood, Particles, Target
from pulse.search.rng import Stream
from pulse.search.surrogate import HEAD_PX, Head, draw_samples, fit_head, model_of
from pulse.search.walks import Walks


def rng_of(seed):
    return torch.Generator().manual_seed(seed)


def test_training_learns_what_a_generator_draws(small_generator):
    G, prior = small_generator.network, small_generator.prior
    v, pictures = draw_samples(G, prior, 400, rng_of(0))
    assert v.shape == (400, G.w_dim)
    assert pictures.shape == (400, 3, HEAD_PX, HEAD_PX)
    seen = []
    head = fit_head(v[:350], pictures[:350], rng_of(1), 12, lambda *at: seen.append(at))
    assert seen[-1] == (12, 12)
    error = (head(v[350:].float()) - pictures[350:].float()).square().mean()
    variance = pictures[350:].float().var(0).mean()
    assert error < 0.7 * variance  # these few samples and steps get to a half
    again = fit_head(v[:350], pictures[:350], rng_of(1), 12)
    assert torch.allclose(again.last.weight, head.last.weight, atol=1e-4)


def test_the_head_that_comes_along_knows_the_embedded_generator(embedded, pulse_home):
    import pulse

    generator = pulse.load_generator(device="cpu", with_head=True)
    G, prior = generator.network, generator.prior
    v, pictures = draw_samples(G, prior, 32, rng_of(5))
    error = (generator.head(v.float()) - pictures.float()).square().mean()
    assert error < 2.5e-4  # 1.34e-4 over 8,192 samples, of a variance of 0.024
    assert not (pulse_home / "heads").exists()  # nothing was trained


@pytest.mark.parametrize("px", [16, 8])
def test_the_model_is_the_head_downscaled_along_its_axes(embedded, px, monkeypatch):
    import pulse

    # in single precision, on every processor
    monkeypatch.setattr("pulse.search.surrogate.feature_dtype", lambda *_: torch.float32)
    generator = pulse.load_generator(device="cpu", with_head=True)
    G, prior = generator.network, generator.prior
    model = model_of(G, prior, generator.bank, generator.head, (px, px))
    z = torch.randn(4, G.z_dim, generator=rng_of(0))
    with torch.no_grad():
        pictures = generator.head(prior.from_w(G.mapping(z)))
        small = pictures if px == 16 else Downscale((16, 16), (px, px))(pictures)
        seen = model.surrogate(z) @ model.axes.T
    assert torch.allclose(seen, small.flatten(1), atol=1e-4)
    assert model.variances.min() > 0
    # its errors are those of the bank, on average over values
    assert 0.5e-4 < model.variances.mean() < 4e-4


def test_the_number_of_threads_changes_no_bit(one_thread):
    """Neither of the model, nor of walks on it."""
    import pulse

    generator = pulse.load_generator(device="cpu", with_head=True)
    G, found = generator.network, []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        model = model_of(G, generator.prior, generator.bank, generator.head, (8, 8))
        z = torch.randn(64, G.z_dim, generator=rng_of(0))
        with torch.no_grad():
            seen = model.surrogate(z)
        x = Particles(z, z[:, :0], seen, seen, torch.arange(64))
        likelihood = Likelihood(seen[0], 0.2**2 + model.variances, is_drawn=False)
        x = Walks(model.surrogate, Stream((rng_of(1),))).mixed(x, Target(((1.0, likelihood),)))
        assert not torch.equal(x.z, z)
        found.append([model.axes, model.variances, x.z, x.seen])
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


def test_larger_pictures_are_refused(embedded):
    head = Head(embedded.network.w_dim)
    with pytest.raises(ValueError, match=r"got size \(17, 16\), expected at most 16 pixels a side"):
        model_of(embedded.network, embedded.prior, embedded.bank, head, (17, 16))


def test_a_head_comes_back_from_its_tensors_and_others_are_refused():
    head = Head(12, width=20, blocks=1)
    again = Head.from_state_dict(head.state_dict())
    v = torch.randn(2, 12)
    assert torch.equal(again(v), head(v))
    for damaged in ({}, {**head.state_dict(), "last.bias": torch.zeros(3)}):
        with pytest.raises(ValueError, match="got tensors of no head"):
            Head.from_state_dict(damaged)
