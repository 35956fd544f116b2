"""The journal of a run: one line for each face and candidate, appended and never changed.

The names of a run's files are here as well: whoever reads a journal looks for them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, Literal, get_args

from pulse.errors import PulseError
from pulse.files import printable_path

RUN_NAME = "run.json"
JOURNAL_NAME = "journal.jsonl"
LOW_RES_NAME = "low_res.png"
DOWNSCALED_NAME = "downscaled.png"
DISAGREEMENT_NAME = "disagreement.png"
SHEET_NAME = "sheet.png"
REPORT_NAME = "report.html"

Status = Literal["saved", "above-tolerance", "no-face", "failed"]
STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True)
class Record:
    """What became of one candidate, or of a picture that has none.

    Attributes:
        source: the input's absolute path.
        source_sha256: of the input file's bytes; None if it could not be read.
        source_bytes: its size; None if it could not be read.
        source_mtime_ns: when it was last changed, nanoseconds; None if it could not be read.
        folder: the picture's folder in the output tree.
        status: "saved" within the tolerance, "above-tolerance" saved all the same, "no-face", or
            "failed".
        run_id: hash of the settings that decide how the picture looks.
        face: from 1, the largest first; None for a picture without candidates.
        faces: faces of the picture; None if unknown.
        candidate: from 1; None for a picture without candidates.
        error: mean squared error in the downscaled space, pixels in [0, 1].
        steps: descent steps taken.
        seconds: time that the search took for this candidate.
        seed: of the run.
        output: the picture written, relative to the output folder.
        output_bytes: its size.
        low_res_px: pixels a side of the low-resolution face.
        reason: why there is no candidate.
        notes: conversions and warnings.
        posterior: how the sampler of the face fared, as `Diagnostics`; None where it was searched
            for.
    """

    source: str
    source_sha256: str | None
    folder: str
    status: Status
    run_id: str
    source_bytes: int | None = None
    source_mtime_ns: int | None = None
    face: int | None = None
    faces: int | None = None
    candidate: int | None = None
    error: float | None = None
    steps: int | None = None
    seconds: float | None = None
    seed: int | None = None
    output: str | None = None
    output_bytes: int | None = None
    low_res_px: int | None = None
    reason: str | None = None
    notes: tuple[str, ...] = ()
    posterior: dict[str, Any] | None = None

    def to_json(self) -> str:
        """One line of ASCII, whatever the names."""
        return json.dumps(asdict(self))


FIELD_NAMES = frozenset(field.name for field in fields(Record))


def run_id_of(identity: dict[str, Any]) -> str:
    """A short hash of what decides how a run's pictures look, for its records."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


class Journal:
    """The journal file of one output folder.

    Args:
        out: the output folder.
    """

    def __init__(self, out: Path) -> None:
        self.path = out / JOURNAL_NAME

    def read(self) -> Iterator[Record]:
        """Records in the order they were written; a torn last line does not count.

        Raises:
            PulseError: naming the line that is not a record.
        """
        for _, line, number in self._lines():
            yield self.parse(line, number)

    def index(self) -> JournalIndex:
        """Where in the file the records of each source are.

        Raises:
            PulseError: naming the line that is not a record.
        """
        sources: dict[str, tuple[str, list[int]]] = {}
        for offset, line, number in self._lines():
            values = self._load(line, number)
            try:
                source, folder = values["source"], values["folder"]
            except KeyError as error:
                raise self._spoiled(number, f"no field {error}") from error
            if source in sources:
                sources[source] = (folder, [*sources[source][1], offset])
            else:
                sources[source] = (folder, [offset])
        return JournalIndex(self, sources)

    def _lines(self) -> Iterator[tuple[int, bytes, int]]:
        """Offset, content and number of each whole line."""
        if not self.path.exists():
            return
        offset = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):
                    yield offset, line, number
                offset += len(line)

    def _load(self, line: bytes, number: int | None) -> dict[str, Any]:
        try:
            values = json.loads(line)
        except ValueError as error:
            raise self._spoiled(number, error) from error
        if not isinstance(values, dict):
            raise self._spoiled(number, f"it is no object but {type(values).__name__}")
        return values

    def parse(self, line: bytes, number: int | None = None) -> Record:
        """The record of one line.

        Raises:
            PulseError: naming the line, if its number is known, where it is not a record.
        """
        values = self._load(line, number)
        try:
            known = {name: values[name] for name in values.keys() & FIELD_NAMES}
            return Record(**known | {"notes": tuple(known.get("notes", ()))})
        except TypeError as error:
            raise self._spoiled(number, error) from error

    def _spoiled(self, number: int | None, reason: object) -> PulseError:
        where = "has a line that" if number is None else f"line {number}"
        return PulseError(
            f"{self.path} {where} is not a record of this program ({reason}); "
            "move the file away or write to another folder with -o"
        )

    def repair(self) -> None:
        """Cut off a last line that a killed run left torn."""
        if not self.path.exists():
            return
        with self.path.open("rb+") as file:
            size = end = file.seek(0, os.SEEK_END)
            while end > 0:  # backwards in pieces: a long journal costs no more than a short one
                start = max(0, end - 4096)
                file.seek(start)
                newline = file.read(end - start).rfind(b"\n")
                end = start if newline < 0 else start + newline + 1
                if newline >= 0:
                    break
            if end != size:
                file.truncate(end)

    def open(self) -> JournalWriter:
        """Open the file for records to be added.

        Raises:
            PulseError: if it cannot be opened.
        """
        return JournalWriter(self.path)


