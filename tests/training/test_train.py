"""Trainings of a few seconds: they learn, go on as if never cut, and turn back from collapse."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch

from pulse.errors import PulseError
from pulse.training.checkpoints import good_checkpoints, load, newest, save_latest
from pulse.training.looks import Looks
from pulse.training.phases import step, whiten_posterior
from pulse.training.train import Limits, Training

CPU = torch.device("cpu")


@pytest.fixture
def run(trained_folder, tmp_path):
    """A copy of the short run."""
    folder = tmp_path / "run"
    shutil.copytree(trained_folder, folder)
    return folder


def resumed(run, features, **changes):
    return load(newest(run / "checkpoints"), features, CPU, changes)


def records(run, event):
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def test_training_brings_samples_nearer_to_the_data(new_learner, pictures, tmp_path):
    """Measured: from 6,600 untrained to 2,100; the bound leaves room for other processors."""
    learner = new_learner(vae_images=800, every=100_000, batch_size=16)
    before = Looks(learner, pictures).measure(learner).frechet
    training = Training(learner, pictures, tmp_path)
    training.run(Limits(images=1200))
    assert learner.progress.phase == "adversarial"
    assert training.measures["frechet_distance"] < 0.6 * before


@pytest.mark.parametrize("phase", ["vae", "adversarial"])
def test_a_resumed_training_equals_one_that_was_never_cut(
    phase, new_learner, features, pictures, tmp_path, one_thread
):
    learner = new_learner()
    if phase == "adversarial":
        whiten_posterior(learner, pictures)
        learner.begin_adversarial()
    for _ in range(2):
        step(learner, pictures)
    save_latest(learner, tmp_path)
    uncut = [step(learner, pictures) for _ in range(5)]
    again = load(newest(tmp_path), features, CPU)
    assert [step(again, pictures) for _ in range(5)] == uncut  # the same operations: the same bits
    for key, tensor in learner.tensors().items():
        assert torch.equal(again.tensors()[key], tensor), key


def test_the_guard_goes_back_when_a_group_is_lost(run, features, pictures):
    learner = resumed(run, features)
    said = []
    training = Training(learner, pictures, run, tell=said.append)
    training.check()
    good = {key: tensor.clone() for key, tensor in learner.tensors().items()}
    images = learner.progress.images
    for _ in range(3):
        step(learner, pictures)
    with torch.no_grad():  # everything turns light
        learner.G.synthesis.b4.torgb.bias += 3
    training.check()
    assert learner.progress.images == images
    assert all(torch.equal(learner.tensors()[key], tensor) for key, tensor in good.items())
    progress = learner.progress
    assert (progress.adversarial, progress.mapping, progress.attempt) == (0.5, 0.5, 1)
    mapping_rate = learner.optimizer.param_groups[1]["lr"]
    assert mapping_rate == learner.settings.step_size * learner.settings.mapping_rate / 2
    (line,) = records(run, "turned back")
    assert line["to"] == images
    assert any(text.startswith("reconstruction of dark") for text in line["drifted"])
    assert any(text.startswith("lightness at 10%") for text in line["drifted"])
    assert any(text.startswith(f"drift after {images + 24} images: recon") for text in said)
    assert (
        f"back to the checkpoint at {images} images; from here on the adversarial weight is 0.5 of "
        "what it was set to and the mapping network's rate is 0.5 of what it was set to"
    ) in said
    again = resumed(run, features)  # killed here, it would not forget what it has lowered
    assert (again.progress.adversarial, again.progress.attempt) == (0.5, 1)


def test_another_attempt_draws_anew(run, features, pictures):
    learner, other = resumed(run, features), resumed(run, features)
    other.progress.attempt += 1
    assert step(learner, pictures) != step(other, pictures)


def test_a_training_that_cannot_be_held_is_stopped(run, features, pictures):
    learner = resumed(run, features)
    learner.settings = replace(learner.settings, guard=replace(learner.settings.guard, patience=1))
    training = Training(learner, pictures, run)
    training.check()

    def spoil():
        with torch.no_grad():
            learner.G.synthesis.b4.torgb.bias += 3
        training.check()

    spoil()
    with pytest.raises(PulseError, match=r"turned back 1 times in a row, and still .* export it"):
        spoil()


def test_losses_that_are_no_numbers_stop_a_training(run, features, pictures):
    learner = resumed(run, features)
    with torch.no_grad():
        learner.G.synthesis.b4.torgb.bias += float("nan")
    with pytest.raises(PulseError, match=r"out of bounds: the losses are .* lower --step-size"):
        Training(learner, pictures, run).run(Limits())


def test_a_run_leaves_a_log_sheets_and_a_short_history(trained_folder):
    assert [path.name for path in good_checkpoints(trained_folder / "checkpoints")] == [
        "checkpoint-000000096.safetensors", "checkpoint-000000128.safetensors",
    ]  # fmt: skip
    assert not list((trained_folder / "checkpoints").glob("*.part"))
    (whitened,) = records(trained_folder, "whitened")
    assert whitened["images"] == 96
    look = records(trained_folder, "look")[-1]
    assert set(look["reconstruction"]) == set(look["recall"]) == {"dark", "light"}
    assert look["frechet_distance"] > 0
    assert len(look["lightness"]) == len(look["data_lightness"]) == 3
    losses = records(trained_folder, "losses")[-1]
    assert {"reconstruction", "discriminator", "generator", "images_per_second"} <= set(losses)
    assert (trained_folder / "samples-000000128.png").exists()


def test_a_run_grows_and_goes_on(run, features, pictures, faces, tmp_path):
    from pulse.training.data import Pictures

    learner = resumed(run, features)
    before = learner.G.synthesis(torch.zeros(1, learner.G.num_ws, 32), learner.G.zero_noise())
    learner.grow(64)
    after = learner.G.synthesis(torch.zeros(1, learner.G.num_ws, 32), learner.G.zero_noise())
    assert after.shape == (1, 3, 64, 64)
    # the skip connection alone: reduced again, the same picture but for its low-pass filter
    again = torch.nn.functional.avg_pool2d(after, 2)
    assert torch.nn.functional.mse_loss(again, before) < 0.05 * before.var()
    doubled = pictures.pixels.repeat_interleave(2, 2).repeat_interleave(2, 3)
    larger = Pictures(doubled, pictures.names, pictures.groups)
    training = Training(learner, larger, run)
    training.run(Limits(images=learner.progress.images + 8))
    assert good_checkpoints(run / "checkpoints")[-1].name == "checkpoint-000000136.safetensors"
    assert resumed(run, features).settings.network.resolution == 64
    with pytest.raises(ValueError, match="the resolution is 32, expected 64, that of the run so f"):
        learner.grow(32)


def test_a_damaged_checkpoint_is_named(run, features):
    path = newest(run / "checkpoints")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PulseError, match=r"latest.safetensors is no whole checkpoint .* before it"):
        load(path, features, CPU)


def test_a_folder_without_checkpoints(tmp_path):
    with pytest.raises(PulseError, match=r"no checkpoint in .*; give the folder of a run that has"):
        newest(tmp_path)
