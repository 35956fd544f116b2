"""StyleGAN3 against pictures that the official implementation drew with the same small weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from pulse.generators.stylegan3 import StyleGAN3
from pulse.generators.stylegan3_plan import plan_layers, sampling_rates

DATA = Path(__file__).parent.parent / "data" / "generators"
CONFIGURATIONS = ["sg3-t", "sg3-r"]
# Both sides computed in single precision, in another order: a few units in the last place of 24
# bits, through eight layers. Measured: 1.3e-6.
TOLERANCE = 1e-5


def weights(name):
    return load_file(DATA / f"{name}.safetensors")


def expected(name):
    with np.load(DATA.parent / "checkpoints" / f"{name}.expected.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays}


def relative_error(got, want):
    assert got.shape == want.shape
    return float((got - want).abs().max() / want.abs().max())


@pytest.fixture(params=CONFIGURATIONS)
def name(request):
    return request.param


@pytest.fixture
def G(name):
    return StyleGAN3.from_state_dict(weights(name))


def test_sizes_are_read_from_names_and_shapes(G):
    assert G.architecture == "stylegan3"
    assert (G.z_dim, G.w_dim, G.num_ws, G.resolution) == (64, 64, 8, 32)
    assert G.noise_sizes == ()
    assert G.num_classes == 0
    assert not any(p.requires_grad for p in G.parameters())


def test_styles_match_the_official_mapping(G, name):
    want = expected(name)
    w = G.mapping(want["z"])
    assert relative_error(G.broadcast(w), want["ws"]) < TOLERANCE
    assert relative_error(G.broadcast(G.truncate(w, 0.7)), want["ws_trunc"]) < TOLERANCE


@pytest.mark.parametrize(
    ("styles", "image"), [("ws", "image_none"), ("ws_plus", "image_plus_none")]
)
def test_pictures_match_the_official_synthesis(G, name, styles, image):
    want = expected(name)
    assert relative_error(G.synthesis(want[styles], []), want[image]) < TOLERANCE
    # the border to [0, 1]
    assert relative_error(G.render(want[styles], []), (want[image] + 1) / 2) < TOLERANCE


def test_a_picture_does_not_depend_on_its_batch(G, name):
    ws = expected(name)["ws_plus"]
    alone = torch.cat([G.synthesis(ws[i : i + 1], []) for i in range(3)])
    assert relative_error(G.synthesis(ws, []), alone) < TOLERANCE


def test_weights_stored_in_half_precision_load(name):
    state = {key: tensor.half() for key, tensor in weights(name).items()}
    G = StyleGAN3.from_state_dict(state)
    want = expected(name)
    assert G.synthesis(want["ws"], []).dtype == torch.float32
    # half precision keeps 11 bits: 5e-4 for each weight
    assert relative_error(G.synthesis(want["ws"], []), want["image_none"]) < 1e-2


def test_a_network_with_classes_draws_the_chosen_one():
    state = weights("sg3-t")
    rng = torch.Generator().manual_seed(0)
    state["mapping.embed.weight"] = torch.randn(64, 3, generator=rng)
    state["mapping.embed.bias"] = torch.zeros(64)
    state["mapping.fc0.weight"] = 100 * torch.randn(64, 128, generator=rng)
    G = StyleGAN3.from_state_dict(state)
    assert (G.num_classes, G.z_dim) == (3, 64)
    z = torch.ones(1, 64)
    with pytest.raises(ValueError, match="these weights draw 3 classes: choose one, 0 to 2"):
        G.mapping(z)
    G.choose_class(0)
    first = G.mapping(z)
    G.choose_class(2)
    assert not torch.allclose(G.mapping(z), first, atol=0.01)


def test_gradient_matches_finite_differences(G, name):
    G = G.double()
    ws = expected(name)["ws_plus"][:1].double().requires_grad_()
    rng = torch.Generator().manual_seed(0)
    G.synthesis.input.affine.weight.normal_(std=0.05, generator=rng)  # zero in the file
    target = torch.rand(1, 3, 32, 32, generator=rng, dtype=torch.float64)

    def loss(ws):
        return ((G.render(ws, []) - target) ** 2).sum()

    (gradient,) = torch.autograd.grad(loss(ws), ws)
    assert all(gradient[0, i].abs().max() > 0 for i in range(G.num_ws))
    for _ in range(3):
        direction = torch.randn(ws.shape, generator=rng, dtype=torch.float64)
        step = 1e-8 * direction
        with torch.no_grad():
            slope = (loss(ws + step) - loss(ws - step)) / 2e-8
        # a step this short crosses few of the kinks of a million leaky ReLUs; rounding leaves
        # 1e-16 / 1e-8 of a loss of about 1000
        assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=1e-5)


def randomised(name):
    """The small network with tensors that training would have moved from 0 and 1."""
    rng = torch.Generator().manual_seed(0)
    state = weights(name)
    for key, tensor in state.items():
        if key.endswith("bias"):
            tensor += torch.randn(tensor.shape, generator=rng)
        if key.endswith("magnitude_ema"):
            tensor += torch.rand([], generator=rng)
        if key in ("synthesis.input.affine.weight", "synthesis.input.transform"):
            tensor += 0.1 * torch.randn(tensor.shape, generator=rng)
    return StyleGAN3.from_state_dict(state).double(), rng


def resample(x, taps, up, down, before, after):
    """Insert zeros, pad or crop, filter, keep every `down`-th sample: the definition."""
    spread = x.new_zeros(*x.shape[:2], up * x.shape[2], up * x.shape[3])
    spread[:, :, ::up, ::up] = x
    spread = F.pad(spread, (before, after, before, after))
    kernel = taps if taps.ndim == 2 else taps[:, None] * taps[None, :]
    kernel = kernel.flip((0, 1)).expand(x.shape[1], 1, -1, -1)
    return up**2 * F.conv2d(spread, kernel, groups=x.shape[1])[:, :, ::down, ::down]


def layer_reference(layer, plan, x, w):
    """One picture with its own weights; the padding as in the paper's appendix C.3."""
    style = layer.affine.weight @ w[0] / w.shape[1] ** 0.5 + layer.affine.bias
    weight = layer.weight * style[None, :, None, None]
    k = plan.kernel_size
    if plan.up_shape:
        weight = weight / ((weight**2).sum((1, 2, 3), keepdim=True)).sqrt()
    else:
        weight = weight / plan.in_channels**0.5
    x = F.conv2d(x / layer.magnitude_ema.sqrt(), weight, padding=k - 1)
    x = x + layer.bias[:, None, None]
    if not plan.up_shape:
        return x.clamp(-256, 256)
    up, down, up_taps, down_taps = plan.up, plan.down, plan.up_shape[0], plan.down_shape[0]
    total = (plan.out_size - 1) * down + 1 - (plan.in_size + k - 1) * up + up_taps + down_taps - 2
    before = (total + up) // 2
    x = resample(x, layer.up_filter, up, 1, before, total - before)
    x = (2**0.5 * torch.where(x < 0, 0.2 * x, x)).clamp(-256, 256)
    return resample(x, layer.down_filter, 1, down, 0, 0)


