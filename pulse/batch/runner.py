"""A folder of pictures through the method: nothing done twice, nothing lost.

For each picture the order is: read, find faces, search, write the candidates, append their records,
draw the sheet. A run that is killed anywhere leaves whole files, and records only of files that
are there; the next run does what is missing.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from PIL import Image

import pulse
from pulse.batch.jobs import OutputFolders, Source, face_folder, list_sources
from pulse.batch.journal import RUN_NAME, Journal, Record, Status
from pulse.errors import PictureError, PulseError
from pulse.faces.prepare import Face, prepare_faces
from pulse.files import write_text_atomically
from pulse.images import read_picture, to_image, to_tensor, write_picture
from pulse.pretrained import Pretrained
from pulse.search.descent import Progress
from pulse.settings import RunSettings, UpscaleSettings
from pulse.sheet import SheetEntry, draw_sheet
from pulse.upscale import DEFAULT_BATCH_SIZE, Candidate, Job, search


@dataclass(frozen=True)
class Watcher:
    """What a caller may want to hear of while a run goes on; every one may be left out.

    Attributes:
        on_total: number of pictures, once they are listed.
        on_faces: a picture turned out to have this many faces.
        on_step: a step of the search.
        on_record: a record was written.
        on_face_done: a face, or a picture without one, is finished.
        on_warning: something to tell the user, one line.
    """

    on_total: Callable[[int], None] = lambda _total: None
    on_faces: Callable[[int], None] = lambda _count: None
    on_step: Callable[[Progress], None] = lambda _progress: None
    on_record: Callable[[Record], None] = lambda _record: None
    on_face_done: Callable[[], None] = lambda: None
    on_warning: Callable[[str], None] = lambda _text: None


@dataclass
class Summary:
    """How the inputs of a run stand, work of earlier runs included.

    Attributes:
        pictures: inputs seen.
        done_before: inputs that an earlier run had finished.
        counts: candidates by status; for "no-face" and "failed", pictures or faces.
        errors: mean squared error of every candidate that is there.
        faces: faces that this run searched for.
        seconds: search time of this run.
    """

    pictures: int = 0
    done_before: int = 0
    counts: Counter[Status] = field(default_factory=Counter)
    errors: list[float] = field(default_factory=list)
    faces: int = 0
    seconds: float = 0.0

    def add(self, records: Iterable[Record]) -> None:
        """Count records in."""
        for record in records:
            self.counts[record.status] += 1
            if record.error is not None:
                self.errors.append(record.error)

    @property
    def is_complete(self) -> bool:
        """Whether every picture has its candidates."""
        return not self.counts["no-face"] and not self.counts["failed"]


@dataclass(frozen=True)
class PlannedPicture:
    """One input and what is known of it before it is opened.

    Attributes:
        source: where it is.
        sha256: of its bytes; None if they cannot be read.
        folder: its folder in the output tree.
        records: what the journal holds of these very bytes under these settings.
        is_done: whether the records and the files prove it finished.
    """

    source: Source
    sha256: str | None
    folder: PurePosixPath
    records: tuple[Record, ...]
    is_done: bool


@dataclass(frozen=True)
class FaceWork:
    """A face, and the candidates of it that are not there yet."""

    planned: PlannedPicture
    face: Face
    missing: tuple[int, ...]
    notes: tuple[str, ...]


class Runner:
    """One run over many pictures, into one output folder.

    Args:
        out: the output folder; made if it is not there.
        generator: from `load_generator`.
        settings: of the method.
        run_settings: of the run.
        watcher: hears of what happens.
    """

    def __init__(
        self,
        out: Path,
        generator: Pretrained,
        settings: UpscaleSettings,
        run_settings: RunSettings | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self.out, self.generator, self.settings = out, generator, settings
        self.run_settings = run_settings or RunSettings()
        self.watcher = watcher or Watcher()
        self.journal = Journal(out)
        self.summary = Summary()

    def run(self, inputs: Sequence[Path]) -> Summary:
        """Do what is missing.

        Raises:
            PulseError: if an input is not there, the output folder holds a run of other settings,
                or the journal cannot be written. What is finished by then stays.
        """
        sources = list(list_sources(inputs, self.out))
        self.watcher.on_total(len(sources))
        self._open_output()
        waiting: list[FaceWork] = []
        for planned in self._plan(sources):
            waiting += self._faces_to_do(planned)
            if sum(len(work.missing) for work in waiting) >= self.batch_size:
                self._finish(waiting)
                waiting = []
        self._finish(waiting)
        return self.summary

    def plan(self, inputs: Sequence[Path]) -> list[PlannedPicture]:
        """What `run` would find to do; writes nothing."""
        return list(self._plan(list(list_sources(inputs, self.out))))

    @property
    def batch_size(self) -> int:
        """Searches at a time."""
        return self.run_settings.batch_size or DEFAULT_BATCH_SIZE

    @property
    def identity(self) -> dict[str, Any]:
        """What decides how the pictures of this run look; the number of candidates does not."""
        settings = asdict(self.settings)
        del settings["candidates"]
        return {
            "generator": self.generator.name,
            "generator_sha256": self.generator.sha256,
            "format": self.run_settings.format,
            **settings,
        }

    @property
    def run_id(self) -> str:
        """A short hash of `identity`, in every record."""
        return hashlib.sha256(json.dumps(self.identity).encode()).hexdigest()[:16]

    def _open_output(self) -> None:
        """Make the folder, see that it is ours, and write run.json."""
        path = self.out / RUN_NAME
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            earlier = json.loads(path.read_text()) if path.exists() else None
        except (OSError, ValueError) as error:
            raise PulseError(
                f"cannot use the output folder '{self.out}': {error}; choose another with -o"
            ) from error
        if earlier is not None and not self.run_settings.overwrite:
            self._compare(earlier)
        versions = {
            "pulse": pulse.__version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
        }
        content = {
            "settings": self.identity | {"candidates": self.settings.candidates},
            "device": str(self.generator.device),
            "versions": versions,
        }
        write_text_atomically(path, json.dumps(content, indent=2) + "\n")
        self.journal.repair()

    def _compare(self, earlier: Any) -> None:  # noqa: ANN401 (whatever the file holds)
        """Raise unless run.json tells of the same settings."""
        old = _flat(earlier.get("settings", {}) if isinstance(earlier, dict) else {})
        # through JSON, so that tuples compare as the lists that they were written as
        new = _flat(json.loads(json.dumps(self.identity)))
        differences = [
            f"{name} is {value!r}, was {old.get(name)!r}"
            for name, value in new.items()
            if old.get(name) != value
        ]
        if differences:
            raise PulseError(
                f"'{self.out}' holds a run with other settings ({'; '.join(differences[:3])}); "
                "choose another folder with -o, or --overwrite to do it again"
            )

    def _plan(self, sources: Sequence[Source]) -> Iterator[PlannedPicture]:
        """Each source with what the journal knows of it."""
        folders: dict[str, str] = {}
        known: dict[str, dict[tuple[int | None, int | None], Record]] = {}
        for record in self.journal.read():
            folders[record.source] = record.folder
            known.setdefault(record.source, {})[record.face, record.candidate] = record
        assigned = OutputFolders(folders)
        for source in sources:
            sha256 = _sha256(source.path)
            folder = assigned.of(source)
            records = tuple(
                record
                for record in known.get(source.key, {}).values()
                if record.source_sha256 == sha256 and record.run_id == self.run_id
            )
            if self.run_settings.overwrite or sha256 is None:
                records = ()
            is_done = self._is_done(folder, records)
            yield PlannedPicture(source, sha256, folder, records, is_done)

    def _is_done(self, folder: PurePosixPath, records: Sequence[Record]) -> bool:
        """Whether a picture needs no more work: no face in it, or every file there."""
        if any(record.status == "no-face" for record in records):
            return True
        faces = max((record.faces or 0 for record in records), default=0)
        if not faces:
            return False
        there = {(r.face, r.candidate) for r in records if self._is_there(r)}
        return all(
            (self.out / face_folder(folder, face, faces) / name).exists()
            for face in range(1, faces + 1)
            for name in ("low_res.png", "sheet.png")
        ) and all(
            (face, candidate) in there
            for face in range(1, faces + 1)
            for candidate in range(1, self.settings.candidates + 1)
        )

    def _is_there(self, record: Record) -> bool:
        """Whether the picture of a record is on the disk, whole."""
        if record.output is None:
            return False
        try:
            return (self.out / record.output).stat().st_size == record.output_bytes
        except OSError:
            return False

    def _faces_to_do(self, planned: PlannedPicture) -> list[FaceWork]:
        """Open a picture and find its faces; a picture without any is recorded here."""
        self.summary.pictures += 1
        if planned.is_done:
            self.summary.done_before += 1
            self.summary.add(self._current(planned.records))
            self.watcher.on_face_done()
            return []
        try:
            picture = read_picture(planned.source.path)
            faces = prepare_faces(picture, self.generator.network.resolution, self.settings.face)
        except PulseError as error:
            self._record_picture(planned, "failed", str(error))
            return []
        if not faces:
            reason = "no face was found; if the picture is one aligned face, use --align never"
            self._record_picture(planned, "no-face", reason, picture.notes)
            return []
        for warning in dict.fromkeys(text for face in faces for text in face.warnings):
            self.watcher.on_warning(f"{_name(planned.source)}: {warning}")
        self.watcher.on_faces(len(faces))
        there = {(r.face, r.candidate) for r in planned.records if self._is_there(r)}
        wanted = range(1, self.settings.candidates + 1)
        return [
            FaceWork(
                planned,
                face,
                tuple(number for number in wanted if (face.number, number) not in there),
                (*picture.notes, *face.notes, *face.warnings),
            )
            for face in faces
        ]

    def _current(self, records: Iterable[Record]) -> list[Record]:
        """The records that count for the number of candidates asked for now."""
        return [r for r in records if (r.candidate or 0) <= self.settings.candidates]

    def _record_picture(
        self, planned: PlannedPicture, status: Status, reason: str, notes: tuple[str, ...] = ()
    ) -> None:
        """Record a picture that has no candidates."""
        record = self._record(planned, status, reason=reason, notes=notes)
        self._append([record])
        self.watcher.on_face_done()

    def _finish(self, waiting: Sequence[FaceWork]) -> None:
        """Search for all that is missing of some faces, and write it."""
        jobs = [Job(work.face, number) for work in waiting for number in work.missing]
        began = time.monotonic()
        found = iter(
            search(
                jobs, self.generator, self.settings.seed, self.settings,
                self.batch_size, self.watcher.on_step,
            )
        )  # fmt: skip
        self.summary.seconds += time.monotonic() - began
        for work in waiting:
            candidates = [next(found) for _ in work.missing]
            try:
                self._write_face(work, candidates)
            except PictureError as error:
                self._append([self._face_record(work, "failed", reason=str(error))])
            self.summary.faces += 1
            self.watcher.on_face_done()

    def _write_face(self, work: FaceWork, candidates: Sequence[Candidate]) -> None:
        """Write what was found of a face, record it, and draw its sheet."""
        face = work.face
        folder = face_folder(work.planned.folder, face.number, face.count)
        try:
            (self.out / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            path = self.out / folder
            raise PictureError(f"cannot make the folder '{path}': {error.strerror}") from error
        write_picture(to_image(face.low_res), self.out / folder / "low_res.png")
        records = [self._write_candidate(work, folder, candidate) for candidate in candidates]
        self._append(records)
        earlier = [
            record
            for record in work.planned.records
            if record.face == face.number and record.candidate not in work.missing
        ]
        self.summary.add(self._current(earlier))
        self._write_sheet(work, folder, [*earlier, *records], candidates)

    def _write_candidate(
        self, work: FaceWork, folder: PurePosixPath, candidate: Candidate
    ) -> Record:
        """Write one candidate and return its record."""
        shared: dict[str, Any] = {
            "candidate": candidate.number,
            "steps": candidate.steps,
            "seconds": round(candidate.seconds, 3),
            "low_res_px": work.face.low_res.shape[-1],
        }
        if not math.isfinite(candidate.error):
            reason = "the search left the range of numbers; try a smaller --step-size"
            return self._face_record(work, "failed", reason=reason, **shared)
        output = folder / f"candidate-{candidate.number:02d}.{self.run_settings.format}"
        candidate.save(self.out / output)
        return self._face_record(
            work,
            "saved" if candidate.met_tolerance else "above-tolerance",
            error=candidate.error,
            output=str(output),
            output_bytes=(self.out / output).stat().st_size,
            **shared,
        )

    def _write_sheet(
        self,
        work: FaceWork,
        folder: PurePosixPath,
        records: Sequence[Record],
        candidates: Sequence[Candidate],
    ) -> None:
        """Draw the contact sheet from what is new and what is on the disk."""
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
        if entries:
            title = _name(work.planned.source)
            if work.face.count > 1:
                title += f", face {work.face.number} of {work.face.count}"
            tolerance, kernel = self.settings.search.tolerance, self.settings.face.kernel
            sheet = draw_sheet(work.face.low_res, entries, tolerance, kernel, title)
            write_picture(sheet, self.out / folder / "sheet.png", origin=self._sheet_origin(work))

    def _face_record(self, work: FaceWork, status: Status, **values: Any) -> Record:  # noqa: ANN401
        face = work.face
        return self._record(
            work.planned, status, face=face.number, faces=face.count, notes=work.notes, **values
        )

    def _record(self, planned: PlannedPicture, status: Status, **values: Any) -> Record:  # noqa: ANN401
        return Record(
            source=planned.source.key,
            source_sha256=planned.sha256,
            folder=str(planned.folder),
            status=status,
            run_id=self.run_id,
            seed=self.settings.seed,
            **values,
        )

    def _append(self, records: list[Record]) -> None:
        self.journal.append(records)
        self.summary.add(records)
        for record in records:
            self.watcher.on_record(record)


def _sha256(path: Path) -> str | None:
    """Hash of a file's bytes; None where it is no readable regular file."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _name(source: Source) -> str:
    """A source's name on one line."""
    return printable_path(source.path)


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:  # noqa: ANN401 (JSON)
    """Nested settings as one level, the names joined by dots."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
