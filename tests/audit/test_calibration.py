"""The calibration study: ranks of draws of the prior among the answers to them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from pulse.audit.calibration import Calibration, CalibrationSettings
from pulse.audit.quantities import QUANTITIES, ita_of, lab_of, mean_in, quantities_of
from pulse.audit.uniformity import Uniformity
from pulse.cli import main
from pulse.cli.audit_text import table
from pulse.errors import PulseError
from pulse.search.sampling import SamplerSettings


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("pulse.audit.luck.SAMPLES", 64)


QUICK = CalibrationSettings(method="mixing", draws=2, answers=3, low_res=4, sigma=0.05)


def test_colours_are_those_of_the_books():
    white, grey, red = (
        torch.tensor(c).view(1, 3, 1, 1) for c in ((1.0,) * 3, (0.5,) * 3, (1.0, 0, 0))
    )
    assert lab_of(white).flatten().tolist() == pytest.approx([100, 0, 0], abs=0.02)
    assert lab_of(grey).flatten()[0] == pytest.approx(53.39, abs=0.02)
    # sRGB's red: L* 53.24, a* 80.09, b* 67.20
    assert lab_of(red).flatten().tolist() == pytest.approx([53.24, 80.09, 67.20], abs=0.05)
    assert ita_of(torch.tensor([[70.0, 10, 20], [40.0, 10, 10]])).tolist() == pytest.approx(
        [45, -45]
    )


def test_windows_are_read_where_they_are():
    images = torch.zeros(1, 3, 100, 100)
    images[:, :, 6:14, 38:62] = 1  # the hair
    values = quantities_of(images)
    assert values["hair lightness"].item() == pytest.approx(100, abs=0.1)
    assert values["background lightness"].item() == pytest.approx(0, abs=0.1)
    assert values["left minus right"].item() == pytest.approx(0, abs=0.1)
    assert set(values) == set(QUANTITIES)
    assert mean_in(images, ((0, 0.5, 0, 1), (0.5, 1, 0, 1))).shape == (1, 3)


def test_draws_are_ranked_once_and_a_study_goes_on(small_generator, tmp_path):
    seen = []
    rows = Calibration(small_generator, QUICK).ranks(tmp_path, seen.append)
    assert seen == [1, 2]
    assert len(rows) == 2
    assert [row["draw"] for row in rows] == [701, 702]  # the sampler was tuned with others
    assert len(rows[0]["ranks"]) == 10
    assert all(0 <= rank <= 3 for row in rows for rank in row["ranks"].values())
    again = Calibration(small_generator, replace(QUICK, draws=3)).ranks(tmp_path, seen.append)
    assert seen == [1, 2, 3]
    assert again[:2] == rows
    with pytest.raises(PulseError, match="is of other settings"):
        Calibration(small_generator, replace(QUICK, sigma=0.1)).ranks(tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text().replace('"draw": 701', '"draw": 1'))
    with pytest.raises(PulseError, match="begins with draw 1, but the sampler was tuned with the"):
        Calibration(small_generator, QUICK).ranks(tmp_path)
    path.write_text("{")
    with pytest.raises(PulseError, match="cannot read"):
        Calibration(small_generator, QUICK).ranks(tmp_path)


def test_without_a_head_there_is_nothing_to_study(small_generator):
    with pytest.raises(PulseError, match="has no mapping network to sample faces from"):
        Calibration(small_generator, CalibrationSettings(sigma=0.05))
    with pytest.raises(ValueError, match="expected draws, answers and sigma above 0"):
        CalibrationSettings(draws=0, sigma=0.05)


def test_the_luck_of_a_study_is_that_of_its_faces(small_generator):
    luck = Calibration(small_generator, replace(QUICK, draws=20)).luck()
    assert set(luck) == set(QUANTITIES)
    assert all(abs(off) < 4.5 for off in luck.values())
    other = Calibration(small_generator, replace(QUICK, draws=20, seed=1)).luck()
    assert luck != other
    assert Calibration(small_generator, replace(QUICK, draws=19)).luck() == {}


def test_luck_is_told_from_a_wrong_sampler():
    test = Uniformity("cheek lightness", 200, 0.43, 0.001, 0.001, passes=False, luck=-3.4)
    text = table([test, replace(test, quantity="hair lightness", luck=None)])
    assert "faces off by" in text
    assert "-3.4  not uniform" in text
    assert "unusual in themselves" in text
    assert "unusual" not in table([replace(test, luck=-2.9)])
    assert "unusual" not in table([replace(test, passes=True)])


def test_the_command_ranks_tests_and_draws(pulse_home, tmp_path, monkeypatch):
    monkeypatch.setattr("pulse.audit.calibration.SAMPLER", SamplerSettings(32, 4, 2))
    arguments = ["audit", "--calibration", "-o", str(tmp_path), "--draws", "2", "-n", "3",
                 "--low-res", "8", "--device", "cpu"]  # fmt: skip
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "cheek ITA" in result.output
    assert "2 draws: all are uniform (5 %, Bonferroni)." in result.output
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"calibration-posterior-8px.json", "calibration-posterior-8px.png"}
    result = CliRunner().invoke(main, [*arguments, "--json"])
    rows = json.loads(result.stdout)
    assert rows[0]["quantity"] == "cheek lightness"
    assert rows[0]["draws"] == 2
