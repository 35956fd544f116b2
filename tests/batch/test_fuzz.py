"""Thousands of damaged files: each is read or refused, and none takes the run down."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

COUNT = 2000
SCRIPT = Path(__file__).parents[1] / "fuzzed_reading.py"


def test_mutated_files_are_each_read_or_refused(tmp_path):
    result = subprocess.run(
        [sys.executable, "-W", "ignore", SCRIPT, tmp_path, str(COUNT), "0"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert sum(told["counts"].values()) == COUNT
    assert told["counts"]["faces"] > COUNT / 10  # else the damage is all in the first bytes
    assert told["counts"]["failed"] > COUNT / 10
    assert told["longest_s"] < 10
    assert told["mib"] < 1024
