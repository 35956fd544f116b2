"""The journal of a run: one line for each face and candidate, appended and never changed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from pulse.errors import PulseError

RUN_NAME = "run.json"
JOURNAL_NAME = "journal.jsonl"

Status = Literal["saved", "above-tolerance", "no-face", "failed"]
STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True)
class Record:
    """What became of one candidate, or of a picture that has none.

    Attributes:
        source: the input's absolute path.
        source_sha256: of the input file's bytes; None if it could not be read.
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
    """

    source: str
    source_sha256: str | None
    folder: str
    status: Status
    run_id: str
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

    def to_json(self) -> str:
        """One line of ASCII, whatever the names."""
        return json.dumps(asdict(self))


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
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):
                    yield self._parse(line, number)

    def _parse(self, line: bytes, number: int) -> Record:
        names = {field.name for field in fields(Record)}
        try:
            values = json.loads(line)
            known = {name: values[name] for name in names if name in values}
            record = Record(**known | {"notes": tuple(known.get("notes", ()))})
        except (ValueError, TypeError) as error:
            raise PulseError(
                f"{self.path} line {number} is not a record of this program ({error}); "
                "move the file away or write to another folder with -o"
            ) from error
        return record

    def append(self, records: list[Record]) -> None:
        """Add records and see that they are on the disk before returning.

        Raises:
            PulseError: if they cannot be written.
        """
        try:
            with self.path.open("ab") as file:
                file.write("".join(f"{record.to_json()}\n" for record in records).encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise PulseError(f"cannot write the journal {self.path}: {error.strerror}") from error

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
