"""One process at a time.

The lock is the operating system's, on an open file: it ends with the process that holds it, even
a killed one. A lock file that must be deleted would outlive its owner, and a name of its own for
each process would leave nothing to resume.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

if sys.platform == "win32":
    import msvcrt

    HELD = PermissionError  # how the system says that another process has the lock

    def _try_lock(file: BinaryIO) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    HELD = BlockingIOError

    def _try_lock(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


POLL_S = 0.2


@contextmanager
def locked(path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock of that name, waiting for it if another process has it.

    The file stays: to delete it while others wait on it would let two of them in.

    Args:
        path: the lock's own file; its folder exists.
        on_wait: called several times a second while another process holds the lock.

    Raises:
        OSError: if the file cannot be written or the disk has no locks.
    """
    with path.open("ab") as file:
        while not _is_locked_by_us(file):
            on_wait()
            time.sleep(POLL_S)
        yield


@contextmanager
def locked_at_once(path: Path) -> Iterator[bool]:
    """Hold the lock of that name if no other process has it, and remove its file at the end.

    Args:
        path: the lock's own file; its folder exists.

    Yields:
        Whether we hold it.

    Raises:
        OSError: if the file cannot be written.
    """
    with path.open("ab") as file:
        is_ours = _is_locked_by_us(file) and _is_still_at(path, file)
        try:
            yield is_ours
        finally:
            if is_ours:  # removed while held, so that it is surely ours
                path.unlink(missing_ok=True)


def _is_still_at(path: Path, file: BinaryIO) -> bool:
    """Whether an open file still has its name: its last holder may have removed it meanwhile."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _is_locked_by_us(file: BinaryIO) -> bool:
    try:
        _try_lock(file)
    except HELD:
        return False
    return True
