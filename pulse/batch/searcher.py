"""What a run searches with: one device, or many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from pulse.candidates import Candidate, Job
from pulse.pretrained import Pretrained
from pulse.settings import UpscaleSettings


class Searcher(Protocol):
    """Jobs in, candidates out: one device or many.

    Attributes:
        batch_size: searches at a time on each device.
        is_on_cpu: whether it searches on processor cores, and leaves few for anything else.
    """

    batch_size: int

    @property
    def is_on_cpu(self) -> bool:
        """See above."""

    def __len__(self) -> int:
        """Jobs that have no answer yet."""

    @property
    def wants_more(self) -> bool:
        """Whether there should be more jobs in the queue."""

    def add(self, jobs: Sequence[Job]) -> None:
        """Put jobs into the queue."""

    def advance(self) -> list[tuple[Job, Candidate]]:
        """Search until at least one job has its answer; nothing where more jobs had better come."""

    def close(self) -> None:
        """Stop what was started."""


SearcherFactory = Callable[[Pretrained, UpscaleSettings, int | None, int], Searcher]
"""Makes what searches, with a batch size, or None and the number of searches there is work for."""
