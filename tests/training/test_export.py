"""What was trained, as PULSE loads it."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner

from pulse.checkpoints.load import load_network
from pulse.cli import main
from pulse.errors import WeightsError
from pulse.training.checkpoints import load, newest
from pulse.training.export import Card, export

CPU = torch.device("cpu")
MEASURES = {"frechet_distance": 12.5, "recall": {"dark": 0.25, "light": 0.5}}


@pytest.fixture
def learner(trained_folder, features):
    return load(newest(trained_folder / "checkpoints"), features, CPU)


def pictures_of(G):
    z = torch.randn(4, G.z_dim, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return G.render(G.broadcast(G.mapping(z)), G.stored_noise())


def test_the_exported_generator_draws_what_the_average_does(learner, tmp_path):
    path = tmp_path / "mine.safetensors"
    export(learner, path, Card(), MEASURES)
    loaded = load_network(path)
    network = loaded.network.to(memory_format=torch.channels_last)  # as a search takes it
    assert torch.equal(pictures_of(network), pictures_of(learner.ema))
    z = torch.randn(4000, learner.ema.z_dim, generator=torch.Generator().manual_seed(2))
    mean = learner.ema.mapping(z).mean(0)
    # both are means of thousands of samples
    assert (loaded.network.w_avg - mean).abs().max() < 0.1 * learner.ema.mapping(z).std()


def test_half_precision_takes_half_the_room(learner, tmp_path):
    full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    export(learner, full, Card(), {})
    export(learner, half, Card(), {}, half=True)
    assert half.stat().st_size < 0.65 * full.stat().st_size  # names and small tensors stay
    difference = pictures_of(load_network(half).network) - pictures_of(learner.ema)
    assert 0 < difference.abs().max() < 0.01  # a rounding of 2^-11 in each of some ten layers


def test_weights_info_shows_the_card(learner, tmp_path):
    path = tmp_path / "mine.safetensors"
    export(learner, path, Card("64 drawn faces", "CC0"), MEASURES)
    result = CliRunner().invoke(main, ["weights", "info", str(path), "--json"])
    shown = json.loads(result.stdout)
    assert (shown["data"], shown["licence"], shown["images seen"]) == (
        "64 drawn faces",
        "CC0",
        "136",
    )
    assert json.loads(shown["measures"]) == MEASURES
    assert shown["resolution"] == 32
    assert len(shown["trained"]) == len("2026-01-01")


def test_another_suffix_is_refused(learner, tmp_path):
    with pytest.raises(WeightsError, match=r"mine.pkl must end in .safetensors"):
        export(learner, tmp_path / "mine.pkl", Card(), {})
