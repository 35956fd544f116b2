"""The runs of a report, and what their journals say now of each face."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pulse.batch.journal import JOURNAL_NAME, RUN_NAME, Journal, JournalIndex, Record, run_id_of
from pulse.errors import PulseError
from pulse.report.command import generator_is_known, options_of, search_of


@dataclass(frozen=True)
class Run:
    """One output folder.

    Attributes:
        path: the folder.
        settings: those of its run.json.
        run_id: of these settings; the folder may hold records of earlier ones.
        options: of the command that makes its faces again.
        tolerance: accepted mean squared error.
        needs_file: whether the generator was a file, whose path the command has to name.
    """

    path: Path
    settings: dict[str, Any]
    run_id: str
    options: str
    tolerance: float
    needs_file: bool

    @classmethod
    def open(cls, path: Path) -> Run:
        """Read a folder's run.json.

        Raises:
            PulseError: if it is no output folder of a run.
        """
        if not (path / JOURNAL_NAME).exists() or not (path / RUN_NAME).exists():
            raise PulseError(
                f"'{path}' is no output folder of a run: it has no {RUN_NAME} and {JOURNAL_NAME}; "
                "name the folder that `pulse upscale -o` wrote"
            )
        try:
            settings = json.loads((path / RUN_NAME).read_text())["settings"]
            identity = {name: value for name, value in settings.items() if name != "candidates"}
            return cls(
                path, settings, run_id_of(identity), options_of(settings),
                search_of(settings).tolerance, not generator_is_known(settings),
            )  # fmt: skip
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise PulseError(
                f"{path / RUN_NAME} cannot be read as the settings of a run ({error!r}); run "
                "`pulse upscale` into that folder again, or name another"
            ) from error

    def index(self) -> JournalIndex:
        """Where its records are.

        Raises:
            PulseError: if the journal has a line that is no record.
        """
        return Journal(self.path).index()

    def wants(self, record: Record) -> bool:
        """Whether a record is of a candidate that this run still asks for."""
        return (record.candidate or 0) <= int(self.settings["candidates"])


class Known(NamedTuple):
    """A record and the run that it is from."""

    run: Run
    record: Record


def faces_of(runs: Sequence[Run]) -> Iterator[list[Known]]:
    """What counts now of every face, in the order of their folders, one face at a time.

    Of a source, face and candidate the last record counts, a later run's before an earlier one's.
    A picture that has none is one item with one record.

    Raises:
        PulseError: if a journal has a line that is no record.
    """
    with ExitStack() as stack:
        indices = [stack.enter_context(closing(run.index())) for run in runs]
        folders = {source: folder for index in indices for source, folder in index.folders()}
        for source in sorted(folders, key=lambda source: (folders[source], source)):
            history = (
                Known(run, record)
                for run, index in zip(runs, indices, strict=True)
                for record in index.history_of(source)
            )
            yield from _faces_of_source(history)


def _faces_of_source(history: Iterable[Known]) -> Iterator[list[Known]]:
    """The faces of one picture by number, each with its records by candidate."""
    current: dict[tuple[int, int], Known] = {}
    made_of = None
    for known in history:
        record = known.record
        # other bytes or settings, or no face after all: what was said before is of another picture
        version = (record.source_sha256, record.run_id)
        if version != made_of or record.candidate is None:
            current.clear()
        current.pop((0, 0), None)
        current[record.face or 0, record.candidate or 0] = known
        made_of = version
    current = {key: known for key, known in current.items() if known.run.wants(known.record)}
    for face in sorted({face for face, _ in current}):
        yield [current[key] for key in sorted(current) if key[0] == face]
