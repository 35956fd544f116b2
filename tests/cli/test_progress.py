"""The bar that a person at a terminal sees."""

from __future__ import annotations

import io
import re
import shutil
import sys
from dataclasses import replace

import pytest
from PIL import Image

from pulse.batch.journal import Record
from pulse.cli.options import Output, Where
from pulse.cli.upscale import Display, run_upscale
from pulse.search.slots import Progress
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

    monkeypatch.setattr("pulse.cli.upscale.SHOW_EVERY_S", 0.0)

    def run(method=METHOD, **output):
        terminal = Terminal()
        settings = Output(RunSettings(batch_size=4), as_json=False, verbose=None)
        settings = replace(settings, **output)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", terminal)
            run_upscale([folder], tmp_path / "out", method, Where(generator, "cpu", None), settings)
        return [line for line in re.split(r"[\r\n]+", terminal.getvalue()) if "left" in line]

    return run


def shares(lines):
    return [int(re.search(r"(\d+)%", line)[1]) for line in lines]


def test_the_time_left_is_told_once_the_first_searches_have_ended(shown):
    lines = [line for line in shown() if "search" in line]
    early = [line for line in lines if line.startswith("0 of 4 faces")]
    assert early
    for line in early:
        assert re.search(r" 0%, \d\d:\d\d gone, \? left, error 0\.\d+, [24] searches", line)
    later = [line for line in lines if not line.startswith("0 of 4 faces")]
    assert later
    for line in later:
        assert re.search(r"%, \d\d:\d\d gone, \d\d:\d\d left, error 0\.\d+, [24] searches", line)


def test_a_face_in_progress_counts_by_the_steps_that_searches_took(monkeypatch):
    """Not by those that they may take: few take as many."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    record = Record("a.png", "abc", "a", "saved", "run", candidate=1, steps=10, error=0.0)
    with Display(Output(RunSettings(), as_json=False, verbose=None), candidates=2) as display:
        watcher = display.watcher()
        watcher.on_total(4)
        watcher.on_step(Progress(steps=100, taken=[5, 5, 5, 5], errors=[1, 1, 1, 1]))
        assert display.bar.n == 0
        for steps in (8, 12):
            watcher.on_record(replace(record, steps=steps))
        watcher.on_face_done()
        assert display.bar.n == 1
        watcher.on_step(Progress(steps=100, taken=[5, 5, 15], errors=[1, 1, 1]))
        assert display.bar.n == 1 + (0.5 + 0.5 + 1) / 2


def test_thousands_of_pictures_that_are_done_are_not_shown_one_by_one(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Display(Output(RunSettings(), as_json=False, verbose=None), candidates=2) as display:
        watcher = display.watcher()
        watcher.on_total(2000)
        for _ in range(2000):
            watcher.on_face_done()
    assert terminal.getvalue().count("\r") < 200  # one at a time they would be 2000
    assert "2000 of 2000 faces" in terminal.getvalue()


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
