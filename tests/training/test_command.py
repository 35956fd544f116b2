"""`scripts/train_generator.py`, as a user types it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pulse.checkpoints.load import load_network
from pulse.training.checkpoints import load, newest

SCRIPT = Path(__file__).parents[2] / "scripts" / "train_generator.py"
SMALL = ["--resolution", "32", "--channel-max", "24", "--z-dim", "32", "--w-dim", "32",
         "--batch-size", "8", "--feature-px", "32", "--metric-samples", "64", "--device", "cpu",
         "--no-compile"]  # fmt: skip
CPU = torch.device("cpu")


def command(*arguments):
    return [sys.executable, str(SCRIPT), *map(str, arguments)]


def run(*arguments):
    return subprocess.run(command(*arguments), capture_output=True, text=True)


def test_sigterm_leaves_a_whole_checkpoint_and_the_run_goes_on(faces, features, tmp_path):
    out, exported = tmp_path / "run", tmp_path / "mine.safetensors"
    arguments = command(faces, "--out", out, *SMALL, "--every", 320, "--minutes", 1)
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if " images, vae: " in line:
                process.send_signal(signal.SIGTERM)
                break
        lines += list(process.stdout)
    assert process.returncode == 128 + signal.SIGTERM
    assert lines[1] == "64 pictures of 32 px: 16 dark, 48 light\n"
    assert lines[-2:] == ["signal 15: writing a checkpoint\n", "kept latest.safetensors\n"]
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["latest.safetensors"]
    seen = load(newest(out / "checkpoints"), features, CPU).progress.images
    assert seen >= 32

    refused = run(faces, "--out", out, *SMALL)
    assert refused.returncode == 1
    assert f"there is a run in {out}; --resume {out} goes on, or choose" in refused.stderr

    resumed = run(faces, "--resume", out, "--images", 0, "--no-compile", "--export", exported,
                  "--half", "--data", "drawn faces", "--licence", "CC0")  # fmt: skip
    assert resumed.returncode == 0, resumed.stderr
    assert f"latest.safetensors at {seen:,} images" in resumed.stdout
    assert load_network(exported).metadata["images_seen"] == str(seen)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "give --out for a new run, or --resume"),
        (["--out", "RUN", "--resolution", "100"], 2, "the resolution is 100, expected one of 16"),
        (["--resume", "RUN"], 1, "train_generator: there is no checkpoint in"),
    ],
)
def test_mistakes_are_one_line(faces, tmp_path, arguments, status, message):
    paths = [str(tmp_path / "run") if word == "RUN" else word for word in arguments]
    result = run(faces, *paths, "--no-compile", "--device", "cpu")
    assert result.returncode == status
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_photographs_are_aligned_first(drawn_scene, tmp_path):
    """One scene of two faces; the largest is cut out, and one picture is too few."""
    result = run(drawn_scene.parent, "--out", tmp_path / "run", "--align", *SMALL)
    assert result.returncode == 1
    assert "aligned-256 has 1 pictures, too few to train on" in result.stderr
    assert (tmp_path / "run" / "aligned-256" / "scene.png").exists()
