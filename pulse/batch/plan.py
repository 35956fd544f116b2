"""What a run has still to do: the inputs held against the journal and the files that are there."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pulse.batch.beside import names_beside
from pulse.batch.jobs import Source, face_folder
from pulse.batch.journal import LOW_RES_NAME, SHEET_NAME, JournalIndex, Record
from pulse.files import printable_path
from pulse.settings import NOTHING_KEPT, KeepSettings


@dataclass(frozen=True)
class Identity:
    """What tells whether an input is still the file that it was.

    Attributes:
        sha256: of its bytes.
        size_bytes: how many.
        mtime_ns: when it was last changed.
    """

    sha256: str
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True)
class PlannedPicture:
    """One input and what is known of it before it is opened.

    Attributes:
        source: where it is.
        identity: of its bytes; None if they cannot be read.
        folder: its folder in the output tree.
        records: the records of these very bytes under the run's settings that count now: of each
            candidate asked for whose picture is there, or that no face was found.
        is_done: whether the records and the files prove it finished.
    """

    source: Source
    identity: Identity | None
    folder: PurePosixPath
    records: tuple[Record, ...]
    is_done: bool

    @property
    def name(self) -> str:
        """What to call it, on one line."""
        return printable_path(self.source.path)

    def records_of(self, face: int) -> list[Record]:
        """The records of one face's candidates."""
        return [record for record in self.records if record.face == face]


@dataclass(frozen=True)
class Plan:
    """Holds inputs against what earlier runs did; may be asked from several threads.

    Attributes:
        journal: what earlier runs did.
        out: the output folder.
        run_id: of this run's settings; records of other settings do not count.
        candidates: asked for.
        overwrite: whether nothing counts as done.
        keep: what must be there beside each candidate.
        pasted: names of the pictures that a picture's own folder must hold.
    """

    journal: JournalIndex
    out: Path
    run_id: str
    candidates: int
    overwrite: bool
    keep: KeepSettings = NOTHING_KEPT
    pasted: tuple[str, ...] = ()

    def of(self, source: Source, folder: PurePosixPath) -> PlannedPicture:
        """What is known of a source whose pictures go to this folder."""
        earlier = self._earlier(source)
        return self._planned(source, folder, earlier, identify(source.path, earlier))

    def at_once(self, source: Source, folder: PurePosixPath) -> PlannedPicture | None:
        """The same; None where the file's bytes have to be read to know it."""
        earlier = self._earlier(source)
        identity = recognise(source.path, earlier)
        return self._planned(source, folder, earlier, identity) if identity else None

    def _earlier(self, source: Source) -> list[Record]:
        """The records of a source under the run's settings that may count."""
        if self.overwrite:
            return []
        records = self.journal.records_of(source.key)
        return [record for record in records if record.run_id == self.run_id]

    def _planned(
        self, source: Source, folder: PurePosixPath, earlier: list[Record],
        identity: Identity | None,
    ) -> PlannedPicture:  # fmt: skip
        records = tuple(
            record
            for record in earlier
            if identity is not None
            and record.source_sha256 == identity.sha256
            and self._counts(record)
        )
        return PlannedPicture(source, identity, folder, records, self._is_done(folder, records))

    def _counts(self, record: Record) -> bool:
        """Whether a record spares work: no face, or a wanted candidate with its picture whole."""
        if record.status == "no-face":
            return True
        if record.output is None or (record.candidate or 0) > self.candidates:
            return False
        path = f"{self.out}/{record.output}"
        beside = names_beside(record.candidate or 0, self.keep)
        if not _are_in(os.path.dirname(path), beside):  # noqa: PTH120 (see _are_in)
            return False
        try:
            return os.stat(path).st_size == record.output_bytes  # noqa: PTH116
        except OSError:
            return False

    def _is_done(self, folder: PurePosixPath, records: Sequence[Record]) -> bool:
        """Whether a picture needs no more work: no face, or every file of every face there."""
        if any(record.status == "no-face" for record in records):
            return True
        faces = max((record.faces or 0 for record in records), default=0)
        there = {(record.face, record.candidate) for record in records}
        return (
            faces > 0
            and _are_in(f"{self.out}/{folder}", self.pasted)
            and all(
                all((face, candidate) in there for candidate in range(1, self.candidates + 1))
                and _are_in(
                    f"{self.out}/{face_folder(folder, face, faces)}", (LOW_RES_NAME, SHEET_NAME)
                )
                for face in range(1, faces + 1)
            )
        )


def _are_in(folder: str, names: Iterable[str]) -> bool:
    """Whether a folder has these files; asked so often that to build paths would take longest."""
    return all(os.path.exists(f"{folder}/{name}") for name in names)  # noqa: PTH110


def identify(path: Path, earlier: Sequence[Record] = ()) -> Identity | None:
    """Identify a file's bytes; None where it is no readable regular file.

    Its hash is taken from an earlier record of a file of this size and time, if there is one.
    """
    known = recognise(path, earlier)
    if known:
        return known
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return None
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):  # ValueError: a null byte in the name
        return None
    return Identity(sha256, status.st_size, status.st_mtime_ns)


def recognise(path: Path, earlier: Sequence[Record]) -> Identity | None:
    """Identify a readable file by its size and time alone; None where no earlier record has them.

    A folder of large pictures need not be read again to see that it is done.
    """
    if not earlier:
        return None
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    seen = (status.st_size, status.st_mtime_ns)
    for record in earlier:
        if (record.source_bytes, record.source_mtime_ns) == seen and record.source_sha256:
            is_readable = stat.S_ISREG(status.st_mode) and os.access(path, os.R_OK)
            return Identity(record.source_sha256, *seen) if is_readable else None
    return None
