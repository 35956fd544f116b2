"""Generator, discriminator, augmentation: what holds before any training."""

from __future__ import annotations

import pytest
import torch

from pulse.training.augment import augment, cut_out, translate
from pulse.training.compiling import why_not_compiled
from pulse.training.discriminator import Discriminator, NormalizedConv, discriminator_loss
from pulse.training.learner import Learner, draw_by_blocks
from pulse.training.networks import grown_state, new_state, trainable
from pulse.training.randomness import stream
from pulse.training.settings import NetworkSettings, TrainingSettings

CPU = torch.device("cpu")


def test_a_new_generator_has_the_sizes_of_the_embedded_one():
    settings = NetworkSettings(resolution=128)
    G = trainable(new_state(settings, stream(0, "test", 0)))
    channels = [block.conv1.weight.shape[0] for block in G.synthesis.blocks]
    assert channels == [256, 256, 256, 128, 64, 32]
    assert (G.z_dim, G.w_dim, G.mapping.num_layers) == (512, 512, 4)
    assert all(parameter.requires_grad for parameter in G.parameters())


def test_new_blocks_draw_nothing_at_first():
    old, larger = (NetworkSettings(px, 8, 8, 2, channel_max=8) for px in (16, 32))
    state = new_state(old, stream(0, "test", 0))
    grown = grown_state(state, larger, stream(0, "growth", 0))
    assert not grown["synthesis.b32.torgb.weight"].any()
    assert all(torch.equal(grown[key], tensor) for key, tensor in state.items())


@pytest.mark.parametrize("pictures", [1, 3])
def test_block_by_block_is_drawn_what_the_network_draws(pictures):
    G = trainable(new_state(NetworkSettings(16, 8, 8, 2, channel_max=8), stream(0, "test", 0)))
    rng = stream(0, "styles", 0)
    w = torch.randn(pictures, G.w_dim, generator=rng)
    maps = [torch.randn(pictures, 1, size, size, generator=rng) for size in G.noise_sizes]
    drawn = draw_by_blocks(G, [block.forward for block in G.synthesis.blocks], w, maps)
    assert torch.equal(drawn, G.synthesis(G.broadcast(w), maps))


def test_normalized_convolutions_have_the_largest_singular_value_1():
    conv = NormalizedConv(6, 5, 3)
    with torch.no_grad():
        for _ in range(100):  # one step of the power iteration each
            conv(torch.zeros(1, 6, 4, 4))
        # the matrix as it acts: the response to each unit input at the middle
        units = torch.eye(54).reshape(54, 6, 3, 3)
        rows = conv(units)[:, :, 1, 1] - conv.bias  # (54, 5)
    assert torch.linalg.matrix_norm(rows, ord=2) == pytest.approx(1, abs=1e-3)


def test_the_hinge_loss():
    real, fake = torch.tensor([[2.0, 0.5]]), torch.tensor([[-3.0, 0.0]])
    # real: (0 + 0.5) / 2, fake: (0 + 1) / 2
    assert discriminator_loss([real], [fake]) == pytest.approx(0.75)


def test_only_the_heads_are_trained(features):
    D = Discriminator(stream(0, "test", 0))
    x = torch.rand(2, 3, 64, 64, generator=stream(1, "test", 0), requires_grad=True)
    judgements = D(D.mixing(features(x)))
    assert [j.shape[0] for j in judgements] == [2] * 4
    sum(j.sum() for j in judgements).backward()
    assert x.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in D.mixing.parameters())
    assert all(parameter.grad is not None for parameter in D.heads.parameters())


def test_every_scale_knows_of_the_coarser_ones(features):
    D = Discriminator(stream(0, "test", 0))
    taps = features(torch.rand(1, 3, 64, 64, generator=stream(1, "test", 0)))
    other = [*taps[:3], taps[3] + 1]
    changed = [not torch.equal(a, b) for a, b in zip(D.mixing(taps), D.mixing(other), strict=True)]
    assert changed == [True] * 4
    other = [taps[0] + 1, *taps[1:]]
    changed = [not torch.equal(a, b) for a, b in zip(D.mixing(taps), D.mixing(other), strict=True)]
    assert changed == [True, False, False, False]