@pytest.mark.parametrize("layer_index", range(7))
def test_layers_are_those_of_the_formulas(name, layer_index):
    G, rng = randomised(name)
    plan = plan_layers(weights(name))[layer_index]
    layer = G.synthesis.get_submodule(plan.name)
    x = torch.randn(1, plan.in_channels, plan.in_size, plan.in_size, generator=rng).double()
    x = 100 * x  # some samples reach the clamp
    w = torch.randn(1, 64, generator=rng).double()
    got, want = layer(x, w), layer_reference(layer, plan, x, w)
    assert got.shape == (1, plan.out_channels, plan.out_size, plan.out_size)
    # 1e-8 in the demodulation, which the reference leaves out
    torch.testing.assert_close(got, want, rtol=1e-7, atol=1e-7)


def test_pose_is_rotation_after_translation_after_transform():
    G, rng = randomised("sg3-t")
    w = torch.randn(1, 64, generator=rng).double()
    cos, sin, dx, dy = G.synthesis.input.affine(w)[0]
    norm = (cos**2 + sin**2).sqrt()
    rotation = torch.tensor([[cos, -sin, 0], [sin, cos, 0], [0, 0, norm]]).double() / norm
    translation = torch.tensor([[1, 0, -dx / norm], [0, 1, -dy / norm], [0, 0, 1]]).double()
    want = (rotation @ translation @ G.synthesis.input.transform)[None, :2]
    # the tensors above pass through single precision
    torch.testing.assert_close(G.synthesis.input.pose(w), want, rtol=1e-5, atol=1e-5)


