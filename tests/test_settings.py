from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from pulse.settings import (
    FaceSettings,
    LossWeights,
    SearchSettings,
    UpscaleSettings,
    least_sigma,
)


def test_loss_weights_are_read_and_written():
    weights = LossWeights.parse("100*L2 + 0.05*geocross")
    assert weights == LossWeights(100, 0, 0.05)
    assert LossWeights.parse(str(weights)) == weights
    assert LossWeights.parse("1*L1") == LossWeights(0, 1, 0)


@pytest.mark.parametrize("text", ["", "L2", "x*L2", "1*L3", "1*L2+"])
def test_what_cannot_be_read_is_named(text):
    with pytest.raises(ValueError, match=r"got loss term .*, expected a number, \*, and L2"):
        LossWeights.parse(text)


@pytest.mark.parametrize("weights", [(-1, 0, 0), (0, 0, 1), (float("nan"), 0, 0)])
def test_weights_that_make_no_sense(weights):
    with pytest.raises(ValueError, match="expected none below 0 and l2 or l1 above 0"):
        LossWeights(*weights)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SearchSettings(steps=0), "got steps 0, expected 1 or more"),
        (lambda: SearchSettings(step_size=0), "got step_size 0, expected more than 0"),
        (lambda: SearchSettings(step_size=float("nan")), "got step_size nan"),
        (lambda: SearchSettings(tolerance=-1), "got tolerance -1, expected 0 or more"),
        (lambda: SearchSettings(method="x"), "got method 'x', expected one of mixing, descent"),
        (
            lambda: SearchSettings(loss=LossWeights(l1=1)),
            "the method 'mixing' knows the mean squared error only; other losses need the method",
        ),
        (lambda: SearchSettings(noise="loud"), "got noise 'loud', expected one of fixed, zero"),
        (lambda: SearchSettings(start="x"), "got start 'x', expected one of independent, shared"),
        (lambda: SearchSettings(precision="x"), "got precision 'x', expected one of auto, single"),
        (
            lambda: SearchSettings(method="descent", precision="mixed"),
            "in single precision; mixed precision needs the method 'mixing'",
        ),
        (lambda: FaceSettings(align="x"), "got align 'x', expected one of auto, always, never"),
        (lambda: FaceSettings(faces="x"), "got faces 'x', expected one of all, largest"),
        (lambda: FaceSettings(kernel="x"), "got kernel 'x', expected one of bicubic"),
        (lambda: FaceSettings(low_res=0), "got low_res 0, expected 1 or more"),
        (lambda: UpscaleSettings(candidates=0), "got candidates 0, expected 1 or more"),
    ],
)
def test_values_out_of_range_say_got_and_expected(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_settings_are_frozen():
    with pytest.raises(FrozenInstanceError):
        SearchSettings().steps = 5


def test_the_least_misfit_of_a_mean_is_the_same_in_pictures_of_any_size():
    # four pixels of 16 px are one of 8 px: their mean has half the deviation
    assert least_sigma((16, 16)) == 0.1
    assert least_sigma((8, 8)) == 0.05
    assert least_sigma((4, 16)) == least_sigma((8, 8))
