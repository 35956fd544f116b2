"""What the guard sees, and what it does about it."""

from __future__ import annotations

import pytest
import torch

from pulse.training.learner import Progress
from pulse.training.settings import GuardSettings
from pulse.training.watch import Look, drifts, lightness, lowered, note_best

BOUNDS = GuardSettings(reconstruction=1.2, lightness=8.0)
GOOD = Look({"dark": 4.0, "light": 3.0}, [30.0, 55.0, 75.0], [28.0, 53.0, 78.0])


@pytest.fixture
def progress():
    progress = Progress(phase="adversarial")
    note_best(GOOD, progress)
    return progress


def test_lightness_is_that_of_cie():
    # sRGB greys 0, 119, 255 and their L* by CIE 1976
    levels = torch.tensor([0, 119, 255]) / 127.5 - 1
    x = levels[:, None, None, None].expand(-1, 3, 32, 32)
    assert lightness(x).tolist() == pytest.approx([0, 50.0, 100], abs=0.1)
    red = torch.tensor([1.0, -1, -1])[None, :, None, None].expand(1, 3, 32, 32)
    assert lightness(red).item() == pytest.approx(53.2, abs=0.1)


def test_lightness_is_that_of_the_middle_of_the_face():
    x = torch.ones(1, 3, 64, 64)
    x[:, :, 33:43, 21:43] = -1
    assert lightness(x).item() == 0


def test_within_the_bounds_nothing_drifts(progress):
    near = Look({"dark": 4.79, "light": 3.5}, [37.9, 50.0, 86.0], GOOD.data_lightness)
    assert drifts(GOOD, progress, BOUNDS) == []
    assert drifts(near, progress, BOUNDS) == []


def test_a_group_that_is_lost(progress):
    look = Look({"dark": 4.9, "light": 2.9}, GOOD.lightness, GOOD.data_lightness)
    assert drifts(look, progress, BOUNDS) == [
        "reconstruction of dark 4.9, 1.23 of its lowest, bound 1.2"
    ]


def test_samples_that_turn_light(progress):
    look = Look(GOOD.reconstruction, [39.0, 56.0, 76.0], GOOD.data_lightness)
    assert drifts(look, progress, BOUNDS) == [
        "lightness at 10% of samples 11.0 from the data's, was 2.0, bound 8 more"
    ]


def test_samples_that_come_nearer_to_the_data_are_no_drift():
    progress = Progress()
    note_best(Look({"dark": 4.0}, [60.0, 61.0, 62.0], [28.0, 53.0, 78.0]), progress)
    assert (
        drifts(Look({"dark": 4.0}, [30.0, 53.0, 77.0], [28.0, 53.0, 78.0]), progress, BOUNDS) == []
    )


def test_the_best_is_kept_number_by_number(progress):
    progress.in_a_row = 2
    note_best(Look({"dark": 4.5, "light": 2.5}, [28.5, 60.0, 75.0], GOOD.data_lightness), progress)
    assert progress.lowest == {"dark": 4.0, "light": 2.5}
    assert progress.nearest == [0.5, 2.0, 3.0]
    assert progress.in_a_row == 0


def test_what_is_lowered(progress):
    assert lowered(["reconstruction of dark ..."], progress) == (
        "the adversarial weight is 0.5 of what it was set to"
    )
    assert lowered(["lightness at 10% ..."], progress) == (
        "the mapping network's rate is 0.5 of what it was set to"
    )
    progress.in_a_row = 1  # once was not enough: both
    lowered(["reconstruction of dark ..."], progress)
    assert (progress.adversarial, progress.mapping) == (0.25, 0.25)
