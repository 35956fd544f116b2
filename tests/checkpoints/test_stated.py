"""What files state beside their tensors: it is honoured, or refused by name, and kept."""

from __future__ import annotations

import json
import math
import pickle

import pytest
import torch
from helpers import DATA, expected_of, relative_error
from pickle_files import Persistent, nvidia_modules, tensorflow_network
from safetensors.torch import load_file, save_file
from stylegan2_states import random_state

from pulse.checkpoints.convert import convert
from pulse.checkpoints.load import load_network
from pulse.errors import WeightsError
from pulse.generators.constants import Constants
from pulse.generators.stylegan1 import StyleGAN1
from pulse.generators.stylegan2 import StyleGAN2
from pulse.generators.stylegan3 import StyleGAN3

__all__ = ["nvidia_modules"]


def persistent(state, attributes, name=""):
    """A network as NVIDIA's code pickles it: modules by the dots in the keys, and attributes."""
    parts = {key.split(".", 1)[0] for key in state if "." in key}
    tensors = {key: tensor for key, tensor in state.items() if "." not in key}
    modules = {
        part: persistent(
            {k.split(".", 1)[1]: v for k, v in state.items() if k.startswith(f"{part}.")},
            attributes,
            f"{name}{part}.",
        )
        for part in sorted(parts)
    }
    own = attributes(name)
    return Persistent({"_parameters": tensors, "_buffers": {}, "_modules": modules, **own})


def pickled(tmp_path, state, attributes):
    path = tmp_path / "network.pkl"
    path.write_bytes(pickle.dumps({"G": None, "D": None, "G_ema": persistent(state, attributes)}))
    return path


def drawn(network, ws=None):
    rng = torch.Generator().manual_seed(0)
    if ws is None:
        ws = torch.randn(2, network.num_ws, network.w_dim, generator=rng)
    return network.synthesis(ws, network.stored_noise())


def kept_by_conversion(loaded, tmp_path):
    """The same picture from the converted file."""
    convert(loaded, tmp_path / "copy.safetensors", None, overwrite=True)
    copy = load_network(tmp_path / "copy.safetensors").network
    assert copy.constants == loaded.network.constants
    z = torch.ones(1, loaded.network.z_dim)
    assert torch.equal(copy.mapping(z), loaded.network.mapping(z))
    return torch.equal(drawn(copy), drawn(loaded.network))


def stylegan2_attributes(**changes):
    def attributes(name):
        if name.startswith("mapping.fc"):
            return {"activation": "lrelu", "bias_gain": changes.get("lr", 0.01)}
        if name.endswith((".conv0.", ".conv1.")):
            activation = changes.get("activation", "lrelu")
            return {"activation": activation, "conv_clamp": changes.get("clamp")}
        return {}

    return attributes


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
@pytest.mark.parametrize("clamp", [None, 0.8, 256])
def test_the_clamp_of_stylegan2(tmp_path, architecture, clamp):
    state = random_state(architecture)
    loaded = load_network(pickled(tmp_path, state, stylegan2_attributes(clamp=clamp)))
    want = StyleGAN2.from_state_dict(state, Constants(conv_clamp=clamp))
    assert torch.equal(drawn(loaded.network), drawn(want))
    is_cut = not torch.equal(drawn(want), drawn(StyleGAN2.from_state_dict(state)))
    assert is_cut == (clamp == 0.8)
    assert kept_by_conversion(loaded, tmp_path)


def test_the_multiplier_of_the_mapping_network(tmp_path):
    state = random_state("skip")
    loaded = load_network(pickled(tmp_path, state, stylegan2_attributes(lr=0.5)))
    z = torch.ones(1, loaded.network.z_dim)
    default = StyleGAN2.from_state_dict(state)
    # one layer: leaky ReLU is linear in the factor
    torch.testing.assert_close(loaded.network.mapping(z), 50 * default.mapping(z))
    assert kept_by_conversion(loaded, tmp_path)


def test_another_activation_is_refused_by_name(tmp_path):
    path = pickled(tmp_path, random_state("skip"), stylegan2_attributes(activation="swish"))
    with pytest.raises(WeightsError, match="a layer has the activation 'swish', expected lrelu"):
        load_network(path)


def test_a_network_without_noise_maps(tmp_path):
    state = {k: v for k, v in random_state("resnet").items() if ".noise_" not in k}
    loaded = load_network(pickled(tmp_path, state, stylegan2_attributes()))
    assert loaded.network.noise_sizes == ()
    assert kept_by_conversion(loaded, tmp_path)


def test_a_long_filter_is_kept_as_one_row(tmp_path):
    row = torch.arange(1.0, 9) / 36
    state = random_state("resnet", row=row)
    short = {k: row if k.endswith("resample_filter") else v for k, v in state.items()}
    loaded = load_network(pickled(tmp_path, short, stylegan2_attributes()))
    assert torch.equal(drawn(loaded.network), drawn(StyleGAN2.from_state_dict(state)))


