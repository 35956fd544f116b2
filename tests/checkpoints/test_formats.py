"""Every format that people hold, against what its original implementation drew."""

from __future__ import annotations

import argparse
import shutil

import pytest
import torch
from helpers import DATA, expected_of, relative_error
from safetensors.torch import save_file
from stylegan2_states import random_state

from pulse.checkpoints.convert import convert
from pulse.checkpoints.formats import FORMATS, detect
from pulse.checkpoints.load import load_network
from pulse.errors import WeightsError
from pulse.generators.stylegan1 import StyleGAN1

FIXTURES = {
    "ada-plain": ("ada-plain.pkl", "StyleGAN2 (NVIDIA, PyTorch)"),
    "sg3sg2-plain": ("sg3sg2-plain.pkl", "StyleGAN2 (NVIDIA, PyTorch)"),
    "sg3-t": ("sg3-t.pkl", "StyleGAN3 (NVIDIA, PyTorch)"),
    "sg3-r": ("sg3-r.pkl", "StyleGAN3 (NVIDIA, PyTorch)"),
    "rosinality-32": ("rosinality-32.pt", "StyleGAN2 (rosinality)"),
    "lernapparat-32": ("lernapparat-32.pt", "StyleGAN1 (lernapparat)"),
    "pulse-32": ("pulse-32.synthesis.pt", "StyleGAN1 (PULSE's synthesis.pt)"),
    "tf-stylegan1-32": ("tf-stylegan1-32.pkl", "StyleGAN1 (NVIDIA, TensorFlow)"),
    "tf-stylegan2-skip": ("tf-stylegan2-skip.pkl", "StyleGAN2 (NVIDIA, TensorFlow)"),
}
# What we promise; float32 leaves about 1e-6, and some 1e-5 for StyleGAN3's many filters.
TOLERANCE = {"stylegan1": 1e-4, "stylegan2": 1e-4, "stylegan3": 1e-3}

CASES = [
    (name, key)
    for name in FIXTURES
    for key in expected_of(name, "checkpoints")
    if key.startswith(("image_", "ws", "w_")) and key != "ws_plus"
]


@pytest.fixture(scope="module")
def loaded():
    """Each fixture loaded once."""
    return {name: load_network(DATA / "checkpoints" / file) for name, (file, _) in FIXTURES.items()}


def drawn(network, expected, key):
    """What our generator gives for an output of the original."""
    w = network.mapping(expected["z"])
    if key in ("w_avg", "w_mapping_raw"):
        return network.w_avg if key == "w_avg" else w
    if key == "ws_trunc":
        return network.broadcast(network.truncate(w, 0.7))
    if key == "ws":
        return w if expected["ws"].ndim == 2 else network.broadcast(w)
    noise = {
        "const": network.stored_noise,
        "none": network.zero_noise,
        "noise": lambda: [expected[f"noise_{i}"] for i in range(len(network.noise_sizes))],
    }[key.rsplit("_", 1)[1]]
    ws = expected["ws_plus"] if "plus" in key else expected["ws"]
    return network.synthesis(network.broadcast(ws) if ws.ndim == 2 else ws, noise())


@pytest.mark.parametrize(("name", "key"), CASES)
def test_outputs_are_those_of_the_original(loaded, name, key):
    network = loaded[name].network
    expected = expected_of(name, "checkpoints")
    got = drawn(network, expected, key)
    assert got.shape == expected[key].shape
    assert relative_error(got, expected[key]) < TOLERANCE[network.architecture]


@pytest.mark.parametrize("name", FIXTURES)
def test_the_format_is_told_from_the_keys(loaded, name):
    assert loaded[name].format == FIXTURES[name][1]


@pytest.mark.parametrize("name", FIXTURES)
def test_conversion_keeps_every_tensor_and_picture(loaded, name, tmp_path):
    target = tmp_path / "new" / "copy.safetensors"
    convert(loaded[name], target, "CC0", overwrite=False)
    copy = load_network(target)
    state = loaded[name].network.state_dict()
    assert copy.network.state_dict().keys() == state.keys()
    assert all(torch.equal(copy.network.state_dict()[key], state[key]) for key in state)
    assert copy.metadata["architecture"] == copy.network.architecture
    assert copy.metadata["source_sha256"] == loaded[name].sha256
    assert copy.metadata["licence"] == "CC0"


