"""Memory kept for the next step, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, torch
from pulse.memory import keep_freed_memory

def faults(n=8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(n):
        torch.ones(2**24)  # 64 MB, above glibc's largest threshold
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / n

stock = faults()
was_set = keep_freed_memory()
faults(16)  # the first ones make room
print(was_set, stock, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is the C library of Linux alone")
def test_freed_memory_is_taken_again_without_page_faults():
    out = subprocess.run(
        [sys.executable, "-c", COUNT_FAULTS], capture_output=True, text=True, check=True
    ).stdout.split()
    if out[0] == "False":
        pytest.skip("this C library has no mallopt")
    stock, kept = float(out[1]), float(out[2])
    # 64 MB are 16,384 pages of 4 KiB, or 32 of 2 MiB where the system hands out large ones
    assert stock >= 32
    assert kept < stock / 10
