"""The examples for clusters and workstations, run as they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def folder(tmp_path):
    base = tmp_path / "two words"
    base.mkdir()
    for i in range(6):
        Image.new("RGB", (8, 8), (40 * i, 90, 90)).save(base / f"{i}.png")
    return base


@pytest.fixture
def run_script(folder, tmp_path, data, pulse_home, small_generator):
    """Run a script on two shards, with the quick generator; `small_generator` has its prior."""
    options = ["-n", "1", "--steps", "1", "--device", "cpu", "--quiet"]
    options += ["--generator", str(data / "generators" / "ada-plain.safetensors")]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def run(name, **variables):
        return subprocess.run(
            ["bash", SCRIPTS / name, folder, tmp_path / "out", *options],
            env=os.environ | {"PATH": path, "PULSE_HOME": str(pulse_home), **variables},
            capture_output=True, text=True,
        )  # fmt: skip

    return run


def sources_of(out):
    """What each shard's journal tells of."""
    return {
        path.parent.name: sorted(
            Path(json.loads(line)["source"]).name for line in path.read_text().splitlines()
        )
        for path in sorted(out.glob("*/journal.jsonl"))
    }


def test_the_shards_of_a_workstation_do_everything_once(run_script, tmp_path, folder):
    result = run_script("workstation.sh", PROCESSES="2")
    assert result.returncode == 0, result.stderr
    shards = sources_of(tmp_path / "out")
    assert list(shards) == ["shard-1-of-2", "shard-2-of-2"]
    assert sorted(shards["shard-1-of-2"] + shards["shard-2-of-2"]) == [f"{i}.png" for i in range(6)]
    (folder / "empty.png").write_bytes(b"")
    assert run_script("workstation.sh", PROCESSES="2").returncode == 3  # the worst of the two


def test_a_task_of_a_slurm_array_does_its_shard(run_script, tmp_path):
    for task in ("3", "4"):  # arrays may begin anywhere
        variables = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_MIN": "3"}
        result = run_script("slurm_array.sh", SLURM_ARRAY_TASK_COUNT="2", **variables)
        assert result.returncode == 0, result.stderr
    shards = sources_of(tmp_path / "out")
    assert list(shards) == ["shard-1-of-2", "shard-2-of-2"]
    assert sorted(shards["shard-1-of-2"] + shards["shard-2-of-2"]) == [f"{i}.png" for i in range(6)]


@pytest.mark.parametrize("name", ["workstation.sh", "slurm_array.sh"])
def test_too_few_arguments_are_wrong_usage(name):
    result = subprocess.run(["bash", SCRIPTS / name, "x"], capture_output=True, text=True)
    assert result.returncode == 2
    assert "FOLDER OUT [options of pulse upscale]" in result.stderr