def test_conversion_does_not_write_over_files(loaded, tmp_path):
    target = tmp_path / "copy.safetensors"
    target.write_text("mine")
    with pytest.raises(WeightsError, match="is there already; choose another name, or --over"):
        convert(loaded["ada-plain"], target, None, overwrite=False)
    assert target.read_text() == "mine"
    convert(loaded["ada-plain"], target, None, overwrite=True)
    assert load_network(target).network.resolution == 32
    with pytest.raises(WeightsError, match=r"copy\.pt must end in \.safetensors"):
        convert(loaded["ada-plain"], tmp_path / "copy.pt", None, overwrite=False)


def test_a_copy_that_differs_is_removed_and_told(loaded, tmp_path, monkeypatch):
    """A disk that changes one value: the copy must not stay."""
    from pulse.checkpoints import convert as module

    def save_wrongly(state, metadata):
        key = "synthesis.b8.conv1.weight"
        return save(state | {key: state[key] + 1e-3}, metadata)

    save = module.save
    monkeypatch.setattr(module, "save", save_wrongly)
    target = tmp_path / "copy.safetensors"
    match = r"did not come back as written: the tensors synthesis\.b8\.conv1\.weight differ; it was"
    with pytest.raises(WeightsError, match=match):
        convert(loaded["ada-plain"], target, None, overwrite=False)
    assert not target.exists()