def input_network():
    state = weights("sg3-t")
    rng = torch.Generator().manual_seed(0)
    state["synthesis.input.affine.weight"] = torch.zeros(4, 64)
    freqs = torch.randn(32, 2, generator=rng)
    state["synthesis.input.freqs"] = freqs / freqs.norm(dim=1, keepdim=True)
    return StyleGAN3.from_state_dict(state).synthesis.input


def test_input_moves_by_the_translation_that_the_style_asks_for():
    network = input_network()
    w = torch.zeros(1, 64)
    network.affine.bias.copy_(torch.tensor([1.0, 0, 0, 0]))
    still = network(w)
    # a shift of 3 samples right and 2 down, in units of the picture (16 samples)
    network.affine.bias.copy_(torch.tensor([1.0, 0, 3 / 16, 2 / 16]))
    moved = network(w)
    # sine of up to 8 cycles in single precision
    torch.testing.assert_close(moved[..., 2:, 3:], still[..., :-2, :-3], rtol=0, atol=2e-5)


def test_input_turns_by_the_angle_that_the_style_asks_for():
    network = input_network()
    w = torch.zeros(1, 64)
    network.affine.bias.copy_(torch.tensor([1.0, 0, 0, 0]))
    still = network(w)
    network.affine.bias.copy_(torch.tensor([0, 2.0, 0, 0]))  # only the direction of (0, 2) counts
    turned = network(w)
    torch.testing.assert_close(turned, still.rot90(1, (2, 3)), rtol=0, atol=2e-5)


def test_a_user_transform_moves_the_input():
    network = input_network()
    network.affine.bias.copy_(torch.tensor([1.0, 0, 0, 0]))
    network.transform.copy_(torch.eye(3))
    still = network(torch.zeros(1, 64))
    network.transform[0, 2] = -1 / 16
    moved = network(torch.zeros(1, 64))
    torch.testing.assert_close(moved[..., 1:], still[..., :-1], rtol=0, atol=2e-5)


def test_waves_too_fine_for_the_sampling_rate_fade_out():
    network = input_network()
    freqs = torch.tensor([[[2.0, 0.0], [0.0, 5.0], [8.0, 0.0], [9.0, 9.0]]])
    # full at the first cutoff of 2, none from half the sampling rate of 16 on
    assert network.amplitudes(freqs)[0].tolist() == pytest.approx([1, 0.5, 0, 0])


def full_size(sizes, taps=12):
    state = {}
    for i, size in enumerate(sizes):
        name = f"synthesis.L{i}_{size}_8"
        state[f"{name}.weight"] = torch.empty(3 if i == len(sizes) - 1 else 8, 8, 3, 3)
        state[f"{name}.up_filter"] = torch.empty(taps)
        state[f"{name}.down_filter"] = torch.empty(taps)
    return state


def test_factors_follow_from_the_sizes_of_the_published_1024_px_network():
    sizes = [36, 36, 52, 52, 84, 148, 148, 276, 276, 532, 1044, 1044, 1044, 1024, 1024]
    plans = plan_layers(full_size(sizes))
    rates = [16, 16, 32, 32, 64, 128, 128, 256, 256, 512, 1024, 1024, 1024, 1024, 1024]
    assert [plan.out_rate for plan in plans] == rates
    assert [plan.up for plan in plans[:-1]] == [2, 2, 4, 2, 4, 4, 2, 4, 2, 4, 4, 2, 2, 2]
    assert all(plan.down == 2 for plan in plans)


