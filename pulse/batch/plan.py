"""What a run has still to do: the inputs held against the journal and the files that are there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pulse.batch.jobs import OutputFolders, Source, face_folder
from pulse.batch.journal import Record
from pulse.files import printable_path

LOW_RES_NAME = "low_res.png"
SHEET_NAME = "sheet.png"


@dataclass(frozen=True)
class PlannedPicture:
    """One input and what is known of it before it is opened.

    Attributes:
        source: where it is.
        sha256: of its bytes; None if they cannot be read.
        folder: its folder in the output tree.
        records: the records of these very bytes under the run's settings that count now: of each
            candidate asked for whose picture is there, or that no face was found.
        is_done: whether the records and the files prove it finished.
    """

    source: Source
    sha256: str | None
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


def plan_pictures(
    sources: Iterable[Source],
    journal: Iterable[Record],
    out: Path,
    run_id: str,
    candidates: int,
    *,
    overwrite: bool,
) -> Iterator[PlannedPicture]:
    """Hold each source against what earlier runs did.

    Args:
        sources: in the order of the run.
        journal: all records, oldest first; a later record replaces one of the same candidate.
        out: the output folder.
        run_id: of this run's settings; records of other settings do not count.
        candidates: asked for.
        overwrite: whether nothing counts as done.
    """
    folders: dict[str, str] = {}
    known: dict[str, dict[tuple[int | None, int | None], Record]] = {}
    for record in journal:
        folders[record.source] = record.folder
        known.setdefault(record.source, {})[record.face, record.candidate] = record
    assigned = OutputFolders(folders)
    for source in sources:
        sha256 = _sha256(source.path)
        folder = assigned.of(source)
        records = tuple(
            record
            for record in known.get(source.key, {}).values()
            if record.source_sha256 == sha256 is not None
            and record.run_id == run_id
            and not overwrite
            and _counts(record, out, candidates)
        )
        is_done = _is_done(folder, records, out, candidates)
        yield PlannedPicture(source, sha256, folder, records, is_done)


def _counts(record: Record, out: Path, candidates: int) -> bool:
    """Whether a record spares work: no face, or a wanted candidate whose picture is there whole."""
    if record.status == "no-face":
        return True
    if record.output is None or (record.candidate or 0) > candidates:
        return False
    try:
        return (out / record.output).stat().st_size == record.output_bytes
    except OSError:
        return False


def _is_done(folder: PurePosixPath, records: Sequence[Record], out: Path, candidates: int) -> bool:
    """Whether a picture needs no more work: no face in it, or every file of every face there."""
    if any(record.status == "no-face" for record in records):
        return True
    faces = max((record.faces or 0 for record in records), default=0)
    there = {(record.face, record.candidate) for record in records}
    return faces > 0 and all(
        all((face, candidate) in there for candidate in range(1, candidates + 1))
        and all(
            (out / face_folder(folder, face, faces) / name).exists()
            for name in (LOW_RES_NAME, SHEET_NAME)
        )
        for face in range(1, faces + 1)
    )


def _sha256(path: Path) -> str | None:
    """Hash of a file's bytes; None where it is no readable regular file."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):  # ValueError: a null byte in the name
        return None
