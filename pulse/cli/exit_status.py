"""What the exit status of a command says."""

from __future__ import annotations

STOPPED = 1  # the command could not go on
SOME_FAILED = 3  # some pictures have no candidates
INTERRUPTED = 130  # Ctrl-C, as shells count it
