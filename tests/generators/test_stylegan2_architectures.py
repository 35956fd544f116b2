"""StyleGAN2's three architectures and its classes, against the papers' formulas written out.

The reference works as the papers do: weights scaled by the style of each picture, upsampling by
inserting zeros, padding and a plain convolution.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from stylegan2_states import LOPSIDED, W_DIM, Z_DIM, random_state

from pulse.generators.constants import Constants
from pulse.generators.stylegan1 import StyleGAN1
from pulse.generators.stylegan2 import StyleGAN2

SMOOTH = torch.tensor([1.0, 3, 3, 1]) / 8


def insert_zeros(x):
    y = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    y[:, :, ::2, ::2] = x
    return y


def convolve_true(x, taps, before, after):
    """Pad, then filter each channel with the mirrored kernel: a true convolution."""
    kernel = taps.flip((0, 1)).expand(x.shape[1], 1, -1, -1)
    return F.conv2d(F.pad(x, (before, after, before, after)), kernel, groups=x.shape[1])


def upsample(x, taps):
    n = len(taps)  # padded as the original does it
    return convolve_true(insert_zeros(x), 4 * taps, (n + 1) // 2, (n - 2) // 2)


def style_of(state, key, w):
    weight = state[f"{key}.affine.weight"]
    return weight @ w / math.sqrt(W_DIM) + state[f"{key}.affine.bias"]


def styled_conv(state, key, x, w, noise, *, up, gain=1.0, clamp=math.inf):
    """One picture x (1, I, H, W) with its own weights (equations 1 and 3)."""
    weight = state[f"{key}.weight"] * style_of(state, key, w)[None, :, None, None]
    weight = weight / torch.sqrt((weight**2).sum((1, 2, 3), keepdim=True) + 1e-8)
    if up:
        # zeros inserted, the mirrored kernel, then the low-pass filter, each with all its borders
        x = F.conv2d(F.pad(insert_zeros(x), (2, 1, 2, 1)), weight.flip((2, 3)))
        n = len(state[f"{key}.resample_filter"])
        before, after = (n + 1) // 2 - 1, (n - 2) // 2
        x = convolve_true(x, 4 * state[f"{key}.resample_filter"], before, after)
    else:
        x = F.conv2d(x, weight, padding=1)
    if f"{key}.noise_strength" in state:
        x = x + noise * state[f"{key}.noise_strength"]
    x = x + state[f"{key}.bias"][:, None, None]
    return (torch.where(x < 0, 0.2 * x, x) * math.sqrt(2) * gain).clamp(-clamp * gain, clamp * gain)


def colours_of(state, key, x, w, clamp):
    style = style_of(state, key, w) / math.sqrt(x.shape[1])
    rgb = F.conv2d(x, state[f"{key}.weight"] * style[None, :, None, None])
    return (rgb + state[f"{key}.bias"][:, None, None]).clamp(-clamp, clamp)


def draw_reference(state, architecture, ws, noise_maps, clamp=math.inf):
    """One picture (1, 3, 16, 16) from ws (6, D)."""
    state = {key: tensor.double() for key, tensor in state.items()}
    x = state["synthesis.b4.const"][None]
    noise_maps = noise_maps or [torch.zeros(())] * 5
    x = styled_conv(state, "synthesis.b4.conv1", x, ws[0], noise_maps[0], up=False, clamp=clamp)
    is_skip = architecture == "skip"
    rgb = colours_of(state, "synthesis.b4.torgb", x, ws[1], clamp) if is_skip else None
    for size, i in ((8, 1), (16, 3)):
        b = f"synthesis.b{size}"
        taps = state[f"{b}.resample_filter"]
        before = x
        x = styled_conv(state, f"{b}.conv0", x, ws[i], noise_maps[i], up=True, clamp=clamp)
        gain = math.sqrt(0.5) if architecture == "resnet" else 1
        x = styled_conv(
            state, f"{b}.conv1", x, ws[i + 1], noise_maps[i + 1], up=False, gain=gain, clamp=clamp
        )
        if architecture == "resnet":
            weight = state[f"{b}.skip.weight"] / math.sqrt(before.shape[1])
            x = x + math.sqrt(0.5) * F.conv2d(upsample(before, taps), weight)
        if architecture == "skip":
            rgb = upsample(rgb, taps) + colours_of(state, f"{b}.torgb", x, ws[i + 2], clamp)
    return rgb if rgb is not None else colours_of(state, "synthesis.b16.torgb", x, ws[5], clamp)


FILTERS = {
    "smooth": SMOOTH,
    "lopsided": LOPSIDED,
    "2 taps": torch.tensor([0.3, 0.7]),
    "3 taps": torch.tensor([0.2, 0.5, 0.3]),
    "5 taps": torch.tensor([0.1, 0.2, 0.4, 0.1, 0.2]),
    "6 taps": torch.tensor([0.1, 0.2, 0.4, 0.1, 0.1, 0.1]),
}


@pytest.mark.parametrize("clamp", [math.inf, 1.5])
@pytest.mark.parametrize("row", FILTERS.values(), ids=FILTERS)
@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_pictures_are_those_of_the_formulas(architecture, row, clamp):
    state = random_state(architecture, row=row)
    # the filter of a convolution that does not resample is kept and not used
    state["synthesis.b8.conv1.resample_filter"] = torch.zeros(4, 4)
    G = StyleGAN2.from_state_dict(state, Constants(conv_clamp=clamp)).double()
    assert (G.num_ws, G.resolution, G.noise_sizes) == (6, 16, (4, 8, 8, 16, 16))
    rng = torch.Generator().manual_seed(1)
    ws = torch.randn(2, 6, W_DIM, generator=rng, dtype=torch.float64)
    noise_maps = [
        torch.randn(2, 1, size, size, generator=rng, dtype=torch.float64) for size in G.noise_sizes
    ]
    got = G.synthesis(ws, noise_maps)
    for b in range(2):
        own_noise = [noise[b : b + 1] for noise in noise_maps]
        want = draw_reference(state, architecture, ws[b], own_noise, clamp)
        # double precision on both sides
        torch.testing.assert_close(got[b : b + 1], want, rtol=1e-10, atol=1e-10)


def test_a_network_without_noise_maps():
    state = {k: v for k, v in random_state("skip").items() if ".noise_" not in k}
    G = StyleGAN2.from_state_dict(state).double()
    assert G.noise_sizes == ()
    assert G.stored_noise() == G.zero_noise() == []
    ws = torch.randn(1, 6, W_DIM, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    want = draw_reference(state, "skip", ws[0], [])
    torch.testing.assert_close(G.synthesis(ws, []), want, rtol=1e-10, atol=1e-10)


def test_stored_noise_of_a_residual_network():
    state = random_state("resnet")
    maps = StyleGAN2.from_state_dict(state).stored_noise()
    assert torch.equal(maps[3][0, 0], state["synthesis.b16.conv0.noise_const"])


def test_weights_stored_in_half_precision_load():
    state = random_state("resnet")
    G = StyleGAN2.from_state_dict({key: tensor.half() for key, tensor in state.items()})
    assert {tensor.dtype for tensor in G.state_dict().values()} == {torch.float32}


def test_a_network_with_classes_draws_the_chosen_one():
    G = StyleGAN2.from_state_dict(random_state("skip", num_classes=4))
    assert (G.num_classes, G.z_dim, G.w_dim) == (4, Z_DIM, W_DIM)
    z = torch.ones(1, Z_DIM)
    with pytest.raises(ValueError, match="these weights draw 4 classes: choose one, 0 to 3"):
        G.mapping(z)
    styles = []
    for index in (0, 3, 0):
        G.choose_class(index)
        styles.append(G.mapping(z))
    assert torch.equal(styles[0], styles[2])
    assert not torch.allclose(styles[0], styles[1], atol=0.01)
    with pytest.raises(ValueError, match="got class 4, expected 0 to 3"):
        G.choose_class(4)


def test_networks_without_classes_have_none_to_choose():
    G = StyleGAN2.from_state_dict(random_state("skip"))
    assert G.num_classes == 0
    with pytest.raises(ValueError, match="got class 1, but these weights know no classes"):
        G.choose_class(1)


def test_stylegan1_has_no_classes_to_choose():
    shapes = {"const": (1, 2, 4, 4), "bias": (2,), "conv.weight": (2, 2, 3, 3), "conv.bias": (2,)}
    for i in (1, 2):
        shapes[f"epi{i}.noise.weight"] = (2,)
        shapes[f"epi{i}.style_mod.lin.weight"] = (4, 3)
        shapes[f"epi{i}.style_mod.lin.bias"] = (4,)
    state = {f"synthesis.blocks.4x4.{key}": torch.zeros(shape) for key, shape in shapes.items()}
    state["synthesis.torgb.weight"] = torch.zeros(3, 2, 1, 1)
    state["synthesis.torgb.bias"] = torch.zeros(3)
    G = StyleGAN1.from_state_dict(state)
    assert G.num_classes == 0
    with pytest.raises(ValueError, match="got class 1, but these weights know no classes"):
        G.choose_class(1)


@pytest.mark.parametrize(
    ("architecture", "missing", "message"),
    [
        ("skip", "synthesis.b16.torgb.weight", "no key synthesis.b16.torgb.weight"),
        ("orig", "synthesis.b4.resample_filter", "no key synthesis.b4.resample_filter"),
        ("skip", "synthesis.b8.torgb.weight", r"missing keys \['synthesis.b8.torgb.weight'\]"),
        ("resnet", "synthesis.b16.skip.weight", r"missing keys \['synthesis.b16.skip.weight'\]"),
    ],
)
def test_missing_keys_are_named(architecture, missing, message):
    state = random_state(architecture)
    del state[missing]
    with pytest.raises(ValueError, match=message):
        StyleGAN2.from_state_dict(state)


def test_network_of_one_channel_is_refused():
    with pytest.raises(ValueError, match=r"synthesis\.b16 draws 1 channels, expected 3"):
        StyleGAN2.from_state_dict(random_state("orig", colours=1))


@pytest.mark.parametrize("shape", [(1, 1), (4, 3), (4,)])
def test_filter_of_another_shape_is_refused(shape):
    state = random_state("orig")
    state["synthesis.b8.conv0.resample_filter"] = torch.zeros(shape)
    message = r"b8.conv0.resample_filter has shape \(.*\), expected a square of 2 or more"
    with pytest.raises(ValueError, match=message):
        StyleGAN2.from_state_dict(state)


@pytest.mark.parametrize("key", ["synthesis.b8.skip.weight", "mapping.embed.bias"])
def test_wrong_shape_names_the_key(key):
    state = random_state("resnet", num_classes=2)
    state[key] = torch.zeros(9)
    with pytest.raises(ValueError, match=rf"{key} has shape \(9,\), expected \("):
        StyleGAN2.from_state_dict(state)
