from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from pulse.errors import DeviceError, WeightsError
from pulse.files import cache_dir
from pulse.fitted import BANK_SAMPLES
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


def test_progress_is_told_while_a_prior_is_fitted(small_file, tmp_path, monkeypatch):
    monkeypatch.setenv("PULSE_HOME", str(tmp_path))
    seen = []
    load_generator(small_file, "cpu", on_progress=lambda *numbers: seen.append(numbers))
    assert seen[-1] == (100_000, 100_000)
    assert len(seen) == 10
    load_generator(small_file, "cpu", on_progress=lambda *numbers: seen.append(numbers))
    assert len(seen) == 10  # kept: not fitted again


def test_the_bank_is_drawn_once_and_again_where_the_cache_is_damaged(
    small_file, tmp_path, monkeypatch
):
    monkeypatch.setenv("PULSE_HOME", str(tmp_path))
    seen = []
    want = load_generator(small_file, "cpu", on_bank=lambda *numbers: seen.append(numbers)).bank
    assert seen[-1] == (BANK_SAMPLES, BANK_SAMPLES)
    assert want.v.shape == (BANK_SAMPLES, 64)
    kept = load_generator(small_file, "cpu", on_bank=lambda *numbers: seen.append(numbers)).bank
    assert len(seen) == -(-BANK_SAMPLES // 16)
    assert torch.equal(kept.v, want.v)
    assert torch.equal(kept.pictures, want.pictures)
    (path,) = (tmp_path / "banks").iterdir()
    names = ("pictures", "changes")
    for damage in (
        {"v": torch.zeros(100, 3), **{name: torch.zeros(100, 3, 32, 32) for name in names}},
        {"v": torch.zeros(5, 64), **{name: torch.zeros(5, 3, 32, 32) for name in names}},
        {"v": torch.zeros(100, 64), "pictures": torch.zeros(100, 3, 32, 32)},
    ):
        save_file(damage, path)
        again = load_generator(small_file, "cpu").bank
        assert torch.equal(again.pictures, want.pictures)


def test_a_bank_that_is_not_wanted_is_not_drawn(small_file, tmp_path, monkeypatch):
    monkeypatch.setenv("PULSE_HOME", str(tmp_path))
    generator = load_generator(small_file, "cpu", with_bank=False)
    assert generator.bank is None
    assert not (tmp_path / "banks").exists()
    later = generator.with_bank().bank
    assert torch.equal(later.pictures, load_generator(small_file, "cpu").bank.pictures)


def pulse_files(data, folder, *parts):
    for part in parts:
        name = f"pulse-32.{part}.pt"
        (folder / name).write_bytes((data / "checkpoints" / name).read_bytes())
    return folder / "pulse-32.synthesis.pt"


def test_a_gaussian_fit_beside_the_weights_is_the_prior(data, tmp_path):
    path = pulse_files(data, tmp_path, "synthesis")
    fit = {"mean": torch.linspace(-1, 1, 64), "std": torch.linspace(0.3, 0.8, 64)}
    torch.save(fit, tmp_path / "pulse-32.gaussian_fit.pt")
    prior = load_generator(path, "cpu").prior
    assert torch.equal(prior.mean, fit["mean"])
    assert torch.equal(prior.std, fit["std"])
    assert load_generator(path, "cpu").bank is None  # nothing to draw samples with


@pytest.mark.parametrize(
    "fit",
    [
        {"mean": torch.zeros(512), "std": torch.ones(512)},
        {"mean": torch.zeros(64), "std": torch.zeros(64)},
        {"mean": torch.full((64,), torch.nan), "std": torch.ones(64)},
    ],
)
def test_a_gaussian_fit_of_another_generator_is_refused(data, tmp_path, fit):
    path = pulse_files(data, tmp_path, "synthesis", "mapping")
    torch.save(fit, tmp_path / "pulse-32.gaussian_fit.pt")
    with pytest.raises(WeightsError, match=r"gaussian_fit.pt beside .* is not of this generator"):
        load_generator(path, "cpu")


def test_our_fit_is_by_pulses_definition(data, tmp_path):
    """mean and std of LeakyReLU(5)(mapping(z)) over many z, as PULSE's own gaussian_fit.pt."""
    path = pulse_files(data, tmp_path, "synthesis", "mapping")
    loaded = load_generator(path, "cpu")
    z = torch.randn(200_000, 64, generator=torch.Generator().manual_seed(3))
    v = torch.nn.functional.leaky_relu(loaded.network.mapping(z), 5)
    # standard errors of 100,000 and 200,000 samples together: 0.4 %; five of them
    assert ((loaded.prior.mean - v.mean(0)) / v.std(0)).abs().max() < 0.02
    assert (loaded.prior.std / v.std(0) - 1).abs().max() < 0.02


def test_a_synthesis_network_alone_says_what_it_needs(data, tmp_path):
    path = pulse_files(data, tmp_path, "synthesis")
    with pytest.raises(WeightsError, match=r"holds a synthesis network only; put PULSE's mapping"):
        load_generator(path, "cpu")


@pytest.fixture
def classes_file(data, tmp_path):
    """The small generator with an embedding of three classes."""
    state = load_file(data / "generators" / "ada-plain.safetensors")
    rng = torch.Generator().manual_seed(0)
    first = state["mapping.fc0.weight"]
    state["mapping.fc0.weight"] = torch.cat([first, torch.randn(64, 64, generator=rng) * 100], 1)
    state["mapping.embed.weight"] = torch.randn(64, 3, generator=rng)
    state["mapping.embed.bias"] = torch.zeros(64)
    path = tmp_path / "classes.safetensors"
    save_file(state, path)
    return path


def test_a_generator_of_classes_needs_one(classes_file):
    with pytest.raises(WeightsError, match=r"'classes' draws 3 classes; choose one with --class 0"):
        load_generator(classes_file, "cpu")
    with pytest.raises(WeightsError, match=r"'classes': got class 3, expected 0 to 2; see --class"):
        load_generator(classes_file, "cpu", class_index=3)


def test_every_class_has_a_prior_of_its_own(classes_file):
    one, two = (load_generator(classes_file, "cpu", class_index=k) for k in (0, 2))
    assert one.class_index == 0
    assert (one.prior.mean - two.prior.mean).abs().max() > 0.1
    assert not torch.equal(one.bank.pictures, two.bank.pictures)
    again = load_generator(classes_file, "cpu", class_index=2)
    assert torch.equal(again.prior.mean, two.prior.mean)


def test_a_class_for_a_generator_without_classes_is_refused(small_file):
    with pytest.raises(WeightsError, match="got class 1, but these weights know no classes"):
        load_generator(small_file, "cpu", class_index=1)
