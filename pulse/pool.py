"""Searches for many faces on one device: a batch that is always full while there is work.

A search that has met the tolerance leaves its slot to the next job at once. What a job finds is
the same whatever its company, since its start follows from the job and the shape of the batch never
changes; see `Descent`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pulse.candidates import Candidate, Job, Latents, origin_of
from pulse.downscale import Downscale
from pulse.errors import DeviceError
from pulse.pretrained import Pretrained
from pulse.search.descent import Descent, Found, Progress
from pulse.search.rng import rng_for
from pulse.search.start import Start, random_start
from pulse.settings import UpscaleSettings

MOST_FRAMES, FRAME_PX = 50, 256  # of a search that is kept to be shown


class SearchPool:
    """Jobs in, candidates out.

    Args:
        generator: from `load_generator`.
        settings: of the method.
        batch_size: searches at a time at most. It is halved when the device runs out of memory;
            the searches in progress then begin again, so that nothing is lost.
        on_step: called after each step.

    Attributes:
        batch_size: what it is now.
    """

    def __init__(
        self,
        generator: Pretrained,
        settings: UpscaleSettings,
        batch_size: int,
        on_step: Callable[[Progress], None] | None = None,
    ) -> None:
        self.generator, self.settings, self.on_step = generator, settings, on_step
        self.batch_size = batch_size
        self._waiting: deque[Job] = deque()
        self._running: dict[int, Job] = {}  # slot to job
        self._seconds: dict[int, float] = {}  # slot to its share of the time
        self._frames: dict[int, list[Tensor]] = {}  # slot to the images kept of its search
        self._operators: dict[tuple[int, int], Downscale] = {}
        self._descent: Descent | None = None
        self._answers: list[tuple[Job, Candidate]] = []  # found, not yet handed out

    def __len__(self) -> int:
        """Jobs that have no answer yet."""
        return len(self._waiting) + len(self._running) + len(self._answers)

    @property
    def wants_more(self) -> bool:
        """Whether fewer jobs are waiting than the batch has slots."""
        return len(self._waiting) < self.batch_size

    def add(self, jobs: Iterable[Job]) -> None:
        """Put jobs into the queue."""
        self._waiting.extend(jobs)

    def advance(self) -> list[tuple[Job, Candidate]]:
        """Search until at least one job has its answer; nothing where there is no job.

        Raises:
            DeviceError: if not even one search fits in the memory.
        """
        while not self._answers and len(self):
            try:
                self._step()
            except torch.OutOfMemoryError as error:
                self._halve(error)
        answers, self._answers = self._answers, []
        return answers

    def close(self) -> None:
        """Let go of the batch."""
        self._descent = None

    def _step(self) -> None:
        """One step of every search; those that are finished by then give their answers."""
        began = time.monotonic()
        descent = self._fill()
        descent.step()
        finished = descent.finished()
        share = (time.monotonic() - began) / len(self._running)
        for slot in self._running:
            self._seconds[slot] += share
        for slot, job in self._running.items():
            if job.keep.steps:
                self._keep_frame(descent, slot, is_last=slot in finished)
        if self.on_step:
            self.on_step(descent.progress())
        for slot in finished:
            found = descent.release(slot)
            job = self._running[slot]
            answer = _candidate(job, found, self._seconds[slot], self.generator, self.settings)
            answer = replace(answer, frames=tuple(self._frames.pop(slot, ())))
            self._answers.append((job, answer))
            del self._running[slot], self._seconds[slot]

    def _keep_frame(self, descent: Descent, slot: int, *, is_last: bool) -> None:
        """Keep the best image so far, small, of every few steps."""
        every = -(-self.settings.search.steps // MOST_FRAMES)
        if is_last or (descent.optimizer.steps[slot] - 1) % every == 0:
            image = descent.best.images[slot : slot + 1]
            if image.shape[-1] > FRAME_PX:
                image = interpolate(image, (FRAME_PX, FRAME_PX), mode="area")
            frame = image[0].mul(255).round().to(torch.uint8).cpu()
            self._frames.setdefault(slot, []).append(frame)

    def _fill(self) -> Descent:
        """Give the free slots to jobs that wait."""
        if self._descent is None:
            self._descent = Descent(
                self.generator.network, self.generator.prior, self.settings.search, self.batch_size
            )
        free = (slot for slot in range(self.batch_size) if slot not in self._running)
        for slot in list(free)[: len(self._waiting)]:
            job = self._waiting[0]
            A = self._operator(job)
            self._descent.admit(slot, A, job.face.low_res, self.start_of(job))
            self._running[slot], self._seconds[slot] = self._waiting.popleft(), 0.0
        return self._descent

    def start_of(self, job: Job) -> Start:
        """Where the search of a job begins."""
        if job.start is not None:
            layers = 1 if self.settings.search.tile_latent else None
            return replace(job.start, v=job.start.v[:, :layers])
        G, face = self.generator.network, job.face
        rng = rng_for(self.settings.seed, face.picture, face.number, job.candidate)
        return random_start(rng, G.num_ws, G.w_dim, G.noise_sizes, self.settings.search)

    def _operator(self, job: Job) -> Downscale:
        """The downscale operator to the size of a job's face."""
        G = self.generator.network
        size = (job.face.low_res.shape[1], job.face.low_res.shape[2])
        if size not in self._operators:
            resolution = (G.resolution, G.resolution)
            self._operators[size] = Downscale(
                resolution, size, self.settings.face.kernel, self.generator.device
            )
        return self._operators[size]

    def _halve(self, error: torch.OutOfMemoryError) -> None:
        """Go on with half the batch; the searches in progress wait for a new start, in front."""
        if self.batch_size == 1:
            raise DeviceError(
                f"{self.generator.device} has too little memory for one search with "
                f"{self.generator.name}; free some, or choose another --device"
            ) from error
        self.batch_size //= 2
        self._waiting.extendleft(
            self._running[slot] for slot in sorted(self._running, reverse=True)
        )
        self._running, self._seconds, self._frames, self._descent = {}, {}, {}, None


def _candidate(
    job: Job, found: Found, seconds: float, generator: Pretrained, settings: UpscaleSettings
) -> Candidate:
    error = found.errors.item()
    return Candidate(
        number=job.candidate,
        image=found.images[0].cpu(),
        error=error,
        met_tolerance=error <= settings.search.tolerance,
        latent=found.ws[0].cpu(),
        steps=int(found.steps.item()),
        seconds=seconds,
        origin=origin_of(job.face, job.candidate, generator, settings.seed, settings),
        latents=Latents(found.v[0].cpu(), tuple(noise[0].cpu() for noise in found.noise_maps))
        if job.keep.latents
        else None,
    )