def test_a_network_without_a_mean_style_gets_the_mean_over_z_and_classes(tmp_path):
    state = random_state("skip", num_classes=4)
    del state["mapping.w_avg"]
    network = load_network(pickled(tmp_path, state, stylegan2_attributes())).network
    rng = torch.Generator().manual_seed(5)
    z = torch.randn(20_000, network.z_dim, generator=rng)
    w = network.mapping(z, torch.eye(4).repeat(5000, 1))
    # means of 10,000 and 20,000 samples: 5 standard errors apart at most
    apart = (network.w_avg - w.mean(0)).abs() / w.std(0)
    assert apart.max() < 5 * (1 / 10_000 + 1 / 20_000) ** 0.5


def stylegan3_attributes(**changes):
    def attributes(name):
        if name == "synthesis.":
            return {"output_scale": changes.get("scale", 0.25), "margin_size": changes["margin"]}
        if name == "synthesis.input.":
            return {"bandwidth": changes.get("bandwidth", 2.0)}
        if name.startswith("synthesis.L") and name.count(".") == 2:
            rates = {"in_sampling_rate": 16, "out_sampling_rate": 32}
            clamp = changes.get("clamp", 256)
            return {**rates, "tmp_sampling_rate": changes.get("tmp", 64), "conv_clamp": clamp}
        return {"activation": "lrelu", "bias_gain": 0.01} if name.startswith("mapping.f") else {}

    return attributes


@pytest.mark.parametrize(
    ("changes", "constants"),
    [
        ({}, Constants()),
        ({"scale": 0.75}, Constants(output_gain=0.75)),
        ({"bandwidth": 1.0}, Constants(first_cutoff=1.0)),
        ({"clamp": 0.3}, Constants(conv_clamp=0.3)),
        ({"clamp": None}, Constants(conv_clamp=math.inf)),
    ],
)
def test_the_constants_of_stylegan3(tmp_path, changes, constants):
    state = load_file(DATA / "generators" / "sg3-t.safetensors")
    path = pickled(tmp_path, state, stylegan3_attributes(**changes, margin=10))
    loaded = load_network(path)
    want = StyleGAN3.from_state_dict(state, constants)
    # from published weights these constants are the same for half of the cases
    assert torch.equal(drawn(loaded.network), drawn(want))
    default = StyleGAN3.from_state_dict(state)
    same = changes == {"clamp": None} or not changes
    assert torch.equal(drawn(default), drawn(want)) == same
    assert kept_by_conversion(loaded, tmp_path)


def test_margin_and_oversampling_of_stylegan3(tmp_path):
    """Sizes with a margin of 6, and filters that upsample four times where others do twice."""
    rng = torch.Generator().manual_seed(0)
    state = {}
    for key, tensor in load_file(DATA / "generators" / "sg3-t.safetensors").items():
        for size, margin in ((36, 28), (52, 44)):
            key = key.replace(f"_{size}_", f"_{margin}_")
        if key.endswith("_filter"):
            tensor = torch.rand(2 * len(tensor), generator=rng) / len(tensor)
        state[key] = tensor
    path = pickled(tmp_path, state, stylegan3_attributes(margin=6, tmp=128))
    loaded = load_network(path)
    assert loaded.network.constants.margin_px == 6
    assert loaded.network.constants.oversampling == 4
    layer = loaded.network.synthesis.get_submodule("L2_44_32")
    assert (layer.up, layer.down) == (8, 4)
    assert drawn(loaded.network).shape == (2, 3, 32, 32)
    assert kept_by_conversion(loaded, tmp_path)


@pytest.mark.parametrize("rate", ["x", 0, -2, None])
def test_rates_that_are_none(tmp_path, rate):
    state = load_file(DATA / "generators" / "sg3-t.safetensors")
    with pytest.raises(WeightsError, match="a layer has the sampling rate"):
        load_network(pickled(tmp_path, state, stylegan3_attributes(margin=10, tmp=rate)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"clamp": "x"}, "the constant conv_clamp is 'x', expected a number from 0"),
        ({"clamp": -1}, "the constant conv_clamp is -1"),
        ({"scale": math.nan}, "the constant output_gain is nan"),
        ({"scale": math.inf}, "the constant output_gain is inf"),
        ({"bandwidth": [2]}, r"the constant first_cutoff is \[2\]"),
        ({"tmp": 48}, "the constant oversampling is 1.5, expected a whole number"),
        ({"tmp": 8}, "the constant oversampling is 0.25, expected a whole number"),
    ],
)
def test_constants_that_are_none(tmp_path, changes, words):
    state = load_file(DATA / "generators" / "sg3-t.safetensors")
    path = pickled(tmp_path, state, stylegan3_attributes(margin=10, **changes))
    with pytest.raises(WeightsError, match=words):
        load_network(path)


# --- TensorFlow ---------------------------------------------------------------------------------


