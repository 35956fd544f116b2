"""A folder of pictures through the method: nothing done twice, nothing lost.

For each picture the order is: read, find faces, search, write the candidates, append their records,
draw the sheet. A run that is killed anywhere leaves whole files, and records only of files that
are there; the next run does what is missing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pulse.batch.jobs import list_sources
from pulse.batch.journal import Journal, Record, Status
from pulse.batch.output import FaceWork, FaceWriter
from pulse.batch.plan import PlannedPicture, plan_pictures
from pulse.batch.run_file import identity_of, open_output, run_id_of
from pulse.errors import PictureError
from pulse.faces.prepare import prepare_faces
from pulse.images import read_picture
from pulse.method import DEFAULT_BATCH_SIZE, Job, search
from pulse.pretrained import Pretrained
from pulse.search.descent import Progress
from pulse.settings import RunSettings, UpscaleSettings


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
        self.batch_size = self.run_settings.batch_size or DEFAULT_BATCH_SIZE
        self.identity = identity_of(generator, settings, self.run_settings.format)
        self.run_id = run_id_of(self.identity)
        self.writer = FaceWriter(out, self.run_id, generator, settings, self.run_settings.format)
        self.journal = Journal(out)
        self.summary = Summary()

    def plan(self, inputs: Sequence[Path]) -> list[PlannedPicture]:
        """Hold the inputs against what is there, and write nothing.

        Raises:
            PulseError: if an input is not there or the journal cannot be read.
        """
        return list(
            plan_pictures(
                list_sources(inputs, self.out),
                self.journal.read(),
                self.out,
                self.run_id,
                self.settings.candidates,
                overwrite=self.run_settings.overwrite,
            )
        )

    def run(self, inputs: Sequence[Path]) -> Summary:
        """Do what is missing.

        Raises:
            PulseError: if an input is not there, the output folder holds a run of other settings,
                or a file cannot be written. What is finished by then stays.
        """
        pictures = self.plan(inputs)
        self.watcher.on_total(len(pictures))
        open_output(
            self.out, self.identity, self.settings.candidates, self.generator.device,
            overwrite=self.run_settings.overwrite,
        )  # fmt: skip
        self.journal.repair()
        waiting: list[FaceWork] = []
        for planned in pictures:
            waiting += self._faces_to_do(planned)
            if sum(len(work.missing) for work in waiting) >= self.batch_size:
                self._finish(waiting)
                waiting = []
        self._finish(waiting)
        return self.summary

    def _faces_to_do(self, planned: PlannedPicture) -> list[FaceWork]:
        """Open a picture and find its faces; a picture without any is recorded here."""
        self.summary.pictures += 1
        if planned.is_done:
            self.summary.done_before += 1
            self.summary.add(planned.records)
            self.watcher.on_face_done()
            return []
        try:
            picture = read_picture(planned.source.path)
            resolution = self.generator.network.resolution
            faces = prepare_faces(picture, resolution, self.settings.face)
        except PictureError as error:
            self._record_without_face(planned, "failed", str(error))
            return []
        if not faces:
            reason = "no face was found; if the picture is one aligned face, use --align never"
            self._record_without_face(planned, "no-face", reason, picture.notes)
            return []
        for warning in dict.fromkeys(text for face in faces for text in face.warnings):
            self.watcher.on_warning(f"{planned.name}: {warning}")
        self.watcher.on_faces(len(faces))
        work = []
        for face in faces:
            there = {record.candidate for record in planned.records_of(face.number)}
            wanted = range(1, self.settings.candidates + 1)
            missing = tuple(number for number in wanted if number not in there)
            notes = (*picture.notes, *face.notes, *face.warnings)
            work.append(FaceWork(planned, face, missing, notes))
        return work

    def _record_without_face(
        self, planned: PlannedPicture, status: Status, reason: str, notes: tuple[str, ...] = ()
    ) -> None:
        """Record a picture that has no candidates."""
        self._append([self.writer.record(planned, status, reason=reason, notes=notes)])
        self.watcher.on_face_done()

    def _finish(self, waiting: Sequence[FaceWork]) -> None:
        """Search for all that is missing of some faces; write it face by face."""
        jobs = [Job(work.face, number) for work in waiting for number in work.missing]
        began = time.monotonic()
        seed, on_step = self.settings.seed, self.watcher.on_step
        found = search(jobs, self.generator, seed, self.settings, self.batch_size, on_step)
        self.summary.seconds += time.monotonic() - began
        answers = iter(found)
        for work in waiting:
            candidates = [next(answers) for _ in work.missing]
            records = self.writer.write_candidates(work, candidates)
            self._append(records)
            earlier = work.planned.records_of(work.face.number)
            self.summary.add(earlier)
            self.writer.write_sheet(work, [*earlier, *records], candidates)
            self.summary.faces += 1
            self.watcher.on_face_done()

    def _append(self, records: list[Record]) -> None:
        """Write records to the journal; only then do they count."""
        self.journal.append(records)
        self.summary.add(records)
        for record in records:
            self.watcher.on_record(record)