class JournalIndex:
    """Which records there are of each source, without holding them in memory.

    May be asked from several threads, until it is closed.

    Args:
        journal: the file.
        sources: source to its folder and the offsets of its records, oldest first.
    """

    def __init__(self, journal: Journal, sources: dict[str, tuple[str, list[int]]]) -> None:
        self._journal, self._sources = journal, sources
        self._file: BinaryIO | None = (
            None  # one for all sources: to open it takes longer than to read
        )
        self._lock = Lock()

    def folders(self) -> Iterator[tuple[str, str]]:
        """Each source with its folder in the output tree."""
        return ((source, folder) for source, (folder, _) in self._sources.items())

    def history_of(self, source: str) -> list[Record]:
        """Every record of a source, oldest first."""
        if source not in self._sources:
            return []
        return [self._journal.parse(line) for line in self._lines_at(self._sources[source][1])]

    def _lines_at(self, offsets: list[int]) -> list[bytes]:
        """The lines that begin at these places of the file."""
        with self._lock:
            if self._file is None:
                self._file = self._journal.path.open("rb")
            lines = []
            for offset in offsets:
                self._file.seek(offset)
                lines.append(self._file.readline())
            return lines

    def records_of(self, source: str) -> list[Record]:
        """The records of a source, of each face and candidate the latest."""
        latest = {(record.face, record.candidate): record for record in self.history_of(source)}
        return list(latest.values())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def lost_folder(out: Path) -> PulseError:
    """What to tell the user whose output folder is no longer the one that the run began with."""
    return PulseError(
        f"the output folder {printable_path(out)} was removed or replaced during the run; "
        "bring it back, or run the same command again to begin anew"
    )


class JournalWriter:
    """A journal open for records to be added.

    Args:
        path: the file; made if it is not there.

    Raises:
        PulseError: if it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file: BinaryIO = path.open("ab", buffering=0)
        except OSError as error:
            raise self._failure(error.strerror) from error

    def append(self, records: list[Record]) -> None:
        """Add records and see that they are on the disk before returning.

        Raises:
            PulseError: if they cannot be written, or the file is no longer where it was.
        """
        self.check_place()
        lines = "".join(f"{record.to_json()}\n" for record in records).encode()
        end = self._file.seek(0, os.SEEK_END)
        try:
            written = self._file.write(lines)
            if written != len(lines):  # a full disk takes a part
                self._file.write(lines[written:])
            os.fsync(self._file.fileno())
        except OSError as error:
            with suppress(OSError):  # the next run would cut off the torn line all the same
                self._file.truncate(end)
            raise self._failure(error.strerror) from error

    def check_place(self) -> None:
        """See that the output folder is still the one that the run began with.

        Raises:
            PulseError: if it was removed, moved or replaced.
        """
        try:
            there = self.path.stat()
        except OSError as error:
            raise lost_folder(self.path.parent) from error
        if not os.path.samestat(there, os.fstat(self._file.fileno())):
            raise lost_folder(self.path.parent)

    def _failure(self, reason: str | None) -> PulseError:
        return PulseError(
            f"cannot write the journal {self.path}: {reason}; free space or mend the folder, then "
            "run the same command again"
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()
