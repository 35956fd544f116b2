"""Searches on several devices and machines through Ray: one worker process for each device.

The driver, which is the process that the user started, reads pictures, keeps the journal and writes
what was found; workers only search. A worker that is lost is replaced and its jobs are done again;
since what a job finds follows from the job alone, nobody can tell afterwards.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch

from pulse.batch.batch_size import LEAST
from pulse.batch.cluster import first_line, machines_of, shares_of, start_ray, why_lost
from pulse.batch.search_worker import SearchWorker
from pulse.candidates import Candidate, Job
from pulse.errors import DeviceError, PulseError
from pulse.posterior_pool import FACES_AT_ONCE, sampler_of
from pulse.pretrained import Pretrained
from pulse.search.bank import Bank
from pulse.settings import UpscaleSettings

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

MOST_LOSSES = 5  # workers lost in one place, without an answer in between, before giving up
PLACE_S = 300.0  # for one worker at least to find a place in the cluster, and begin
START_S = 30.0  # within which a worker is expected to begin, and its share of jobs left to it
IDLE_S = 0.1  # that a worker may be without jobs before more are asked for
QUEUE_BATCHES = 2  # batches that are handed to a worker at a time, so that it never waits for us


@dataclass
class _Worker:
    """A worker process as the driver sees it.

    Attributes:
        actor: its handle.
        place: done when it has found a place in the cluster.
        call: in progress; the first is that of `begin`. None where the worker is not at work.
        losses: workers lost before it in its stead, without an answer in between.
        has_begun: whether `begin` is known to be done. It may never be, where a machine of the
            cluster was lost; jobs go to workers that have begun.
        jobs: what it works on, by number.
        since: when it was started.
    """

    actor: ActorHandle
    place: ObjectRef
    call: ObjectRef | None
    losses: int = 0
    has_begun: bool = False
    jobs: dict[int, Job] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)

    @property
    def is_expected(self) -> bool:
        """Whether it takes part in the work, or may be about to."""
        return self.has_begun or time.monotonic() - self.since < START_S


class RayPool:
    """Jobs in, candidates out, by many processes; see `Searcher`.

    Args:
        generator: from `load_generator`; without a bank the first worker gets or draws one for all.
        settings: of the method.
        batch_size: searches at a time in each worker; None to have the first one measure it.
        most: searches that there is work for, by all workers together.
        address: of a running cluster; None to start Ray on this machine.
        workers: how many; None for one for each GPU, or one if there is none.
        device: as `choose_device` takes it; "auto" takes GPUs where the cluster has any.

    Raises:
        PulseError: if the cluster cannot be reached, has no place for a worker, or the first one
            fails.
    """

    def __init__(
        self,
        generator: Pretrained,
        settings: UpscaleSettings,
        batch_size: int | None,
        most: int,
        *,
        address: str | None,
        workers: int | None,
        device: str,
    ) -> None:
        import ray

        self._ray = ray
        # what goes to one worker as a whole: a job, or all that one sampler answers
        self._waiting: deque[dict[int, Job]] = deque()
        self._has_samplers = settings.search.method == "posterior"
        self._next_number = 0
        self._last_loss = 0.0  # when a worker that had begun was last lost
        self._has_started = not ray.is_initialized()
        if self._has_started:
            start_ray(address)
        try:
            self._share, self._device, count = shares_of(machines_of(ray.nodes()), workers, device)
            generator = generator.to(torch.device("cpu"))
            self._generator = ray.put(generator)
            self._settings = settings
            self.batch_size: int
            # its share of the work, but no batch that is rounded otherwise than one process's
            share = max(-(-most // count), min(most, LEAST))
            self._workers = [first := self._spawn(batch_size, share)]
            self.batch_size, bank = self._first_words_of(first)
            self._generator = ray.put(replace(generator, bank=bank))
            for _ in range(count - 1):
                self._workers.append(self._spawn(self.batch_size, self.batch_size))
        except BaseException:
            self.close()
            raise

    @classmethod
    def factory(
        cls, address: str | None, workers: int | None, device: str
    ) -> Callable[[Pretrained, UpscaleSettings, int | None, int], RayPool]:
        """What a runner makes its searcher with.

        Raises:
            PulseError: if Ray is not installed.
        """
        if find_spec("ray") is None:
            raise PulseError("--workers and --ray need Ray: pip install 'pulse[ray]'")

        def make(
            generator: Pretrained, settings: UpscaleSettings, batch_size: int | None, most: int
        ) -> RayPool:
            return cls(
                generator, settings, batch_size, most,
                address=address, workers=workers, device=device,
            )  # fmt: skip

        return make

    def __len__(self) -> int:
        """Jobs that have no answer yet."""
        in_work = [worker.jobs for worker in self._workers]
        return sum(len(jobs) for jobs in (*self._waiting, *in_work))

    @property
    def is_on_cpu(self) -> bool:
        """Whether workers search on processor cores."""
        return self._device == "cpu"

    @property
    def wants_more(self) -> bool:
        """Whether less is waiting than a round of all workers takes."""
        at_once = FACES_AT_ONCE if self._has_samplers else self.batch_size
        return len(self._waiting) < at_once * len(self._workers)

    def add(self, jobs: Iterable[Job]) -> None:
        """Put jobs into the queue."""
        numbered = dict(enumerate(jobs, self._next_number))
        self._next_number += len(numbered)
        self._waiting.extend(self._parts_of(numbered))

    def _parts_of(self, jobs: dict[int, Job]) -> list[dict[int, Job]]:
        """Jobs by what goes to one worker as a whole."""
        parts: dict[object, dict[int, Job]] = {}
        for number, job in jobs.items():
            parts.setdefault(sampler_of(job) if self._has_samplers else number, {})[number] = job
        return list(parts.values())

    def advance(self) -> list[tuple[Job, Candidate]]:
        """Wait until at least one job has its answer, or a worker is without jobs for a while.

        Raises:
            PulseError: if a worker fails, for lack of memory say, or workers are lost again and
                again.
        """
        answers: list[tuple[Job, Candidate]] = []
        while not answers and len(self):
            for worker in self._workers:
                if worker.has_begun:
                    self._feed(worker)
            calls = {worker.call: worker for worker in self._workers if worker.call is not None}
            # pictures for those without jobs may still be in reading
            timeout = None if all(worker.jobs for worker in self._workers) else IDLE_S
            ended, _ = self._ray.wait(list(calls), num_returns=1, timeout=timeout)
            if not ended:
                self._check_somebody_is_there()
                break
            answers = self._answers_of(calls[ended[0]])
        return answers

    def _check_somebody_is_there(self) -> None:
        """Give up where every worker was lost and none came in its stead."""
        is_there = any(worker.has_begun for worker in self._workers)
        if not is_there and time.monotonic() - self._last_loss > PLACE_S:
            raise DeviceError(
                f"every worker was lost, and none came in its stead within {PLACE_S:.0f} s; what "
                "is finished is kept: mend the machine and run the same command again"
            )

    def _feed(self, worker: _Worker) -> None:
        """Hand jobs to a worker that is not at work, and set it going."""
        if worker.call is not None:
            return
        most = FACES_AT_ONCE if self._has_samplers else QUEUE_BATCHES * self.batch_size
        held = sum(len(self._parts_of(one.jobs)) for one in self._workers)
        # near the end each worker gets its share, so that none is left with all of the rest
        share = -(-(len(self._waiting) + held) // sum(one.is_expected for one in self._workers))
        room = min(most, share) - len(self._parts_of(worker.jobs))
        new: dict[int, Job] = {}
        for _ in range(min(room, len(self._waiting))):
            new |= self._waiting.popleft()
        worker.jobs |= new
        if worker.jobs:
            worker.call = worker.actor.advance.remote(_without_pictures(new))

    def _answers_of(self, worker: _Worker) -> list[tuple[Job, Candidate]]:
        """Take the answers of a worker; none of one that has only now begun, or is lost."""
        try:
            result = self._ray.get(worker.call)
        except self._ray.exceptions.RayTaskError as error:
            raise _cause_of(error) from error
        except self._ray.exceptions.RayError as error:  # its process, its machine, or its answer
            self._replace(worker, error)
            return []
        worker.call = None
        if not worker.has_begun:
            worker.has_begun = True
            return []
        answers: list[tuple[int, Candidate]] = result
        worker.losses = 0
        return [(worker.jobs.pop(number), _unpacked(candidate)) for number, candidate in answers]

    def _first_words_of(self, worker: _Worker) -> tuple[int, Bank | None]:
        """Wait for the first worker: its batch size and its bank are those of all."""
        placed, _ = self._ray.wait([worker.place], timeout=PLACE_S)
        if not placed:
            free = self._ray.available_resources()
            raise DeviceError(
                f"no worker of {self._share.cpus:g} cores and {self._share.gpus:g} GPUs found a "
                f"place within {PLACE_S:.0f} s (of all machines together {free.get('CPU', 0.0):g} "
                f"and {free.get('GPU', 0.0):g} are free); wait until others are done, or let more "
                "--workers share them"
            )
        try:
            size: int = self._ray.get(worker.call)
            bank: Bank | None = self._ray.get(worker.actor.bank.remote())
        except self._ray.exceptions.RayError as error:
            raise _cause_of(error) from error
        worker.call, worker.has_begun = None, True
        return size, bank

    def _replace(self, worker: _Worker, error: Exception) -> None:
        """Put another worker in the place of a lost one; its jobs go back to the front."""
        losses = worker.losses + 1
        if losses > MOST_LOSSES:
            raise DeviceError(
                f"a worker was lost, {losses} in a row ({why_lost(error)}); what is "
                "finished is kept: mend the machine and run the same command again"
            ) from error
        if worker.has_begun:
            self._last_loss = time.monotonic()
        self._ray.kill(worker.actor)  # it may be its answer alone that was lost
        self._waiting.extendleft(reversed(self._parts_of(worker.jobs)))
        other = self._spawn(self.batch_size, self.batch_size, losses)
        self._workers[self._workers.index(worker)] = other

    def _spawn(self, batch_size: int | None, most: int, losses: int = 0) -> _Worker:
        """Start a worker process, and have it begin."""
        actor = self._ray.remote(SearchWorker).options(
            num_gpus=self._share.gpus, num_cpus=self._share.cpus, max_restarts=0
        )
        threads = max(1, int(self._share.cpus))
        handle = actor.remote()
        place = handle.__ray_ready__.remote()
        begin = handle.begin.remote(
            self._generator, self._settings, self._device, threads, batch_size, most
        )
        return _Worker(handle, place, begin, losses)

    def close(self) -> None:
        """End the workers, and Ray if it was started here."""
        for worker in getattr(self, "_workers", []):
            self._ray.kill(worker.actor)
        if self._has_started:
            self._ray.shutdown()


def _without_pictures(jobs: dict[int, Job]) -> list[tuple[int, Job]]:
    """The jobs without the photographs, which no search needs; jobs of one face still share it."""
    faces = {id(job.face): job.face for job in jobs.values()}
    slim = {key: replace(face, aligned=None) for key, face in faces.items()}
    return [(number, replace(job, face=slim[id(job.face)])) for number, job in jobs.items()]


def _unpacked(candidate: Candidate) -> Candidate:
    """The candidate with its image in [0, 1] again."""
    return replace(candidate, image=candidate.image.float().div(255))


def _cause_of(error: Exception) -> PulseError:
    """What went wrong in a worker, in words for the user."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, PulseError):
        return cause
    told = f"{type(cause).__name__}: {first_line(cause)}" if cause else why_lost(error)
    return DeviceError(f"a worker failed: {told}")