def test_sampling_rate_of_a_size_that_fits_nothing():
    last = ["L1_64_8", "L2_64_3"]
    for size in (50, 148, 64):
        message = (
            f"L0_{size}_8 is {size} px a side, expected a power of two up to 64 with 10 px more on"
        )
        with pytest.raises(ValueError, match=message):
            sampling_rates([f"L0_{size}_8", *last])
    with pytest.raises(ValueError, match="L1_84_8 is 84 px a side, expected 64"):
        sampling_rates(["L0_36_8", "L1_84_8", "L2_64_3"])


def test_sampling_rates_of_sizes_that_are_no_powers_of_two():
    """The last two layers have the picture's size and the next finer rate, whatever the size."""
    names = ["L0_36_8", "L1_84_8", "L2_148_8", "L3_96_8", "L4_96_3"]
    assert sampling_rates(names) == [16, 64, 128, 128, 128]
    # 36 px: a picture, not a rate of 16 with its margin
    assert sampling_rates(["L0_36_8", "L1_84_8", "L2_36_8", "L3_36_3"]) == [16, 64, 64, 64]
    assert sampling_rates(["L0_20_8", "L1_16_8", "L2_16_3"], margin_px=2) == [16, 16, 16]


def test_wrong_shape_names_the_key():
    state = weights("sg3-t")
    state["synthesis.L3_52_32.bias"] = torch.zeros(31)
    message = r"synthesis.L3_52_32.bias has shape \(31,\), expected \(32,\)"
    with pytest.raises(ValueError, match=message):
        StyleGAN3.from_state_dict(state)


def test_missing_layer_is_named():
    state = {k: v for k, v in weights("sg3-t").items() if ".L5_" not in k}
    with pytest.raises(ValueError, match=r"got the layers \['L0_36_32', .*'L6_32_3'\], expected"):
        StyleGAN3.from_state_dict(state)
    with pytest.raises(ValueError, match=r"got the layers \[\], expected"):
        StyleGAN3.from_state_dict({})


def test_missing_and_misshapen_filters_are_named():
    state = weights("sg3-r")
    state["synthesis.L2_52_64.down_filter"] = torch.zeros(12, 11)
    message = r"L2_52_64.down_filter has shape \(12, 11\), expected \(taps,\) or \(taps, taps\)"
    with pytest.raises(ValueError, match=message):
        StyleGAN3.from_state_dict(state)
    del state["synthesis.L2_52_64.down_filter"]
    with pytest.raises(ValueError, match=r"no key synthesis\.L2_52_64\.down_filter"):
        StyleGAN3.from_state_dict(state)


def test_filter_that_does_not_fit_the_sizes_is_named():
    state = weights("sg3-t")
    state["synthesis.L0_36_32.up_filter"] = torch.zeros(6)
    message = "L0_36_32 has 80 samples a side before its last filter, expected 82 or an even"
    with pytest.raises(ValueError, match=message):
        StyleGAN3.from_state_dict(state)
    state["synthesis.L0_36_32.up_filter"] = torch.zeros(13)
    with pytest.raises(ValueError, match=r"L0_36_32 has 87 samples a side .*, expected 82 or an"):
        StyleGAN3.from_state_dict(state)


def test_network_of_one_channel_is_refused():
    state = weights("sg3-t")
    for kind in ("weight", "bias", "magnitude_ema", "affine.weight", "affine.bias"):
        state[f"synthesis.L6_32_1.{kind}"] = state.pop(f"synthesis.L6_32_3.{kind}")
    with pytest.raises(ValueError, match="L6_32_1 draws 1 channels, expected 3"):
        StyleGAN3.from_state_dict({**state, "synthesis.L6_32_1.weight": torch.zeros(1, 32, 1, 1)})


def test_there_are_no_blocks_of_one_size():
    G = StyleGAN3.from_state_dict(weights("sg3-t"))
    with pytest.raises(ValueError, match="stylegan3 has no blocks of one size"):
        G.features(torch.zeros(1, G.num_ws, G.w_dim), [], 32)
    assert G.layers_above(4) == 0
