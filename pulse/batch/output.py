"""The files of one face: its low-resolution picture, its candidates, and its contact sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pulse.batch.jobs import face_folder
from pulse.batch.journal import Record, Status
from pulse.batch.plan import LOW_RES_NAME, SHEET_NAME, PlannedPicture
from pulse.faces.prepare import Face
from pulse.files import make_folder
from pulse.images import read_picture, to_image, to_tensor, write_picture
from pulse.method import Candidate, origin_of
from pulse.pretrained import Pretrained
from pulse.settings import FormatName, UpscaleSettings
from pulse.sheet import SheetEntry, draw_sheet


@dataclass(frozen=True)
class FaceWork:
    """A face, and the candidates of it that are not there yet.

    Attributes:
        planned: the picture that the face is in.
        face: the face.
        missing: numbers of the candidates to search for; may be none where the sheet is missing.
        notes: for the records.
    """

    planned: PlannedPicture
    face: Face
    missing: tuple[int, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class FaceWriter:
    """Writes what was found of a face.

    Attributes:
        out: the output folder of the run.
        run_id: of its settings.
        generator: that drew the candidates.
        settings: of the method.
        format: of the candidates.
    """

    out: Path
    run_id: str
    generator: Pretrained
    settings: UpscaleSettings
    format: FormatName

    def write_candidates(self, work: FaceWork, candidates: Sequence[Candidate]) -> list[Record]:
        """Write the low-resolution face and its new candidates; the records are not written here.

        Raises:
            PulseError: if a file cannot be written.
        """
        folder = self._folder(work)
        make_folder(self.out / folder)
        # a sheet shows every candidate or is not there: an older one would pass for finished
        (self.out / folder / SHEET_NAME).unlink(missing_ok=True)
        write_picture(to_image(work.face.low_res), self.out / folder / LOW_RES_NAME)
        return [self._write_candidate(work, folder, candidate) for candidate in candidates]

    def write_sheet(
        self, work: FaceWork, records: Sequence[Record], candidates: Sequence[Candidate]
    ) -> None:
        """Draw the contact sheet from what is new and what is on the disk.

        Args:
            work: the face.
            records: of all its candidates, new and old.
            candidates: the new ones.

        Raises:
            PulseError: if a file cannot be read or written.
        """
        new = {candidate.number: candidate.image for candidate in candidates}
        entries = [
            SheetEntry(
                number=record.candidate,
                image=new[record.candidate]
                if record.candidate in new
                else to_tensor(read_picture(self.out / record.output).image),
                error=record.error,
                met_tolerance=record.status == "saved",
            )
            for record in sorted(records, key=lambda record: record.candidate or 0)
            if record.candidate and record.output and record.error is not None
        ]
        if not entries:
            return
        face = work.face
        title = work.planned.name
        if face.count > 1:
            title += f", face {face.number} of {face.count}"
        tolerance, kernel = self.settings.search.tolerance, self.settings.face.kernel
        sheet = draw_sheet(face.low_res, entries, tolerance, kernel, title)
        origin = origin_of(face, None, self.generator, self.settings.seed, self.settings)
        write_picture(sheet, self.out / self._folder(work) / SHEET_NAME, origin=origin)

    def record(self, planned: PlannedPicture, status: Status, **values: Any) -> Record:  # noqa: ANN401
        """A record of a picture; the fields of `Record` that say more of it go in by name."""
        return Record(
            source=planned.source.key,
            source_sha256=planned.sha256,
            folder=str(planned.folder),
            status=status,
            run_id=self.run_id,
            seed=self.settings.seed,
            **values,
        )

    def _folder(self, work: FaceWork) -> PurePosixPath:
        return face_folder(work.planned.folder, work.face.number, work.face.count)

    def _write_candidate(
        self, work: FaceWork, folder: PurePosixPath, candidate: Candidate
    ) -> Record:
        """Write one candidate and return its record."""
        values: dict[str, Any] = {
            "face": work.face.number,
            "faces": work.face.count,
            "notes": work.notes,
            "candidate": candidate.number,
            "steps": candidate.steps,
            "seconds": round(candidate.seconds, 3),
            "low_res_px": work.face.low_res.shape[-1],
        }
        if not math.isfinite(candidate.error):
            reason = "the search left the range of numbers; try a smaller --step-size"
            return self.record(work.planned, "failed", reason=reason, **values)
        output = folder / f"candidate-{candidate.number:02d}.{self.format}"
        candidate.save(self.out / output)
        return self.record(
            work.planned,
            "saved" if candidate.met_tolerance else "above-tolerance",
            error=candidate.error,
            output=str(output),
            output_bytes=(self.out / output).stat().st_size,
            **values,
        )