def test_augmentation_differs_by_picture_and_lets_gradients_through():
    one = torch.rand(1, 3, 32, 32, generator=stream(0, "test", 0)) * 2 - 1
    x = one.repeat(4, 1, 1, 1).requires_grad_()
    y = augment(x, stream(1, "test", 0))
    assert all(not torch.equal(y[0], other) for other in y[1:])
    y.sum().backward()
    assert all(gradient.abs().sum() > 0 for gradient in x.grad)
    assert torch.equal(augment(x, stream(1, "test", 0)), y)


def test_a_translation_moves_whole_pixels_up_to_an_eighth():
    x = torch.zeros(64, 3, 32, 32)
    x[:, :, 16, 16] = 1
    y = translate(x, stream(0, "test", 0))
    places = y[:, 0].flatten(1).argmax(1)
    moves = torch.stack([places // 32 - 16, places % 32 - 16])
    assert y.sum((1, 2, 3)).tolist() == [3.0] * 64
    assert moves.min() == -4
    assert moves.max() == 4


def test_a_hole_is_a_square_anywhere():
    holes = cut_out(torch.ones(64, 3, 32, 32), stream(0, "test", 0))[:, 0] == 0  # (64, 32, 32)
    rows, columns = holes.any(2), holes.any(1)  # (64, 32)
    assert torch.equal(holes, rows[:, :, None] & columns[:, None, :])
    assert rows.sum(1).max() == columns.sum(1).max() == 16
    assert not torch.equal(rows, columns)
    assert holes.any(0).all()


def test_without_a_compiler_nothing_is_compiled(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    reason = "no C++ compiler was found (g++ or clang++), so nothing is compiled"
    assert why_not_compiled(CPU) == reason
    assert why_not_compiled(torch.device("mps")) == "nothing is compiled for MPS"


def test_blocks_that_compute_something_else_are_not_used(new_learner):
    learner = new_learner()
    eager = [block.forward for block in learner.G.synthesis.blocks]
    assert learner.check_compiled() is None

    def wrong(*arguments):
        x, rgb = eager[-1](*arguments)
        return x, rgb * float("nan")

    learner._blocks = [*eager[:-1], wrong]
    assert learner.check_compiled().startswith(
        "compiled blocks give another gradient, of cosine nan"
    )
    assert learner._blocks == eager


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 1}, "batch_size is 1, expected 2 or more"),
        ({"vae_images": 0}, "vae_images is 0, expected 1 or more"),
        ({"reconstructed": 0.0}, "reconstructed is 0.0, expected a share, up to 1"),
        ({"feature_px": 40}, "feature_px is 40, expected a multiple of 32, or 0"),
        ({"step_size": -1.0}, "step_size is -1.0, expected a number above 0"),
    ],
)
def test_settings_that_make_no_sense(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": 100}, "the resolution is 100, expected one of 16, 32, 64"),
        ({"z_dim": 0}, "z_dim is 0, expected 1 or more"),
        ({"channel_base": 64}, "channel_base is 64, expected at least the resolution, 128"),
    ],
)
def test_sizes_that_make_no_sense(changes, message):
    with pytest.raises(ValueError, match=message):
        NetworkSettings(**changes)


def test_settings_come_back_from_json():
    settings = TrainingSettings(NetworkSettings(64), batch_size=7)
    assert TrainingSettings.of(settings.as_table()) == settings
    with pytest.raises(ValueError, match="the setting size, expected batch_size, discr"):
        TrainingSettings.of({"size": 3})
    with pytest.raises(ValueError, match="unexpected keyword argument 'colour'"):
        TrainingSettings.of({"network": {"colour": 3}})


def test_the_average_follows_within_its_half_life(new_learner):
    learner = new_learner(ema_images=1000.0)
    assert isinstance(learner, Learner)
    learner.progress.images = 1_000_000
    before = learner.ema.synthesis.b4.const.clone()
    with torch.no_grad():
        learner.G.synthesis.b4.const += 1
    for _ in range(125):
        learner.average(8)
    moved = learner.ema.synthesis.b4.const - before
    assert (moved - 0.5).abs().max() < 1e-4