def genforce_of(network: StyleGAN1) -> dict[str, torch.Tensor]:
    """The same generator under GenForce's names, written from the published key list."""
    state = network.state_dict()
    out = {k: v for k, v in state.items() if k.startswith("mapping.dense")}
    out["truncation.w_avg"] = torch.arange(64.0)
    out["synthesis.lod"] = torch.zeros(())
    for i in range(network.num_ws):
        size = 4 * 2 ** (i // 2)
        block, epilogue = f"synthesis.blocks.{size}x{size}.", f"epi{i % 2 + 1}."
        style = f"{block}{epilogue}style_mod.lin."
        layer = f"synthesis.layer{i}."
        out[layer + "apply_noise.weight"] = state[f"{block}{epilogue}noise.weight"]
        out[layer + "apply_noise.noise"] = torch.zeros(1, 1, size, size)
        out[layer + "style.weight"] = state[style + "weight"]
        out[layer + "style.bias"] = state[style + "bias"]
        conv = {0: "", 1: "conv."}.get(i, ("conv0_up.", "conv1.")[i % 2])
        out[layer + "bias"] = state[f"{block}{conv}bias"]
        if i == 0:
            out[layer + "const"] = state[block + "const"]
        else:
            out[layer + "weight"] = state[f"{block}{conv}weight"]
        if i >= 2 and i % 2 == 0:
            channels = len(out[layer + "bias"])
            out[layer + "blur.kernel"] = torch.zeros(channels, 1, 3, 3)
    for k in range(network.num_ws // 2):
        out[f"synthesis.output{k}.weight"] = state["synthesis.torgb.weight"] + (k < 3)
        out[f"synthesis.output{k}.bias"] = state["synthesis.torgb.bias"] + (k < 3)
    return out


@pytest.mark.parametrize("wrapper", [None, "generator_smooth"])
def test_genforce(loaded, tmp_path, wrapper):
    """No original file is at hand: the lernapparat fixture, renamed, must draw the same."""
    state = genforce_of(loaded["lernapparat-32"].network)
    path = tmp_path / "stylegan_ffhq.pth"
    torch.save({wrapper: state, "generator": {}} if wrapper else state, path)
    copy = load_network(path)
    assert copy.format == "StyleGAN1 (GenForce)"
    assert copy.network.w_avg.tolist() == list(range(64))
    expected = expected_of("lernapparat-32", "checkpoints")
    for key in ("w_mapping_raw", "image_plus_none", "image_plus_noise"):
        assert relative_error(drawn(copy.network, expected, key), expected[key]) < 1e-4


def rosinality_training_file():
    content = torch.load(DATA / "checkpoints" / "rosinality-32.pt", weights_only=True)
    del content["latent_avg"]
    noise = {key: tensor + 1 for key, tensor in content["g_ema"].items()}
    return {"g": noise, "d": {"final.bias": torch.zeros(1)}, **content, "g_optim": {"state": {}},
            "args": argparse.Namespace(size=32, iter=550_000), "ada_aug_p": 0.5}  # fmt: skip


def test_a_training_file_gives_its_averaged_generator_and_a_sampled_mean(loaded, tmp_path):
    path = tmp_path / "550000.pt"
    torch.save(rosinality_training_file(), path)
    network, want = load_network(path).network, loaded["rosinality-32"].network
    for key, tensor in want.state_dict().items():
        assert key == "mapping.w_avg" or torch.equal(network.state_dict()[key], tensor)
    z = torch.randn(20_000, 64, generator=torch.Generator().manual_seed(5))
    w = network.mapping(z)
    # means of 10,000 and 20,000 samples: 5 standard errors apart at most
    apart = (network.w_avg - w.mean(0)).abs() / w.std(0)
    assert apart.max() < 5 * (1 / 10_000 + 1 / 20_000) ** 0.5


def test_pulse_files_find_each_other(tmp_path):
    for part in ("synthesis", "mapping"):
        shutil.copy(DATA / "checkpoints" / f"pulse-32.{part}.pt", tmp_path / f"{part}.pt")
    one, two = (load_network(tmp_path / f"{part}.pt") for part in ("synthesis", "mapping"))
    state = one.network.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in two.network.state_dict().items())
    assert [path.name for path in one.paths] == ["synthesis.pt", "mapping.pt"]


def test_a_mapping_network_of_another_generator_is_refused(tmp_path):
    for part in ("synthesis", "mapping"):
        shutil.copy(DATA / "checkpoints" / f"pulse-32.{part}.pt", tmp_path / f"{part}.pt")
    state = torch.load(tmp_path / "mapping.pt", weights_only=True)
    state["dense7.weight"], state["dense7.bias"] = torch.zeros(32, 64), torch.zeros(32)
    torch.save(state, tmp_path / "mapping.pt")
    match = "gives styles of 32 numbers, but the synthesis network takes 64: they are not of one"
    with pytest.raises(WeightsError, match=match):
        load_network(tmp_path / "synthesis.pt")


def test_a_mapping_alone_is_no_generator(tmp_path):
    path = tmp_path / "mapping.pt"
    shutil.copy(DATA / "checkpoints" / "pulse-32.mapping.pt", path)
    with pytest.raises(WeightsError, match=r"mapping\.pt is PULSE's mapping network alone; put"):
        load_network(path)


def test_no_two_formats_begin_alike():
    assert len({format_.keys[0] for format_ in FORMATS}) == len(FORMATS)


@pytest.mark.parametrize("name", FIXTURES)
def test_every_key_that_a_format_lists_is_in_its_files(loaded, name):
    """So that the nearest format is found by keys that exist."""
    import re

    from pulse.checkpoints.containers import read_container

    tensors = read_container(DATA / "checkpoints" / FIXTURES[name][0]).tensors
    format_, inner = detect(tensors)
    for key in format_.keys:
        pattern = re.compile(re.escape(key).replace("N", r"\d+"))
        assert any(pattern.fullmatch(name) for name in inner) or "N" not in key


def without(state, *parts):
    return {k: v for k, v in state.items() if not any(part in k for part in parts)}


def test_the_nearest_format_is_named_with_what_it_lacks(tmp_path):
    content = torch.load(DATA / "checkpoints" / "rosinality-32.pt", weights_only=True)
    path = tmp_path / "half.pt"
    torch.save({"g_ema": without(content["g_ema"], "conv1.conv.modulation")}, path)
    with pytest.raises(
        WeightsError,
        match=r"half\.pt is no generator that PULSE can load: it comes nearest to StyleGAN2 "
        r"\(rosinality\), but has no key conv1\.conv\.modulation\.weight; its first keys are g_ema",
    ):
        load_network(path)


def test_a_missing_tensor_is_named_as_the_file_would(tmp_path):
    content = torch.load(DATA / "checkpoints" / "rosinality-32.pt", weights_only=True)
    path = tmp_path / "half.pt"
    torch.save({"g_ema": without(content["g_ema"], "convs.3.activate")}, path)
    match = r"half\.pt looks like StyleGAN2 \(rosinality\), but has no key convs\.3\.activate\.bias"
    with pytest.raises(WeightsError, match=match):
        load_network(path)


def test_a_wrong_shape_is_named(tmp_path):
    state = torch.load(DATA / "checkpoints" / "lernapparat-32.pt", weights_only=True)
    state["g_synthesis.torgb.bias"] = torch.zeros(4)
    path = tmp_path / "wrong.pt"
    torch.save(state, path)
    match = r"wrong\.pt looks like StyleGAN1 \(lernapparat\), but does not fit it: .*torgb"
    with pytest.raises(WeightsError, match=match):
        load_network(path)


def test_something_else_says_what_it_holds(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"encoder.weight": torch.zeros(2)}, path)
    with pytest.raises(
        WeightsError, match=r"keys are those of no generator that PULSE knows; .* encoder\.weight"
    ):
        load_network(path)


