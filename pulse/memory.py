"""How the process takes memory from the operating system."""

from __future__ import annotations

import ctypes
import sys

# Numbers of parameters of mallopt(3), from glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let the C library keep what is freed, for the next picture to take again.

    glibc gives blocks above 32 MB back at once, and every page of the next one is fetched and
    cleared anew: at 1024 px two thirds of a step on a CPU are spent on that. Holds for the whole
    process, which stays as large as it has been at its largest.

    Returns:
        Whether it could be set: only where the C library is glibc.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, LARGEST))
