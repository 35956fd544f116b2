"""Runs that are killed, run out of disk or lose their folder, and the same command again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import tree_of
from PIL import Image

from pulse.batch.journal import Journal
from pulse.batch.runner import Runner
from pulse.batch.watcher import Watcher
from pulse.errors import PulseError
from pulse.files import make_folder
from pulse.lock import locked_at_once
from pulse.settings import PasteSettings, RunSettings, SearchSettings, UpscaleSettings

SETTINGS = UpscaleSettings(candidates=2, search=SearchSettings(steps=3))
SCRIPT = Path(__file__).parents[1] / "killed_runs.py"


@pytest.fixture
def folder(tmp_path):
    """Eight 8x8 pictures and two that are none."""
    base = tmp_path / "in"
    (base / "sub").mkdir(parents=True)
    for i in range(8):
        image = Image.linear_gradient("L").resize((8, 8)).rotate(90 * i).convert("RGB")
        image.putpixel((0, 0), (255, 0, 30 * i))
        image.save(base / ("sub" if i % 2 else "") / f"{i}.png")
    (base / "empty.png").write_bytes(b"")
    Image.effect_noise((300, 200), 50).save(base / "no_face.png")
    return base


def test_killed_at_50_moments_the_same_command_gives_the_same_tree(
    folder, tmp_path, data, pulse_home, small_generator
):
    """Runs into some folders, each killed five times unless it ends first."""
    generator = data / "generators" / "ada-plain.safetensors"
    arguments = ["upscale", folder, "--generator", generator, "--device", "cpu"]
    arguments += ["-n", 2, "--steps", 3, "--batch-size", 4, "--quiet"]
    arguments += ["--paste-back", "--pick", "all", "--scale", 2]
    arguments += ["--save-steps", "--save-latents"]
    task = {"base": str(tmp_path), "kills": 50, "kills_each": 5}
    task["arguments"] = [str(argument) for argument in arguments]
    result = subprocess.run(
        [sys.executable, SCRIPT],
        input=json.dumps(task), capture_output=True, text=True, check=True, timeout=540,
        env=os.environ | {"PULSE_HOME": str(pulse_home)},
    )  # fmt: skip
    told = json.loads(result.stdout)
    assert told[0] == [0, 3]  # two of the inputs are no faces
    want = tree_of(tmp_path / "out-0")
    assert len(want) == 8 * 12 + 3
    assert "report.html" in want
    for i, (_, status) in enumerate(told):
        assert status == 3
        assert tree_of(tmp_path / f"out-{i}") == want
    assert sum(kills for kills, _ in told) >= 50


def test_a_full_disk_stops_the_run_and_the_next_one_completes_it(
    folder, tmp_path, small_generator, one_thread
):
    out = tmp_path / "disk"
    out.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(out)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this system lets the tests mount no small disk")
    try:
        whole = tmp_path / "whole"
        Runner(whole, small_generator, SETTINGS, RunSettings(batch_size=4)).run([folder])
        with pytest.raises(PulseError, match=r"cannot write .*No space left on device"):
            Runner(out, small_generator, SETTINGS, RunSettings(batch_size=4)).run([folder])
        assert 0 < len(list(Journal(out).read())) < 16  # some faces are whole, and known to be
        subprocess.run(["mount", "-o", "remount,size=64m", str(out)], check=True)
        Runner(out, small_generator, SETTINGS, RunSettings(batch_size=4)).run([folder])
        assert tree_of(out) == tree_of(whole)
    finally:
        subprocess.run(["umount", str(out)], check=True)


def test_a_lost_output_folder_stops_the_run_and_is_not_made_anew(
    folder, tmp_path, small_generator, one_thread
):
    out, elsewhere, whole = (tmp_path / name for name in ("out", "elsewhere", "whole"))
    Runner(whole, small_generator, SETTINGS, RunSettings(batch_size=4)).run([folder])

    def lose(record):
        if record.candidate and out.exists():
            out.rename(elsewhere)

    watcher = Watcher(on_record=lose)
    with pytest.raises(PulseError, match=r"output folder .*out was removed or replaced during"):
        Runner(out, small_generator, SETTINGS, RunSettings(batch_size=4), watcher).run([folder])
    assert not out.exists()
    elsewhere.rename(out)
    Runner(out, small_generator, SETTINGS, RunSettings(batch_size=4)).run([folder])
    assert tree_of(out) == tree_of(whole)


@pytest.mark.parametrize("room", ["output", "paste"])
def test_a_folder_that_is_lost_between_a_look_and_a_write_is_not_made_anew(
    folder, tmp_path, small_generator, monkeypatch, room
):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"

    def make_after_the_loss(*arguments, **named):
        if out.exists():
            out.rename(elsewhere)
        make_folder(*arguments, **named)

    monkeypatch.setattr(f"pulse.batch.{room}.make_folder", make_after_the_loss)
    run_settings = RunSettings(batch_size=4, paste=PasteSettings())
    runner = Runner(out, small_generator, SETTINGS, run_settings)
    with pytest.raises(PulseError, match=r"output folder .*out was removed or replaced during"):
        runner.run([folder])
    assert elsewhere.exists()
    assert not out.exists()


def test_two_runs_do_not_share_a_folder(folder, tmp_path, small_generator):
    out = tmp_path / "out"
    out.mkdir()
    with locked_at_once(out / ".lock") as is_ours:
        assert is_ours
        with pytest.raises(PulseError, match=r"another run is writing to '.*out'; wait for it"):
            Runner(out, small_generator, SETTINGS).run([folder])
    assert not list(out.iterdir())
    Runner(out, small_generator, SETTINGS).run([folder])
    assert not (out / ".lock").exists()
