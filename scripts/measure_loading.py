"""Measure how long weights files take to load, and how much memory beyond the weights.

    python scripts/measure_loading.py FILE... [--runs 5]

Each run is a process of its own. The peak is that of the process above what it held once Python
and torch were there, less the bytes of the generator's tensors.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median

RUN = """
import json, sys, time
from pulse.checkpoints.load import load_network
import torch, safetensors.torch

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))

torch.nn.functional.conv2d(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 3, 3))  # libraries loaded
before, began = peak(), time.perf_counter()
network = load_network(sys.argv[1]).network
seconds = time.perf_counter() - began
tensors = network.state_dict().values()
weights = sum(t.numel() * t.element_size() for t in tensors)
touched = sum(t.sum() for t in tensors)  # a mapped file takes memory when it is used
print(json.dumps([seconds, weights, peak() - before - weights]))
"""


def main() -> None:
    """Print a table of the files: medians over the runs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    print(f"{'file':<28}{'seconds':>9}{'weights':>12}{'beyond them':>14}")
    for path in options.files:
        runs = []
        for _ in range(options.runs):
            command = [sys.executable, "-c", RUN, str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            runs.append(json.loads(done.stdout))
        seconds, weights, beyond = (median(values) for values in zip(*runs, strict=True))
        megabytes = f"{weights / 1e6:>9.0f} MB{beyond / 1e6:>11.0f} MB"
        print(f"{path.name:<28}{seconds:>9.2f}{megabytes}", flush=True)


if __name__ == "__main__":
    main()
