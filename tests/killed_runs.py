"""Runs `pulse` in processes of its own and kills them at random moments; a script for the tests.

Importing PyTorch takes seconds and is not what is tested: this process does it once, computes
nothing itself, and forks a child for each run. Takes the arguments of `run` as JSON on stdin, and
prints the kills and the last exit status of each output folder: out-0, out-1, ...
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time

import torch

import pulse.cli.upscale  # noqa: F401 (loads all that a run needs)
from pulse.cli import main

MOST_FOLDERS = 40


def start(arguments):
    """Fork a run; its messages go nowhere."""
    child = os.fork()
    if child:
        return child
    status = 1
    with contextlib.suppress(BaseException):
        torch.set_num_threads(1)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        try:
            main(arguments, prog_name="pulse")
        except SystemExit as end:
            status = end.code or 0
    os._exit(status)


def wait(child, longest_s):
    """Wait for a run to end by itself: its status, or None if it has not by then."""
    deadline = time.monotonic() + longest_s
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def killed(rng, kills, longest_s, arguments):
    """Kill runs until one ends or enough were killed; then let one end: kills and its status."""
    count = 0
    while count < kills:
        child = start(arguments)
        if wait(child, rng.uniform(0, longest_s)) is not None:
            break
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        count += 1
    last = start(arguments)
    status = wait(last, 300)
    if status is None:  # it hangs, and holds the caller's stderr open
        os.kill(last, signal.SIGKILL)
        os.waitpid(last, 0)
    return count, status


def run(base, kills, kills_each, arguments):
    """Leave the first folder's run undisturbed, and kill those of others until enough were killed.

    How many of a folder's runs are killed before one ends depends on the load of the machine; so
    does the number of folders.
    """
    began = time.monotonic()
    told = [killed(None, 0, 0, [*arguments, "-o", f"{base}/out-0"])]
    longest_s = 0.5 * (time.monotonic() - began)  # later, most runs have ended
    for seed in range(MOST_FOLDERS):
        if sum(count for count, _ in told) >= kills:
            break
        out = f"{base}/out-{seed + 1}"
        told.append(killed(random.Random(seed), kills_each, longest_s, [*arguments, "-o", out]))
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    run(**json.load(sys.stdin))
