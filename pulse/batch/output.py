"""The files of one face: its low-resolution picture, its candidates, and its contact sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from pulse.batch.beside import write_beside
from pulse.batch.jobs import face_folder
from pulse.batch.journal import (
    DISAGREEMENT_NAME,
    DOWNSCALED_NAME,
    LOW_RES_NAME,
    RUN_NAME,
    SHEET_NAME,
    Record,
    Status,
    lost_folder,
)
from pulse.batch.paste import Paster, Together, remove_pasted
from pulse.batch.plan import PlannedPicture
from pulse.candidates import Candidate, origin_of
from pulse.errors import PictureError, PulseError
from pulse.faces.prepare import Face
from pulse.files import make_folder, remove_partial_files
from pulse.images import read_picture, to_image, to_tensor, write_picture
from pulse.images.credentials import Sign, Signer
from pulse.pretrained import Pretrained
from pulse.settings import NOTHING_KEPT, FormatName, KeepSettings, UpscaleSettings
from pulse.sheet import SheetEntry, draw_disagreement, draw_downscaled, draw_sheet


@dataclass(frozen=True)
class FaceWork:
    """A face, and the candidates of it that are not there yet.

    Attributes:
        planned: the picture that the face is in.
        face: the face.
        missing: numbers of the candidates to search for; may be none where the sheet is missing.
        notes: for the records.
        together: all faces of the picture.
    """

    planned: PlannedPicture
    face: Face
    missing: tuple[int, ...]
    notes: tuple[str, ...]
    together: Together


@dataclass(frozen=True)
class FaceWriter:
    """Writes what was found of a face.

    Attributes:
        out: the output folder of the run.
        run_id: of its settings.
        generator: that drew the candidates.
        settings: of the method.
        format: of the candidates.
        signer: signs the candidates and the sheet; None for no signature.
        keep: what is kept beside each candidate.
        paster: puts candidates back into their photographs; None for not at all.
    """

    out: Path
    run_id: str
    generator: Pretrained
    settings: UpscaleSettings
    format: FormatName
    signer: Signer | None = None
    keep: KeepSettings = NOTHING_KEPT
    paster: Paster | None = None

    def write(self, work: FaceWork, candidates: Sequence[Candidate]) -> list[Record]:
        """Write the low-resolution face, its new candidates and the sheet of them all.

        May be called from several threads. The records are not written here.

        Args:
            work: the face.
            candidates: the new ones.

        Returns:
            The records of the new candidates, and of a failure to paste them back.

        Raises:
            PulseError: if a file cannot be written.
        """
        try:
            return self._write(work, candidates)
        except (OSError, PulseError):
            self._check_place()  # a lost folder shows first in whatever was being written
            raise

    def _write(self, work: FaceWork, candidates: Sequence[Candidate]) -> list[Record]:
        folder = self.out / self._folder(work)
        self._make_folder(folder)
        # a sheet shows every candidate or is not there: an older one would pass for finished
        (folder / SHEET_NAME).unlink(missing_ok=True)
        if candidates:  # and pictures of older ones for pictures of these
            remove_pasted(self.out, work.planned)
        write_picture(to_image(work.face.low_res), folder / LOW_RES_NAME)
        new = [self._write_candidate(work, candidate) for candidate in candidates]
        earlier = work.planned.records_of(work.face.number)
        images = {candidate.number: candidate.image for candidate in candidates}
        # what JPEG kept of a new candidate is what a later run would find
        self._write_comparisons(work, [*earlier, *new], {} if self.format == "jpg" else images)
        return new + self._paste(work, [*earlier, *new])

    def _paste(self, work: FaceWork, records: list[Record]) -> list[Record]:
        """Paste back the faces of a picture with the last of them; the record of a failure."""
        faces = work.together.add(work.face, records)
        if self.paster is None or faces is None:
            return []
        try:
            self.paster.write(work.planned, faces)
        except PictureError as error:
            return [self.record(work.planned, "failed", reason=f"not pasted back: {error}")]
        return []

    def _check_place(self) -> None:
        """See that the output folder is there: it is not made anew without its journal.

        Raises:
            PulseError: if it was lost.
        """
        if not (self.out / RUN_NAME).exists():
            raise lost_folder(self.out)

    def _make_folder(self, folder: Path) -> None:
        """Make a face's folder, and clear it of what a killed run left half-written."""
        self._check_place()
        make_folder(folder, within=self.out)
        remove_partial_files(folder)

    def _write_comparisons(
        self, work: FaceWork, records: Sequence[Record], images: Mapping[int, Tensor]
    ) -> None:
        """Draw what compares a face's candidates; the sheet comes last and says that all is there.

        Args:
            work: the face.
            records: of all its candidates, new and old.
            images: (3, H, W) by candidate; those that are not here are read from their files.
        """
        entries = [
            SheetEntry(
                number=record.candidate,
                image=images[record.candidate]
                if record.candidate in images
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
        pictures = {DOWNSCALED_NAME: draw_downscaled(face.low_res, entries, kernel)}
        if len(entries) > 1:
            pictures[DISAGREEMENT_NAME] = draw_disagreement(entries)
        else:  # of a run with more candidates
            (self.out / self._folder(work) / DISAGREEMENT_NAME).unlink(missing_ok=True)
        pictures[SHEET_NAME] = draw_sheet(face.low_res, entries, tolerance, kernel, title)
        origin = origin_of(face, None, self.generator, self.settings.seed, self.settings)
        sign = self._sign(work.planned)
        for name, picture in pictures.items():
            write_picture(picture, self.out / self._folder(work) / name, origin=origin, sign=sign)

    def _sign(self, planned: PlannedPicture) -> Sign | None:
        """What signs the pictures made from an input."""
        return self.signer.for_input(planned.source.path) if self.signer else None

    def record(self, planned: PlannedPicture, status: Status, **values: Any) -> Record:  # noqa: ANN401
        """A record of a picture; the fields of `Record` that say more of it go in by name."""
        identity = planned.identity
        return Record(
            source=planned.source.key,
            source_sha256=identity.sha256 if identity else None,
            source_bytes=identity.size_bytes if identity else None,
            source_mtime_ns=identity.mtime_ns if identity else None,
            folder=str(planned.folder),
            status=status,
            run_id=self.run_id,
            seed=self.settings.seed,
            **values,
        )

    def _folder(self, work: FaceWork) -> PurePosixPath:
        return face_folder(work.planned.folder, work.face.number, work.face.count)

    def _write_candidate(self, work: FaceWork, candidate: Candidate) -> Record:
        """Write one candidate and return its record."""
        values: dict[str, Any] = {
            "face": work.face.number,
            "faces": work.face.count,
            "notes": (*work.notes, *candidate.notes),
            "posterior": asdict(candidate.posterior) if candidate.posterior else None,
            "candidate": candidate.number,
            "steps": candidate.steps,
            "seconds": round(candidate.seconds, 3),
            "low_res_px": work.face.low_res.shape[-1],
        }
        if not math.isfinite(candidate.error):
            reason = "the search left the range of numbers; try a smaller --step-size"
            return self.record(work.planned, "failed", reason=reason, **values)
        output = self._folder(work) / f"candidate-{candidate.number:02d}.{self.format}"
        sign = self._sign(work.planned)
        write_beside(self.out / self._folder(work), candidate, work.face, self.keep, sign)
        candidate.save(self.out / output, sign)
        return self.record(
            work.planned,
            "saved" if candidate.met_tolerance else "above-tolerance",
            error=candidate.error,
            output=str(output),
            output_bytes=(self.out / output).stat().st_size,
            **values,
        )
