"""The bar that a person at a terminal sees."""

from __future__ import annotations

import io
import re
import shutil
import sys
from dataclasses import replace

import pytest
from PIL import Image

from pulse.cli.options import Output, Where
from pulse.cli.upscale import run_upscale
from pulse.settings import RunSettings, SearchSettings, UpscaleSettings

METHOD = UpscaleSettings(candidates=2, search=SearchSettings(steps=4, tolerance=0.0))


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def shown(monkeypatch, tmp_path, data):
    """Run over four pictures, two at a time, and give back every state of the bar."""
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(4):
        Image.new("RGB", (8, 8), (60 * i, 90, 90)).save(folder / f"{i}.png")
    generator = str(data / "generators" / "ada-plain.safetensors")

    def run(method=METHOD, **output):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        settings = Output(RunSettings(batch_size=4), as_json=False, verbose=None)
        settings = replace(settings, **output)
        run_upscale([folder], tmp_path / "out", method, Where(generator, "cpu", None), settings)
        monkeypatch.undo()
        return [line for line in re.split(r"[\r\n]+", terminal.getvalue()) if "left" in line]

    return run


def shares(lines):
    return [int(re.search(r"(\d+)%", line)[1]) for line in lines]


def test_the_time_left_is_known_before_the_first_face_is_done(shown):
    lines = shown()
    at_work = [line for line in lines if line.startswith("0 of 4 faces") and " 25%, " in line]
    assert at_work
    for line in at_work:
        assert re.search(r"%, \d\d:\d\d gone, \d\d:\d\d left, error 0\.\d+, [24] searches", line)


def test_the_bar_goes_forward_to_its_end(shown):
    lines = shown()
    assert shares(lines) == sorted(shares(lines))
    assert lines[-1].startswith("4 of 4 faces")
    assert shares(lines)[-1] == 100


def test_what_earlier_runs_did_does_not_count_for_the_pace(shown, tmp_path):
    shown()
    shutil.rmtree(tmp_path / "out" / "3")
    lines = shown()
    skipped = [line for line in lines if line.startswith("3 of 4 faces") and "search" not in line]
    assert skipped
    assert all("? left" in line for line in skipped)  # no work done yet, no pace known


def test_quiet_shows_no_bar(shown):
    assert shown(verbose=False) == []
