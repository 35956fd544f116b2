"""Posterior samples for many faces on one device: all particles of several faces share batches.

A face's candidates are samples of one sampler: they are found together, and are the same whichever
of them are asked for. Where they are refined, a short search goes on from each until the tolerance
is met.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace

import torch

from pulse.candidates import Candidate, Job, Latents, origin_of
from pulse.downscale import Downscale
from pulse.errors import PulseError
from pulse.faces.prepare import Face
from pulse.pool import SearchPool, frame_of, possible
from pulse.pretrained import Pretrained
from pulse.search.losses import mean_squared
from pulse.search.posterior import Sampler
from pulse.search.rng import rng_for
from pulse.search.sampling import Diagnostics, Model, Posterior, SamplerSettings
from pulse.search.slots import Progress, round_to_8_bits
from pulse.search.start import Start
from pulse.search.surrogate import HEAD_PX, model_of
from pulse.search.together import Together, noise_maps_of
from pulse.settings import UpscaleSettings, least_sigma

FACES_AT_ONCE = 4  # whose particles share batches
DRAWN_AT_ONCE = 8  # pictures drawn in the memory of one search, which keeps a graph of its own
FEW_ANCESTORS = 2  # draws of the prior that the samples descend from
FEW_ACCEPTED = 0.05  # of the generator's moves
SAMPLER = SamplerSettings()


@dataclass
class OpenFace:
    """A face that is being sampled.

    Attributes:
        face: the face.
        block: which of its samplers: each has `SAMPLER.particles` candidates.
        jobs: that are waited for.
        began: when, seconds of the monotonic clock.
    """

    face: Face
    block: int
    jobs: list[Job] = field(default_factory=list)
    began: float = 0.0


class PosteriorPool:
    """Jobs in, candidates out; the same as `SearchPool` to those who use it.

    Args:
        generator: from `load_generator`, with bank and head.
        settings: of the method.
        batch_size: searches at a time, of those that refine; more pictures are drawn at a time.
        on_step: called after each step.

    Raises:
        PulseError: if the generator has no head.
    """

    def __init__(
        self,
        generator: Pretrained,
        settings: UpscaleSettings,
        batch_size: int,
        on_step: Callable[[Progress], None] | None = None,
    ) -> None:
        if not generator.network.has_mapping:
            raise PulseError(
                f"{generator.name} has no mapping network to draw faces from, which the method "
                "'posterior' needs; choose another --method or --generator"
            )
        if generator.bank is None or generator.head is None:
            raise PulseError(
                f"the method 'posterior' needs bank and head of {generator.name}; load it with "
                "with_head=True"
            )
        self.generator, self.settings, self.batch_size = generator, settings, batch_size
        self.on_step = on_step
        drawn = max(batch_size, min(DRAWN_AT_ONCE * batch_size, SAMPLER.particles))
        self._together = Together(generator.network, drawn, settings.search.precision)
        # the search that refines; its own pool, whose slots are free for each sample
        search = replace(settings.search, method="mixing", sigma=None)
        self._refining = SearchPool(
            generator, replace(settings, search=search), batch_size, on_step
        )
        self._sampled: dict[int, Candidate] = {}  # id of a job that refines to its sample
        self._origins: dict[int, Job] = {}  # and to the job that it is for
        self._waiting: deque[OpenFace] = deque()
        self._running: dict[int, OpenFace] = {}
        self._models: dict[tuple[int, int], Model] = {}
        self._answers: list[tuple[Job, Candidate]] = []

    def __len__(self) -> int:
        """Jobs that have no answer yet."""
        faces = [*self._waiting, *self._running.values()]
        return sum(len(face.jobs) for face in faces) + len(self._sampled) + len(self._answers)

    @property
    def wants_more(self) -> bool:
        """Whether there should be more jobs in the queue."""
        return len(self._waiting) < FACES_AT_ONCE

    @property
    def is_on_cpu(self) -> bool:
        """Whether it computes on the CPU."""
        return self.generator.device.type == "cpu"

    def add(self, jobs: Iterable[Job]) -> None:
        """Put jobs into the queue; those of one face, given together, are sampled together."""
        opened: dict[tuple[int, int], OpenFace] = {}
        for job in jobs:
            key = sampler_of(job)
            if key not in opened:
                _check_size(job.face)
                opened[key] = OpenFace(job.face, key[1])
                self._waiting.append(opened[key])
            opened[key].jobs.append(job)

    def advance(self) -> list[tuple[Job, Candidate]]:
        """Go on until at least one job has its answer; nothing where there is no job."""
        while not self._answers and len(self):
            if len(self._refining):
                self._refine()
            else:
                self._sample()
        answers, self._answers = self._answers, []
        return answers

    def close(self) -> None:
        """Let go of the batch."""
        self._refining.close()

    def _sample(self) -> None:
        """One round of drawing for every face in progress."""
        while self._waiting and len(self._running) < FACES_AT_ONCE:
            opened = self._waiting.popleft()
            opened.began = time.monotonic()
            key = id(opened)
            self._running[key] = opened
            self._together.add(key, self._sampler(opened).run(), self._operator(opened.face))
        for key, found in self._together.step().items():
            opened = self._running.pop(key)
            self._take(opened, found)
        if self.on_step:
            self.on_step(Progress(1, [], []))

    def _sampler(self, opened: OpenFace) -> Sampler:
        """The sampler of a face, with a random stream that follows from it."""
        face, search = opened.face, self.settings.search
        rng = rng_for(self.settings.seed, face.picture, face.number, -1 - opened.block)
        sigma = least_sigma(face.low_res_size) if search.sigma is None else search.sigma
        y = face.low_res.flatten().to(self.generator.device)
        last = max((job.candidate - 1) % SAMPLER.particles for job in opened.jobs) + 1
        return Sampler(
            self._model(face), y, sigma, rng, SAMPLER,
            # on GPUs fewer rows cost as much, and may be rounded otherwise
            samples=last if self.is_on_cpu else None,
            is_estimated=search.sigma is None,
        )  # fmt: skip

    def _take(self, opened: OpenFace, found: Posterior) -> None:
        """Make the candidates of a face that was sampled."""
        seconds = (time.monotonic() - opened.began) / len(opened.jobs) / (1 + len(self._running))
        for job in opened.jobs:
            row = (job.candidate - 1) % SAMPLER.particles
            sample = self._candidate(job, found, row, seconds)
            search = self.settings.search
            if not search.refine or sample.met_tolerance or sample.latents is None:
                self._answers.append((job, _kept(sample, job)))
                continue
            start = Start(
                sample.latents.v[None], [noise[None] for noise in sample.latents.noise_maps]
            )
            refining = replace(job, start=start)
            self._sampled[id(refining)], self._origins[id(refining)] = sample, job
            self._refining.add([refining])

    def _refine(self) -> None:
        """Answer with what the searches from samples have found."""
        for refining, refined in self._refining.advance():
            sample, job = self._sampled.pop(id(refining)), self._origins.pop(id(refining))
            better = replace(
                refined, seconds=sample.seconds + refined.seconds, origin=sample.origin,
                posterior=sample.posterior, notes=sample.notes,
                frames=(*sample.frames, *refined.frames),
            )  # fmt: skip
            self._answers.append((job, better))

    @torch.no_grad()
    def _candidate(self, job: Job, found: Posterior, row: int, seconds: float) -> Candidate:
        """One sample, drawn in single precision."""
        G, prior = self.generator.network, self.generator.prior
        noise_maps = noise_maps_of(G, found.noise[row : row + 1])
        w = G.mapping(found.z[row : row + 1])
        ws = G.broadcast(w)
        image = round_to_8_bits(G.render(ws, noise_maps))
        target = job.face.low_res.to(image)[None]
        error = mean_squared(self._operator(job.face)(image), target).item()
        v = prior.from_w(ws)[0].cpu()
        origin = origin_of(
            job.face, job.candidate, self.generator, self.settings.seed, self.settings
        )
        told = asdict(found.diagnostics)
        return Candidate(
            number=job.candidate,
            image=image[0].cpu(),
            error=error,
            met_tolerance=error <= self.settings.search.tolerance,
            latent=ws[0].cpu(),
            steps=0,
            seconds=seconds,
            origin=replace(origin, settings={**origin.settings, "posterior": told}),
            latents=Latents(v, tuple(noise[0].cpu() for noise in noise_maps)),
            frames=(frame_of(image),) if job.keep.steps else (),
            posterior=found.diagnostics,
            notes=notes_of(found.diagnostics),
        )

    def _model(self, face: Face) -> Model:
        """What the sampler knows of pictures of a face's size."""
        size = face.low_res_size
        if size not in self._models:
            generator = self.generator
            assert generator.bank is not None
            assert generator.head is not None
            self._models[size] = model_of(
                generator.network, generator.prior, generator.bank, generator.head, size
            )
        return self._models[size]

    def _operator(self, face: Face) -> Downscale:
        """The downscale operator to a face's size."""
        G = self.generator.network
        resolution = (G.resolution, G.resolution)
        return Downscale(
            resolution, face.low_res_size, self.settings.face.kernel, self.generator.device
        )