def test_an_empty_table_says_so(tmp_path):
    path = tmp_path / "empty.pt"
    torch.save({"epoch": 3}, path)
    with pytest.raises(WeightsError, match="it holds no tensors"):
        load_network(path)


def tensorflow_of(state):
    """The same generator under TensorFlow's names, written from the published key list."""
    out = {"dlatent_avg": state["mapping.w_avg"], "lod": torch.zeros(())}
    for key, tensor in state.items():
        part, block, *rest = key.split(".")
        kind = rest[-1] if rest else ""
        if part == "mapping":
            if block == "embed" or block.startswith("fc"):
                name = "LabelEmbed" if block == "embed" else f"Dense{block[2:]}"
                out[f"mapping/{name}/{kind}"] = tensor.T if kind == "weight" else tensor
            continue
        size = int(block[1:])
        level, folder = size.bit_length() - 1, f"synthesis/{size}x{size}"
        if kind == "const":
            out[f"{folder}/Const/const"] = tensor[None]
        if kind in ("const", "resample_filter"):
            continue
        layer = {"conv0": "Conv0_up", "conv1": "Conv" if size == 4 else "Conv1", "skip": "Skip"}
        name = f"{folder}/{layer.get(rest[0], 'ToRGB')}"
        if "affine" in rest:
            out[f"{name}/mod_{kind}"] = tensor.T if kind == "weight" else tensor - 1
        elif kind == "weight":
            flipped = tensor.flip((2, 3)) if rest[0] in ("conv0", "skip") else tensor
            out[f"{name}/weight"] = flipped.permute(2, 3, 1, 0)
        elif kind == "noise_const":
            number = 2 * level - (5 if rest[0] == "conv0" else 4)
            out[f"synthesis/noise{number}"] = tensor[None, None]
        else:
            out[f"{name}/{kind}"] = tensor
    return out


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
@pytest.mark.parametrize("num_classes", [0, 5])
def test_tensorflow_networks_of_every_architecture(architecture, num_classes):
    """No original file of these is at hand: names and layouts there and back."""
    row = torch.tensor([1.0, 3, 3, 1]) / 8  # the filter that TensorFlow does not store
    state = random_state(architecture, num_classes=num_classes, row=row)
    format_, inner = detect(tensorflow_of(state))
    assert format_.name == "StyleGAN2 (NVIDIA, TensorFlow)"
    back = format_.to_ours(inner)
    assert back.keys() == state.keys()
    for key, tensor in state.items():
        assert torch.allclose(back[key], tensor, atol=1e-6), key  # the 1 taken off and added


def test_colours_of_every_resolution_are_those_of_the_plain_architecture():
    """Older networks keep ToRGB_lod0, 1, ...; 0 is the finest, and the only one that draws."""
    row = torch.tensor([1.0, 3, 3, 1]) / 8
    state = random_state("orig", row=row)
    old = {
        key.replace("/16x16/ToRGB/", "/ToRGB_lod0/"): tensor
        for key, tensor in tensorflow_of(state).items()
    }
    old |= {
        "synthesis/ToRGB_lod1/weight": torch.zeros(1),
        "synthesis/ToRGB_lod1/bias": torch.ones(1),
    }
    format_, inner = detect(old)
    back = format_.to_ours(inner)
    assert back.keys() == state.keys()
    key = "synthesis.b16.torgb.weight"
    assert torch.equal(back[key], state[key])


def test_tensorflow_classes_joined_on_are_refused_by_name():
    state = tensorflow_of(random_state("skip")) | {"mapping/LabelConcat/weight": torch.zeros(3, 8)}
    format_, inner = detect(state)
    with pytest.raises(ValueError, match="classes joined on by LabelConcat"):
        format_.to_ours(inner)
