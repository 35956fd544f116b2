"""How a run stands: counts, and the faces worth a look."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from pulse.batch.journal import Record, Status

MOST_NAMED = 3  # slowest and worst faces that are named


@dataclass(frozen=True, order=True)
class Extreme:
    """A face that stands out.

    Attributes:
        value: its seconds or its error.
        name: its folder in the output tree.
    """

    value: float
    name: str


@dataclass
class Summary:
    """How the inputs of a run stand, work of earlier runs included.

    Attributes:
        pictures: inputs seen.
        done_before: inputs that an earlier run had finished.
        passed_over: inputs of other shards.
        counts: candidates by status; for "no-face" and "failed", pictures or faces.
        errors: mean squared error of every candidate that is there.
        faces: faces that this run searched for.
        seconds: wall time of this run's searches.
        slowest: the faces of this run that took longest, the longest first.
        worst: the faces whose best candidate fits least, the worst first.
    """

    pictures: int = 0
    done_before: int = 0
    passed_over: int = 0
    counts: Counter[Status] = field(default_factory=Counter)
    errors: list[float] = field(default_factory=list)
    faces: int = 0
    seconds: float = 0.0
    slowest: list[Extreme] = field(default_factory=list)
    worst: list[Extreme] = field(default_factory=list)

    def add(self, records: Iterable[Record]) -> None:
        """Count records in."""
        best: dict[tuple[str, int | None], float] = {}
        for record in records:
            self.counts[record.status] += 1
            if record.error is not None:
                self.errors.append(record.error)
                face = (name_of(record), record.face)
                best[face] = min(best.get(face, record.error), record.error)
        extremes = [Extreme(error, name) for (name, _), error in best.items()]
        self.worst = heapq.nlargest(MOST_NAMED, [*self.worst, *extremes])

    def add_time(self, records: Iterable[Record]) -> None:
        """Count in the time of one face's new candidates."""
        records = list(records)
        self.faces += 1
        if records:
            seconds = sum(record.seconds or 0.0 for record in records)
            extreme = Extreme(round(seconds, 3), name_of(records[0]))
            self.slowest = heapq.nlargest(MOST_NAMED, [*self.slowest, extreme])

    @property
    def is_complete(self) -> bool:
        """Whether every picture has its candidates."""
        return not self.counts["no-face"] and not self.counts["failed"]


def name_of(record: Record) -> str:
    """What to call a record's face: its folder in the output tree."""
    return record.output.rpartition("/")[0] if record.output else record.folder
