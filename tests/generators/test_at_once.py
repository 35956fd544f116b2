"""How many pictures are drawn at a time where many are wanted: large ones take gigabytes each."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from pulse.audit.alone import sample_images
from pulse.audit.calibration import Calibration, CalibrationSettings
from pulse.generators.base import Generator
from pulse.search.bank import fit_bank
from pulse.search.coarse import draw_coarse_samples
from pulse.search.surrogate import draw_samples


@pytest.mark.parametrize(("px", "number"), [(32, 16), (256, 16), (512, 4), (1024, 1), (2048, 1)])
def test_fewer_of_larger_pictures(px, number):
    assert Generator.at_once.fget(SimpleNamespace(resolution=px)) == number


def rng():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    "draw",
    [
        lambda generator: fit_bank(generator.network, generator.prior, 5),
        lambda generator: draw_samples(generator.network, generator.prior, 5, rng()),
        lambda generator: draw_coarse_samples(generator.network, generator.prior, 5, rng()),
        lambda generator: list(sample_images(generator, 5, 0)),
    ],
    ids=["bank", "head", "coarse", "audit"],
)
def test_samples_are_drawn_so_many_at_a_time(embedded, monkeypatch, draw):
    G, drawn = embedded.network, []
    render = G.render

    def counted(ws, noise_maps):
        drawn.append(len(ws))
        return render(ws, noise_maps)

    monkeypatch.setattr(G, "render", counted)
    monkeypatch.setattr(type(G), "at_once", 2)
    draw(embedded)
    assert max(drawn) == 2


def test_a_calibration_draws_twice_as_many(embedded, monkeypatch):
    monkeypatch.setattr(type(embedded.network), "at_once", 2)
    settings = CalibrationSettings(method="descent", sigma=0.03)
    assert Calibration(embedded, settings).together.batch_size == 4
