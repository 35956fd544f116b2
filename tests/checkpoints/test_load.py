from __future__ import annotations

import hashlib

import pytest
import torch
from safetensors.torch import load_file, save_file

from pulse.checkpoints import load
from pulse.checkpoints.load import EMBEDDED_SHA256, embedded_path, load_network
from pulse.errors import WeightsError


@pytest.fixture
def small_file(data):
    return data / "generators" / "ada-plain.safetensors"


def test_a_file_is_named_after_itself_and_hashed(small_file):
    loaded = load_network(small_file)
    assert loaded.name == "ada-plain"
    assert loaded.sha256 == hashlib.sha256(small_file.read_bytes()).hexdigest()
    assert loaded.network.architecture == "stylegan2"
    assert loaded.format == "StyleGAN2 (NVIDIA, PyTorch)"
    assert loaded.gaussian_fit is None


def test_the_embedded_generator_is_the_known_one():
    assert hashlib.sha256(embedded_path().read_bytes()).hexdigest() == EMBEDDED_SHA256
    assert load_network().sha256 == EMBEDDED_SHA256


def test_an_altered_embedded_generator_is_refused(monkeypatch, tmp_path):
    altered = tmp_path / "portraits-128.safetensors"
    data = bytearray(embedded_path().read_bytes())
    data[-1] ^= 1
    altered.write_bytes(data)
    monkeypatch.setattr(load, "embedded_path", lambda: altered)
    with pytest.raises(WeightsError, match="the file was altered; install PULSE again"):
        load_network()


def test_a_missing_file_says_what_the_option_takes():
    with pytest.raises(WeightsError, match=r"cannot read the generator nowhere\.saf.*No such"):
        load_network("nowhere.safetensors")


def test_a_cut_file_is_refused(small_file, tmp_path):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(small_file.read_bytes()[:5000])
    with pytest.raises(WeightsError, match=r"cut\.safetensors is not a whole safetensors file"):
        load_network(cut)


def test_a_wrong_shape_names_file_architecture_and_key(small_file, tmp_path):
    state = load_file(small_file)
    state["synthesis.b8.conv1.bias"] = torch.zeros(5)
    wrong = tmp_path / "wrong.safetensors"
    save_file(state, wrong)
    match = r"wrong\.safetensors looks like StyleGAN2 .*, but does not fit it: synthesis\.b8\.conv1"
    with pytest.raises(WeightsError, match=match):
        load_network(wrong)
