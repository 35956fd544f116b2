from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from pulse.errors import DeviceError
from pulse.files import cache_dir
from pulse.pretrained import choose_device, load_generator


def test_the_embedded_generator_comes_ready(embedded):
    assert embedded.name == "portraits-128"
    assert embedded.network.resolution == 128
    assert embedded.prior.mean.shape == (embedded.network.w_dim,)
    assert embedded.device == torch.device("cpu")


def test_the_prior_is_kept_under_the_hash_of_the_weights(embedded):
    kept = load_file(cache_dir() / "priors" / f"{embedded.sha256}.safetensors")
    assert torch.equal(kept["mean"], embedded.prior.mean)
    assert torch.equal(kept["std"], embedded.prior.std)


@pytest.fixture
def small_file(data):
    return data / "generators" / "ada-plain.safetensors"


def test_a_damaged_cache_is_made_again(small_file, tmp_path, monkeypatch):
    monkeypatch.setenv("PULSE_HOME", str(tmp_path))
    want = load_generator(small_file, "cpu").prior
    (kept,) = (tmp_path / "priors").iterdir()
    kept.write_bytes(kept.read_bytes()[:40])
    assert torch.equal(load_generator(small_file, "cpu").prior.mean, want.mean)
    save_file({"mean": torch.zeros(3)}, kept)
    assert torch.equal(load_generator(small_file, "cpu").prior.std, want.std)


def test_a_cache_that_cannot_be_written_costs_time_only(small_file, tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("PULSE_HOME", str(blocked))
    assert load_generator(small_file, "cpu").prior.mean.shape == (64,)


def test_devices():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cuda", "mps", "cpu")


@pytest.mark.parametrize("name", ["cuda:99", "tpu", "", "cpu:1"])
def test_a_device_that_is_not_there_names_those_that_are(name):
    with pytest.raises(DeviceError, match=rf"there is no device '{name}' here; --device takes"):
        choose_device(name)