def with_options(name, tmp_path, changed=(), **options):
    """A fixture of TensorFlow's form, rewritten with other options and variables."""
    from pulse.checkpoints.containers import read_container

    variables: dict[str, list] = {"synthesis": [], "mapping": [], "": []}
    tensors = read_container(DATA / "checkpoints" / f"{name}.pkl").tensors
    for key, tensor in (dict(tensors) | dict(changed)).items():
        component, _, inner = key.rpartition("/") if "/" not in key else key.partition("/")
        variables[component].append((inner, tensor.numpy()))
    parts = {
        part: tensorflow_network(variables=variables[part]) for part in ("synthesis", "mapping")
    }
    network = tensorflow_network(variables=variables[""], components=parts, static_kwargs=options)
    path = tmp_path / "options.pkl"
    path.write_bytes(pickle.dumps((network, network, network)))
    return load_network(path)


@pytest.mark.parametrize("name", ["tf-stylegan1-32", "tf-stylegan2-skip"])
def test_options_of_published_networks_change_nothing(name, tmp_path):
    options = {"nonlinearity": "lrelu", "mapping_lrmul": 0.01, "conv_clamp": None,
               "resample_kernel": [1, 3, 3, 1], "blur_filter": [1, 2, 1]}  # fmt: skip
    loaded = with_options(name, tmp_path, **options)
    expected = expected_of(name, "checkpoints")
    got = loaded.network.synthesis(expected["ws_plus"], loaded.network.zero_noise())
    assert relative_error(got, expected["image_plus_none"]) < 1e-4


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tf-stylegan1-32", {"fused_scale": True}),
        ("tf-stylegan1-32", {"blur_filter": [1, 4, 2]}),
        ("tf-stylegan2-skip", {"conv_clamp": 0.3}),
        ("tf-stylegan2-skip", {"resample_kernel": [1, 2, 1]}),
        ("tf-stylegan2-skip", {"resample_kernel": (1, 4, 2, 1)}),
    ],
)
def test_options_of_tensorflow_are_honoured_and_kept(name, options, tmp_path):
    loaded = with_options(name, tmp_path, **options)
    plain = with_options(name, tmp_path)
    assert not torch.allclose(drawn(loaded.network), drawn(plain.network), atol=0.01)
    assert kept_by_conversion(loaded, tmp_path)


def test_fused_upscaling_can_be_turned_off():
    """From 128 px on it is on; a network that says otherwise differs from there on."""
    state = load_network(DATA / "checkpoints" / "pulse-32.synthesis.pt").network.state_dict()
    block = {k: v for k, v in state.items() if ".32x32." in k}
    for size in (64, 128):
        state |= {
            k.replace("32x32", f"{size}x{size}"): v
            if "conv0_up.weight" not in k
            else v.repeat(1, 2, 1, 1)[:, : v.shape[0]]
            for k, v in block.items()
        }
    G, separate, fused = (
        StyleGAN1.from_state_dict(state, Constants(is_upscaling_fused=k)) for k in (None, 0, 1)
    )
    blocks = [[b.conv0_up.is_fused for b in list(g.synthesis.blocks.values())[1:]] for g in
              (G, separate, fused)]  # fmt: skip
    assert blocks == [[False] * 4 + [True], [False] * 5, [True] * 5]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"use_pixel_norm": True}, "it was built with use_pixel_norm=True, which PULSE does not"),
        ({"nonlinearity": "relu"}, "it was built with nonlinearity='relu'"),
        ({"mapping_lrmul": "x"}, "the constant mapping_lr_multiplier is 'x'"),
        ({"fused_scale": []}, r"it was built with fused_scale=\[\]"),
        ({"blur_filter": [1, 2, 3, 4]}, "a blur of 4 taps, expected 3"),
    ],
)
def test_options_that_pulse_does_not_know(options, words, tmp_path):
    with pytest.raises(WeightsError, match=words):
        with_options("tf-stylegan1-32", tmp_path, **options)


def test_a_network_that_was_still_growing_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"saved while it grew: .* \(lod above 0\)"):
        with_options("tf-stylegan1-32", tmp_path, {"synthesis/lod": torch.tensor(2.5)})


def test_tensorflow_keeps_its_stored_noise():
    from pulse.checkpoints.containers import read_container

    path = DATA / "checkpoints" / "tf-stylegan1-32.pkl"
    tensors = read_container(path).tensors
    maps = load_network(path).network.stored_noise()
    assert [tuple(m.shape[2:]) for m in maps] == [(4, 4)] * 2 + [(8, 8)] * 2 + [(16, 16)] * 2 + [
        (32, 32)
    ] * 2
    assert all(torch.equal(m, tensors[f"synthesis/noise{i}"]) for i, m in enumerate(maps))
    assert all(m.abs().max() > 0 for m in maps)


def test_metadata_of_conversion_says_the_constants(tmp_path):
    loaded = load_network(pickled(tmp_path, random_state("skip"), stylegan2_attributes(clamp=2)))
    convert(loaded, tmp_path / "c.safetensors", None, overwrite=False)
    metadata = load_network(tmp_path / "c.safetensors").metadata
    assert json.loads(metadata["constants"]) == {"conv_clamp": 2, "mapping_lr_multiplier": 0.01}
    save_file(load_file(tmp_path / "c.safetensors"), tmp_path / "bare.safetensors")
    assert load_network(tmp_path / "bare.safetensors").network.constants == Constants()
