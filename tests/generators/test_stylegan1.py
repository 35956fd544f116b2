"""StyleGAN1 against what the published PULSE code gave for the same weights and noise."""

from __future__ import annotations

import pytest
import torch
from helpers import expected_of, pulse_state, relative_error

from pulse.generators.stylegan1 import StyleGAN1

# float32 has 24 bits; a dozen layers leave about 1e-6, and 1e-4 is what we promise
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def expected():
    return expected_of("pulse-32", "checkpoints")


def test_sizes_are_read_from_the_tensors(stylegan1):
    G = stylegan1
    assert (G.resolution, G.num_ws, G.w_dim, G.z_dim) == (32, 8, 64, 64)
    assert G.noise_sizes == (4, 4, 8, 8, 16, 16, 32, 32)


def test_mapping(stylegan1, expected):
    w = stylegan1.mapping(expected["z"])
    assert relative_error(w, expected["w_mapping_raw"]) < TOLERANCE


@pytest.mark.parametrize("noise", ["noise", "none"])
def test_pictures(stylegan1, expected, noise):
    maps = stylegan1.zero_noise()
    if noise == "noise":
        maps = [expected[f"noise_{i}"] for i in range(stylegan1.num_ws)]
    x = stylegan1.synthesis(expected["ws_plus"], maps)
    assert relative_error(x, expected[f"image_plus_{noise}"]) < TOLERANCE


def test_render_moves_the_range_to_0_1(stylegan1, expected):
    x = stylegan1.render(expected["ws_plus"], stylegan1.zero_noise())
    want = (expected["image_plus_none"] + 1) / 2
    assert relative_error(x, want) < TOLERANCE


def test_synthesis_without_mapping_draws_but_does_not_map(expected):
    state = {k: v for k, v in pulse_state("pulse-32", "checkpoints").items() if "synthesis" in k}
    G = StyleGAN1.from_state_dict(state)
    x = G.synthesis(expected["ws_plus"], G.zero_noise())
    assert relative_error(x, expected["image_plus_none"]) < TOLERANCE
    with pytest.raises(ValueError, match="hold a synthesis network only"):
        G.mapping(expected["z"])


def test_fused_upscaling_is_the_transposed_convolution_of_the_official_networks():
    """From 128 px on: zero insertion, then correlation with the mirrored, box-filtered kernel."""
    from pulse.generators.stylegan1 import UpConv

    rng = torch.Generator().manual_seed(0)
    conv = UpConv(2, 3, is_fused=True)
    conv.weight.data = torch.randn(3, 2, 3, 3, generator=rng)
    conv.bias.data = torch.randn(3, generator=rng)
    conv.intermediate.kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])[None, None] / 16
    x = torch.randn(1, 2, 5, 5, generator=rng)
    box = torch.nn.functional.conv2d(  # the kernel filtered by a 2x2 box: (3, 2, 4, 4)
        conv.weight * conv.weight_gain, torch.ones(1, 1, 2, 2).expand(2, 1, 2, 2),
        padding=1, groups=2,
    )  # fmt: skip
    spread = torch.zeros(1, 2, 13, 13)  # 5 px, zeros between them, and a border of 2 each side
    spread[:, :, 2:11:2, 2:11:2] = x
    y = torch.nn.functional.conv2d(spread, box.flip((2, 3)))  # (1, 3, 10, 10)
    want = conv.intermediate(y) + conv.bias[:, None, None]
    assert torch.allclose(conv(x), want, atol=1e-5)


def test_a_wrong_shape_names_the_key():
    state = pulse_state("pulse-32", "checkpoints")
    state["synthesis.torgb.bias"] = torch.zeros(4)
    with pytest.raises(ValueError, match=r"synthesis.torgb.bias has shape \(4,\), expected \(3,\)"):
        StyleGAN1.from_state_dict(state)


def test_missing_and_unknown_keys_are_named():
    state = pulse_state("pulse-32", "checkpoints")
    state["synthesis.torgb.biass"] = state.pop("synthesis.torgb.bias")
    match = r"missing keys \['synthesis.torgb.bias'\], unknown keys \['synthesis.torgb.biass'\]"
    with pytest.raises(ValueError, match=match):
        StyleGAN1.from_state_dict(state)


def test_features_are_what_a_block_hands_on(stylegan1, expected):
    ws, maps = expected["ws_plus"], stylegan1.zero_noise()
    features = stylegan1.features(ws, maps, 32)
    assert torch.equal(stylegan1.synthesis.torgb(features), stylegan1.synthesis(ws, maps))
    lower = stylegan1.features(ws, maps[:4], 8)
    others = torch.cat([ws[:, :4], torch.zeros_like(ws[:, 4:])], 1)
    assert torch.equal(lower, stylegan1.features(others, maps, 8))
    assert lower.shape[2:] == (8, 8)
    with pytest.raises(ValueError, match="got 5 pixels"):
        stylegan1.features(ws, maps, 5)
    assert [stylegan1.layers_above(px) for px in (4, 8, 16, 32, 64)] == [6, 4, 2, 0, 0]
