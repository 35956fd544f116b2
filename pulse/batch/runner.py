"""A folder of pictures through the method: nothing done twice, nothing lost.

Pictures are read ahead in threads, their faces' jobs share one batch on the device, and finished
faces are written in threads. Of each face the files come first, then its records: a run that is
killed anywhere leaves whole files, and records only of files that are there; the next run does what
is missing.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pulse.batch.batch_size import BatchSize, measure_batch_size
from pulse.batch.jobs import OutputFolders, Source, list_sources
from pulse.batch.journal import Journal, JournalIndex, JournalWriter, Record, run_id_of
from pulse.batch.output import FaceWork, FaceWriter
from pulse.batch.paste import Paster, Together
from pulse.batch.plan import Plan, PlannedPicture
from pulse.batch.reader import Prepared, Reader
from pulse.batch.run_file import RunFile, identity_of
from pulse.batch.searcher import Searcher, SearcherFactory
from pulse.batch.summary import Summary
from pulse.batch.watcher import Watcher
from pulse.candidates import Candidate, Job
from pulse.errors import PulseError
from pulse.faces.prepare import Face
from pulse.files import remove_partial_files
from pulse.images.credentials import Signer
from pulse.latents import LatentFiles
from pulse.lock import locked_at_once
from pulse.pool import SearchPool
from pulse.posterior_pool import PosteriorPool, pool_for
from pulse.pretrained import Pretrained
from pulse.settings import RunSettings, UpscaleSettings

LOCK_NAME = ".lock"
MOST_THREADS = 8  # for reading, and as many for writing


@dataclass
class OpenFace:
    """A face whose candidates are being searched for.

    Attributes:
        work: the face.
        found: its candidates so far.
    """

    work: FaceWork
    found: list[Candidate] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether no candidate is missing."""
        return len(self.found) == len(self.work.missing)


