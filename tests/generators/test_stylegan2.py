"""StyleGAN2 against what NVIDIA's implementation gave for the same weights."""

from __future__ import annotations

import pytest
import torch
from helpers import DATA, relative_error
from safetensors.torch import load_file
from stylegan2_states import random_state

from pulse.generators.stylegan2 import StyleGAN2

TOLERANCE = 1e-4  # as for StyleGAN1; about 1e-6 is what float32 leaves


def test_sizes_are_read_from_the_tensors(stylegan2):
    G, expected = stylegan2
    assert G.resolution == expected["image_none"].shape[-1]
    assert (G.num_ws, G.w_dim) == expected["ws"].shape[1:]
    assert G.z_dim == expected["z"].shape[1]
    assert G.noise_sizes == (4, 8, 8, 16, 16, 32, 32)


def test_mapping(stylegan2):
    G, expected = stylegan2
    assert relative_error(G.broadcast(G.mapping(expected["z"])), expected["ws"]) < TOLERANCE


def test_truncation(stylegan2):
    G, expected = stylegan2
    w = G.truncate(G.mapping(expected["z"]), truncation_psi=0.7)
    assert relative_error(G.broadcast(w), expected["ws_trunc"]) < TOLERANCE


@pytest.mark.parametrize("noise", ["const", "none"])
@pytest.mark.parametrize("latent", ["ws", "ws_plus"])
def test_pictures(stylegan2, latent, noise):
    G, expected = stylegan2
    maps = G.stored_noise() if noise == "const" else G.zero_noise()
    want = expected[f"image_{'plus_' if latent == 'ws_plus' else ''}{noise}"]
    assert relative_error(G.synthesis(expected[latent], maps), want) < TOLERANCE


def test_channels_last_draws_the_same(stylegan2):
    G, expected = stylegan2
    G = StyleGAN2.from_state_dict(G.state_dict()).to(memory_format=torch.channels_last)
    x = G.synthesis(expected["ws"], G.stored_noise())
    assert relative_error(x, expected["image_const"]) < TOLERANCE


def test_noise_maps_differ_between_the_pictures_of_a_batch(small_stylegan2):
    G = small_stylegan2
    ws = G.broadcast(G.mapping(torch.ones(1, G.z_dim))).expand(2, -1, -1)
    maps = [torch.cat([torch.zeros(1, 1, s, s), torch.ones(1, 1, s, s)]) for s in G.noise_sizes]
    one, two = G.synthesis(ws, maps)
    alone = G.synthesis(ws[:1], G.zero_noise())[0]
    assert torch.allclose(one, alone, atol=1e-5)  # float32 rounding in other batch shapes
    assert not torch.allclose(two, alone, atol=1e-2)


def test_gradients_are_those_of_finite_differences(small_stylegan2):
    G = StyleGAN2.from_state_dict(small_stylegan2.state_dict()).double()
    rng = torch.Generator().manual_seed(0)
    ws = torch.randn(1, G.num_ws, G.w_dim, generator=rng, dtype=torch.float64)
    weights = torch.randn(1, 3, 32, 32, generator=rng, dtype=torch.float64)
    direction = torch.randn(ws.shape, generator=rng, dtype=torch.float64)
    maps = [noise.double() for noise in G.stored_noise()]

    def f(t):
        return (G.render(ws + t * direction, maps) * weights).sum()

    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(f(t), t)
    h = 1e-6  # its square is the error of the central difference
    assert slope.item() == pytest.approx(((f(h) - f(-h)) / (2 * h)).item(), rel=1e-6)


def test_wrong_arguments_say_got_and_expected(small_stylegan2):
    G = small_stylegan2
    ws = torch.zeros(2, G.num_ws, G.w_dim)
    with pytest.raises(ValueError, match=r"ws has shape \(2, 7, 64\), expected \(any, 8, 64\)"):
        G.render(ws[:, :7], G.zero_noise())
    with pytest.raises(ValueError, match="got 6 noise maps, expected 7"):
        G.render(ws, G.zero_noise()[:6])
    with pytest.raises(ValueError, match=r"noise_maps\[0\] has shape"):
        G.render(ws, G.zero_noise()[::-1])


def test_half_precision_storage_is_computed_in_single():
    state = load_file(DATA / "generators" / "ada-plain.safetensors")
    G = StyleGAN2.from_state_dict({key: tensor.half() for key, tensor in state.items()})
    assert {tensor.dtype for tensor in G.state_dict().values()} == {torch.float32}


def test_nothing_is_trainable(small_stylegan2):
    assert not any(parameter.requires_grad for parameter in small_stylegan2.parameters())


def test_keys_of_something_else_are_refused():
    with pytest.raises(ValueError, match=r"no keys synthesis\.b4"):
        StyleGAN2.from_state_dict({"weight": torch.zeros(1)})


def test_features_are_what_a_block_hands_on(small_stylegan2):
    G = small_stylegan2
    rng = torch.Generator().manual_seed(3)
    ws = torch.randn(2, G.num_ws, G.w_dim, generator=rng)
    maps = G.stored_noise()
    features = G.features(ws, maps, 32)  # of the last block: colours are the picture
    assert torch.equal(features[:, -3:], G.synthesis(ws, maps))
    lower = G.features(ws, maps[:3], 8)
    others = torch.cat([ws[:, :4], torch.zeros_like(ws[:, 4:])], 1)
    assert torch.equal(lower, G.features(others, maps, 8))
    assert not torch.equal(lower, G.features(torch.zeros_like(ws), maps, 8))
    with pytest.raises(ValueError, match="got 5 pixels"):
        G.features(ws, maps, 5)
    # 1 convolution at 4 px and 2 in each block above, and a style for the last colours
    assert [G.layers_above(px) for px in (4, 8, 16, 32, 64)] == [7, 5, 3, 0, 0]


@pytest.mark.parametrize(("architecture", "colours"), [("skip", 3), ("resnet", 0), ("orig", 0)])
def test_features_of_every_architecture(architecture, colours):
    G = StyleGAN2.from_state_dict(random_state(architecture))
    ws = torch.zeros(1, G.num_ws, G.w_dim)
    x, _ = list(G.synthesis.after_blocks(G.synthesis.blocks, ws, G.zero_noise()))[1]
    features = G.features(ws, G.zero_noise(), 8)
    assert features.shape[1] == x.shape[1] + colours
    assert torch.equal(features[:, : x.shape[1]], x)
