"""Searches for many faces on one device: a batch that is always full while there is work.

A search that has met the tolerance leaves its slot to the next job at once. What a job finds is
the same whatever its company, since its start follows from the job and the shape of the batch never
changes; see `SlotSearch`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pulse.candidates import Candidate, Job, Latents, origin_of
from pulse.downscale import Downscale
from pulse.errors import DeviceError
from pulse.pretrained import Pretrained
from pulse.search.coarse import CoarseStart
from pulse.search.descent import Descent
from pulse.search.mixing import Mixing
from pulse.search.precision import feature_dtype
from pulse.search.rng import rng_for
from pulse.search.slots import Found, Progress, SlotSearch
from pulse.search.start import Start
from pulse.settings import SearchSettings, UpscaleSettings

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
        self.generator, self.on_step = generator, on_step
        self.settings = replace(settings, search=possible(settings.search, generator))
        self.batch_size = batch_size
        self._waiting: deque[Job] = deque()
        self._running: dict[int, Job] = {}  # slot to job
        self._seconds: dict[int, float] = {}  # slot to its share of the time
        self._frames: dict[int, list[Tensor]] = {}  # slot to the images kept of its search
        self._operators: dict[tuple[int, int], Downscale] = {}
        self._search: SlotSearch | None = None
        self._coarse: CoarseStart | None = None
        self._answers: list[tuple[Job, Candidate]] = []  # found, not yet handed out

    def __len__(self) -> int:
        """Jobs that have no answer yet."""
        return len(self._waiting) + len(self._running) + len(self._answers)

    @property
    def is_on_cpu(self) -> bool:
        """Whether it searches on processor cores."""
        return self.generator.device.type == "cpu"

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
        self._search, self._coarse = None, None

    def _step(self) -> None:
        """One step of every search; those that are finished by then give their answers."""
        began = time.monotonic()
        search = self._fill()
        search.step()
        finished = search.finished()
        share = (time.monotonic() - began) / len(self._running)
        for slot in self._running:
            self._seconds[slot] += share
        for slot, job in self._running.items():
            if job.keep.steps:
                self._keep_frame(search, slot, is_last=slot in finished)
        if self.on_step:
            self.on_step(search.progress())
        for slot in finished:
            found = search.release(slot)
            job = self._running[slot]
            answer = _candidate(job, found, self._seconds[slot], self.generator, self.settings)
            answer = replace(answer, frames=tuple(self._frames.pop(slot, ())))
            self._answers.append((job, answer))
            del self._running[slot], self._seconds[slot]

    def _keep_frame(self, search: SlotSearch, slot: int, *, is_last: bool) -> None:
        """Keep the best image so far, small, of every few steps."""
        every = -(-self.settings.search.steps // MOST_FRAMES)
        if is_last or (search.taken[slot] - 1) % every == 0:
            frame = frame_of(search.best.images[slot : slot + 1])
            self._frames.setdefault(slot, []).append(frame)

    def _fill(self) -> SlotSearch:
        """Give the free slots to jobs that wait."""
        if self._search is None:
            self._search = slot_search(self.generator, self.settings.search, self.batch_size)
        free = [slot for slot in range(self.batch_size) if slot not in self._running]
        jobs = list(islice(self._waiting, len(free)))
        starts = self._starts_of(jobs, self._search)
        for slot, job, start in zip(free, jobs, starts, strict=False):
            self._search.admit(slot, self._operator(job), job.face.low_res, start)
            self._running[slot], self._seconds[slot] = self._waiting.popleft(), 0.0
        return self._search

    def _starts_of(self, jobs: Sequence[Job], search: SlotSearch) -> list[Start]:
        """Where the searches of jobs begin; if there is a coarse generator, where it leads them."""
        starts = [self._start_of(job, search) for job in jobs]
        new = [i for i, job in enumerate(jobs) if job.start is None]
        if new and self._coarse is None:
            self._coarse = coarse_start(self.generator, self.settings)
        if self._coarse is not None:
            targets = [jobs[i].face.low_res for i in new]
            led = self._coarse.improved([starts[i] for i in new], targets)
            for i, start in zip(new, led, strict=True):
                starts[i] = start
        return starts

    def _start_of(self, job: Job, search: SlotSearch) -> Start:
        """Where the search of a job begins."""
        if job.start is not None:
            layers = 1 if self.settings.search.tile_latent else None
            return replace(job.start, v=job.start.v[:, :layers])
        face = job.face
        rng = rng_for(self.settings.seed, face.picture, face.number, job.candidate)
        return search.draw_start(face.low_res, rng)

    def _operator(self, job: Job) -> Downscale:
        """The downscale operator to the size of a job's face."""
        G = self.generator.network
        size = job.face.low_res_size
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
        self._running, self._seconds, self._frames = {}, {}, {}
        self.close()


def possible(settings: SearchSettings, generator: Pretrained) -> SearchSettings:
    """The settings with the method that a generator allows, and the precision that it will have.

    Without a bank, that is the descent, in single precision.
    """
    if generator.bank is None or settings.method == "descent":
        return replace(settings, method="descent", precision="single", sigma=None)
    is_mixed = feature_dtype(settings.precision, generator.device) == torch.bfloat16
    return replace(settings, precision="mixed" if is_mixed else "single")


def slot_search(generator: Pretrained, settings: SearchSettings, slots: int) -> SlotSearch:
    """An empty batch of searches by the method that the settings name."""
    G, prior, bank = generator.network, generator.prior, generator.bank
    settings = possible(settings, generator)  # samples of the posterior are refined by the mixing
    if settings.method == "descent" or bank is None:
        return Descent(G, prior, settings, slots)
    return Mixing(G, prior, settings, slots, bank)


def coarse_start(generator: Pretrained, settings: UpscaleSettings) -> CoarseStart | None:
    """What leads searches to where they begin; None where nothing does."""
    bank, head = generator.bank, generator.coarse_head_for(settings.search)
    if bank is None or head is None:
        return None
    return CoarseStart(
        generator.network, head, generator.prior, settings.search, bank, settings.face.kernel
    )


def frame_of(image: Tensor) -> Tensor:
    """One frame of a candidate's animation from its image (1, 3, H, W): (3, h, w) of 8 bits."""
    if image.shape[-1] > FRAME_PX:
        image = interpolate(image, (FRAME_PX, FRAME_PX), mode="area")
    return image[0].mul(255).round().to(torch.uint8).cpu()


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