class Runner:
    """One run over many pictures, into one output folder.

    Args:
        out: the output folder; made if it is not there.
        generator: from `load_generator`.
        settings: of the method.
        run_settings: of the run.
        watcher: hears of what happens.
        searcher: makes what searches; None for this process and the generator's device.
    """

    def __init__(
        self,
        out: Path,
        generator: Pretrained,
        settings: UpscaleSettings,
        run_settings: RunSettings | None = None,
        watcher: Watcher | None = None,
        searcher: SearcherFactory | None = None,
    ) -> None:
        self.out, self.generator, self.settings = out, generator, settings
        self.run_settings = run_settings or RunSettings()
        self.watcher = watcher or Watcher()
        self.latents = LatentFiles.find(self.run_settings.from_latents, generator)
        self._began_anew = self._went_on = 0
        digest = self.latents.digest
        identity = identity_of(generator, settings, self.run_settings.format, digest)
        self.run_id = run_id_of(identity)
        self.run_file = RunFile(out, identity, str(generator.device))
        signing = self.run_settings.signing
        signer = Signer(signing.certificates, signing.key) if signing else None
        paste, format_ = self.run_settings.paste, self.run_settings.format
        self.paster = Paster(out, generator, settings, paste, format_, signer) if paste else None
        self.writer = FaceWriter(
            out,
            self.run_id,
            generator,
            settings,
            format_,
            signer,
            self.run_settings.keep,
            self.paster,
        )
        self.journal = Journal(out)
        self.summary = Summary()
        self._make_searcher = searcher or self._local_searcher
        self._open: dict[int, OpenFace] = {}  # id of a job to its face
        self._writing: deque[tuple[FaceWork, Future[list[Record]]]] = deque()

    def plan(self, inputs: Sequence[Path]) -> Iterator[PlannedPicture]:
        """Hold the inputs against what is there, and write nothing.

        Raises:
            PulseError: if an input is not there or the journal cannot be read.
        """
        with closing(self.journal.index()) as index:
            plan = self._plan(index)
            folders = OutputFolders(index.folders())
            for source in list_sources(inputs, self.out):
                yield plan.of(source, folders.of(source))

    def run(self, inputs: Sequence[Path]) -> Summary:
        """Do what is missing.

        Raises:
            PulseError: if an input is not there, the output folder is in use or holds a run of
                other settings, or a file cannot be written; with `fail_fast`, at the first picture
                that fails or has no face. What is finished by then stays.
        """
        sources = list(list_sources(inputs, self.out))
        self.watcher.on_total(len(sources))
        earlier_size = self.run_file.open(overwrite=self.run_settings.overwrite)
        with self._locked():
            remove_partial_files(self.out)
            self.journal.repair()
            with closing(self.journal.index()) as index:
                searcher, batch_size = self._searcher(len(sources), earlier_size)
                with closing(searcher):
                    self.run_file.write(self.settings.candidates, batch_size)
                    self._run(sources, index, searcher)
        if self.latents.paths and self._began_anew and not self._went_on:
            self.watcher.on_warning(
                "no latents file is of a face of these pictures: every search began anew"
            )
        return self.summary

    def _searcher(self, pictures: int, earlier: BatchSize | None) -> tuple[Searcher, BatchSize]:
        """Make what searches, with the batch size asked for, that of before, or one measured."""
        most = max(1, pictures * self.settings.candidates)
        asked = self.run_settings.batch_size
        if asked is None and earlier is not None and earlier.suits(most):
            searcher = self._make_searcher(self.generator, self.settings, earlier.size, most)
            return searcher, earlier
        searcher = self._make_searcher(self.generator, self.settings, asked, most)
        return searcher, BatchSize(searcher.batch_size, asked or most)

    def _local_searcher(
        self, generator: Pretrained, settings: UpscaleSettings, batch_size: int | None, most: int
    ) -> SearchPool | PosteriorPool:
        """This process and the generator's device."""
        size = batch_size or measure_batch_size(generator, settings.search, most)
        return pool_for(generator, settings, size, self.watcher.on_step)

    def _plan(self, index: JournalIndex) -> Plan:
        overwrite = self.run_settings.overwrite
        pasted = self.paster.names if self.paster else ()
        return Plan(
            index, self.out, self.run_id, self.settings.candidates, overwrite,
            self.run_settings.keep, pasted,
        )  # fmt: skip

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other runs out of the output folder."""
        try:
            with locked_at_once(self.out / LOCK_NAME) as is_ours:
                if not is_ours:
                    raise PulseError(
                        f"another run is writing to '{self.out}'; wait for it, or choose another "
                        "folder with -o"
                    )
                yield
        except OSError as error:
            raise PulseError(
                f"cannot use the output folder '{self.out}': {error.strerror}; choose another "
                "with -o"
            ) from error

    def _run(self, sources: Sequence[Source], index: JournalIndex, searcher: Searcher) -> None:
        """Read, search and write until everything is done."""
        threads = _threads(searcher)
        folders = OutputFolders(index.folders())
        reader = Reader(
            ((source, folders.of(source)) for source in sources),
            self._plan(index), self.generator.network.resolution, self.settings.face,
            self.run_settings.shard, threads,
        )  # fmt: skip
        executor = ThreadPoolExecutor(threads, thread_name_prefix="write")
        journal = self.journal.open()
        began = time.monotonic()
        try:
            while len(searcher) or not reader.is_exhausted:
                if not reader.is_exhausted and (
                    not len(searcher) or (searcher.wants_more and reader.is_ready)
                ):
                    self._take_in(reader.next(), searcher, journal, executor)
                else:
                    self._collect(searcher.advance(), executor)
                self._record(journal, at_most=4 * threads)
        finally:
            # Ctrl-C or an error: what is being written becomes whole and is recorded
            reader.close()
            executor.shutdown(wait=True)
            try:
                self._record(journal, at_most=0)
            finally:
                journal.close()
                self.summary.seconds += time.monotonic() - began

    def _take_in(
        self, prepared: Prepared, searcher: Searcher, journal: JournalWriter,
        executor: ThreadPoolExecutor,
    ) -> None:  # fmt: skip
        """Give a picture's faces to the search; one without any is recorded here."""
        planned = prepared.planned
        if not prepared.is_ours:
            self.summary.passed_over += 1
            self.watcher.on_face_done()
            return
        self.summary.pictures += 1
        if planned.is_done:
            self.summary.done_before += 1
            self.summary.add(planned.records)
            self.watcher.on_face_done()
            return
        if prepared.problem:
            status, reason = prepared.problem
            record = self.writer.record(planned, status, reason=reason, notes=prepared.notes)
            self._append(journal, [record])
            self.watcher.on_face_done()
            if self.run_settings.fail_fast:
                raise PulseError(f"stopped at the first failure, {planned.name}: {reason}")
            return
        for warning in dict.fromkeys(text for face in prepared.faces for text in face.warnings):
            self.watcher.on_warning(f"{planned.name}: {warning}")
        self.watcher.on_faces(len(prepared.faces))
        for work in self._work_of(prepared):
            opened = OpenFace(work)
            jobs = [self._job(work.face, number) for number in work.missing]
            self._open |= {id(job): opened for job in jobs}
            searcher.add(jobs)
            if not jobs:  # only the sheet is missing
                self._write(opened, executor)

    def _job(self, face: Face, candidate: int) -> Job:
        """A search, from where an earlier one ended if there is a latents file of it."""
        start = self.latents.start_of(face, candidate)
        self._began_anew += start is None
        self._went_on += start is not None
        return Job(face, candidate, start, self.run_settings.keep)

    def _work_of(self, prepared: Prepared) -> Iterator[FaceWork]:
        """What is missing of each face of a picture."""
        together = Together(len(prepared.faces))
        for face in prepared.faces:
            there = {record.candidate for record in prepared.planned.records_of(face.number)}
            wanted = range(1, self.settings.candidates + 1)
            missing = tuple(number for number in wanted if number not in there)
            notes = (*prepared.notes, *face.notes, *face.warnings)
            yield FaceWork(prepared.planned, face, missing, notes, together)

    def _collect(
        self, answers: Sequence[tuple[Job, Candidate]], executor: ThreadPoolExecutor
    ) -> None:
        """Put candidates to their faces; faces that are whole go to be written."""
        for job, candidate in answers:
            opened = self._open.pop(id(job))
            opened.found.append(candidate)
            for note in candidate.notes if len(opened.found) == 1 else ():
                self.watcher.on_warning(f"{opened.work.planned.name}: {note}")
            if opened.is_whole:
                self._write(opened, executor)

    def _write(self, opened: OpenFace, executor: ThreadPoolExecutor) -> None:
        candidates = sorted(opened.found, key=lambda candidate: candidate.number)
        future = executor.submit(self.writer.write, opened.work, candidates)
        self._writing.append((opened.work, future))

    def _record(self, journal: JournalWriter, at_most: int) -> None:
        """Record the faces that are written, in the order in which they were whole.

        Args:
            journal: open for records.
            at_most: faces that may still be in writing afterwards; more are waited for.
        """
        records: list[Record] = []
        done: list[tuple[FaceWork, list[Record]]] = []
        try:
            while self._writing and (self._writing[0][1].done() or len(self._writing) > at_most):
                work, future = self._writing.popleft()
                done.append((work, future.result()))
                records += done[-1][1]
        finally:
            if done:
                self._append(journal, records)
            for work, new in done:
                self.summary.add(work.planned.records_of(work.face.number))
                self.summary.add_time(new)
                self.watcher.on_face_done()

    def _append(self, journal: JournalWriter, records: list[Record]) -> None:
        """Write records to the journal; only then do they count."""
        journal.append(records)
        self.summary.add(records)
        for record in records:
            self.watcher.on_record(record)


def _threads(searcher: Searcher) -> int:
    """For reading, and as many for writing: a CPU that searches has little time for more."""
    return 1 if searcher.is_on_cpu else max(1, min(MOST_THREADS, (os.cpu_count() or 2) // 2))