def pool_for(
    generator: Pretrained,
    settings: UpscaleSettings,
    batch_size: int,
    on_step: Callable[[Progress], None] | None = None,
) -> SearchPool | PosteriorPool:
    """The pool of the method that the settings name, where the generator allows it.

    Raises:
        PulseError: if posterior samples are asked for, and the generator was loaded without a head.
    """
    if possible(settings.search, generator).method == "posterior":
        return PosteriorPool(generator, settings, batch_size, on_step)
    return SearchPool(generator, settings, batch_size, on_step)


def sampler_of(job: Job) -> tuple[int, int]:
    """What tells the samplers of jobs apart: the face, and which of its samplers."""
    return id(job.face), (job.candidate - 1) // SAMPLER.particles


def notes_of(told: Diagnostics) -> tuple[str, ...]:
    """What somebody should know who relies on the proportions of a face's samples."""
    notes = []
    if told.ancestors < FEW_ANCESTORS:
        notes.append(
            f"the samples descend from {told.ancestors} draw of the prior: kinds of faces that "
            "fit may be missing"
        )
    if told.acceptance < FEW_ACCEPTED:
        notes.append(
            f"the generator accepted {told.acceptance:.0%} of the moves: the samples are "
            "those of its stand-in, more or less"
        )
    return tuple(notes)


def _check_size(face: Face) -> None:
    """Raise unless the surrogate knows pictures of a face's size.

    Raises:
        PulseError: naming the size and what to do.
    """
    h, w = face.low_res_size
    if max(h, w) > HEAD_PX:
        raise PulseError(
            f"the method 'posterior' takes faces of {HEAD_PX} px at most, not {w} x {h}; reduce "
            f"them with --low-res {HEAD_PX}, or choose another --method"
        )


def _kept(sample: Candidate, job: Job) -> Candidate:
    """The candidate without latents that nobody asked for."""
    return sample if job.keep.latents else replace(sample, latents=None)
