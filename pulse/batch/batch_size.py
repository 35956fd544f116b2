"""How many searches a device does best at a time: measured on it, not looked up."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pulse.downscale import Downscale
from pulse.pool import slot_search
from pulse.pretrained import Pretrained
from pulse.search.slots import SlotSearch
from pulse.settings import SearchSettings

if sys.platform != "win32":
    import resource

WORTH_IT = 0.85  # a doubled batch must bring the time of one search below this share
# Taken even where it gains nothing, if there is work for it: measured on a CPU, batches of 2 to 32
# round alike to the last bit and single precision in batches of 1 does not, so that runs with other
# batch sizes or numbers of workers draw the same pictures.
LEAST = 4
MOST_S = 15.0  # no more is tried once this much time is spent
LOW_RES_PX = 16
MEMORY_SHARE = 0.7  # of the free memory that a batch may take where too much is not refused
REPEATS = 3


@dataclass(frozen=True)
class BatchSize:
    """How many searches at a time.

    Attributes:
        size: the number.
        most: what it could have been at most, for lack of more work.
    """

    size: int
    most: int

    def suits(self, most: int) -> bool:
        """Whether it holds for a run that has work for `most` searches at a time."""
        return self.size < self.most or most <= self.most


def measure_batch_size(generator: Pretrained, settings: SearchSettings, most: int) -> int:
    """Double the batch while each search gets cheaper by it and the memory holds.

    Args:
        generator: on the device in question.
        settings: of the search.
        most: searches that there is work for; a larger batch would be empty in part.

    Returns:
        A power of two from 1, below 2 * `most`.
    """
    began, size = time.monotonic(), 1
    try:
        best_s, bytes_each = _measure(generator, settings, size)
        while (
            size < most
            and time.monotonic() - began < MOST_S
            and _fits(generator.device, 2 * size * bytes_each)
        ):
            each_s, bytes_each = _measure(generator, settings, 2 * size)
            if 2 * size > LEAST and each_s > WORTH_IT * best_s:
                break
            best_s, size = each_s, 2 * size
    except torch.OutOfMemoryError:
        pass  # the size before did fit; where even one does not, the search says so
    return size


def _measure(generator: Pretrained, settings: SearchSettings, size: int) -> tuple[float, float]:
    """Seconds and bytes of memory that a step takes for each search of a batch."""
    before = _peak_bytes(generator.device)
    search = _search_of(generator, settings, size)
    search.step()  # the first one chooses algorithms and takes memory
    seconds = []
    for _ in range(REPEATS):
        began = time.monotonic()
        search.step()
        search.finished()  # waits for the device
        seconds.append(time.monotonic() - began)
    return min(seconds) / size, max(0, _peak_bytes(generator.device) - before) / size


def _search_of(generator: Pretrained, settings: SearchSettings, size: int) -> SlotSearch:
    """A full batch of searches for grey pictures, which none of them finds."""
    G = generator.network
    # more steps than are measured: the last one takes no gradient
    settings = replace(settings, tolerance=0.0, steps=REPEATS + 2)
    search = slot_search(generator, settings, size)
    A = Downscale((G.resolution, G.resolution), (LOW_RES_PX, LOW_RES_PX), device=G.device)
    target = torch.full((3, LOW_RES_PX, LOW_RES_PX), 0.5)
    rng = torch.Generator().manual_seed(0)
    for slot in range(size):
        search.admit(slot, A, target, search.draw_start(target, rng))
    return search


def _peak_bytes(device: torch.device) -> int:
    """The most memory that this process has had at a time, on the device that computes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    if sys.platform == "win32":
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _fits(device: torch.device, needed_bytes: float) -> bool:
    """Whether a batch would find its memory: systems kill processes before they refuse memory."""
    if device.type == "cuda":
        return True  # refused cleanly
    return needed_bytes <= MEMORY_SHARE * _free_bytes()


def _free_bytes() -> int:
    """Memory that is free on this machine; where that is not told, half of all there is."""
    info = Path("/proc/meminfo")
    if info.exists():
        values = dict(line.split(":", 1) for line in info.read_text().splitlines())
        return int(values["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
