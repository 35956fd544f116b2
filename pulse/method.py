"""One picture through the whole method: find its faces, search, and give back the candidates.

result = pulse.upscale("face.png", pulse.load_generator(), candidates=4, seed=0)
result.candidates[0].image   # (3, H, W) float in [0, 1]: an imagined face
result.spread                # (H, W): where the candidates disagree
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pulse.downscale import Downscale
from pulse.errors import DeviceError, PictureError
from pulse.faces.prepare import Face, prepare_faces
from pulse.images import Origin, picture_from, read_picture, to_image, write_picture
from pulse.pretrained import Pretrained
from pulse.search.descent import Found, Progress, descend
from pulse.search.rng import rng_for
from pulse.search.start import random_start, stack
from pulse.settings import UpscaleSettings

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

DEFAULT_BATCH_SIZE = 16


@dataclass(frozen=True)
class Candidate:
    """One of several answers: a face that nobody has.

    Attributes:
        number: from 1.
        image: (3, H, W) float in [0, 1], rounded to 8 bits: what is saved.
        error: mean squared error of the downscaled image against the low-resolution face.
        met_tolerance: whether the error is within the tolerance.
        latent: (L, D) styles that the generator drew the image from.
        steps: descent steps taken.
        seconds: this candidate's share of the search's time.
        origin: what the image says about itself when it is saved.
    """

    number: int
    image: Tensor
    error: float
    met_tolerance: bool
    latent: Tensor
    steps: int
    seconds: float
    origin: Origin

    def to_pil(self) -> Image.Image:
        """The image as 8-bit RGB."""
        return to_image(self.image)

    def save(self, path: str | Path) -> None:
        """Write the image, with its origin in the file; the suffix decides the format.

        Raises:
            PulseError: if it cannot be written.
        """
        write_picture(self.to_pil(), Path(path), origin=self.origin)


@dataclass(frozen=True)
class Result:
    """All answers for one face.

    Attributes:
        face: the face that was searched for.
        candidates: in the order of their numbers.
    """

    face: Face
    candidates: tuple[Candidate, ...]

    @property
    def low_res(self) -> Tensor:
        """What was searched for: (3, h, w) float in [0, 1]."""
        return self.face.low_res

    @property
    def spread(self) -> Tensor:
        """Where the candidates disagree: see `spread_of`."""
        return spread_of([candidate.image for candidate in self.candidates])


def spread_of(images: Sequence[Tensor]) -> Tensor:
    """Standard deviation over pictures (3, H, W) in each pixel, averaged over colours: (H, W)."""
    return torch.stack(list(images)).std(dim=0, unbiased=False).mean(dim=0)


@dataclass(frozen=True)
class Job:
    """One search: a face, and the number of the candidate that is looked for."""

    face: Face
    candidate: int


def upscale(
    image: str | Path | Image.Image | np.ndarray | Tensor,
    generator: Pretrained,
    candidates: int = 4,
    seed: int = 0,
    settings: UpscaleSettings | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> Result:
    """Imagine high-resolution faces for the largest face of a picture.

    Args:
        image: a file's path, a PIL image, an array (H, W, 3) uint8, or a tensor (3, H, W) float in
            [0, 1].
        generator: from `load_generator`.
        candidates: answers to look for.
        seed: any whole number.
        settings: everything else; its own `candidates` and `seed` do not count.
        on_step: called after each step of the search.

    Returns:
        The candidates, each with its error, whether or not it met the tolerance.

    Raises:
        PictureError: if the picture cannot be read or has no face.
        ValueError: for an image of another type or shape.
    """
    settings = settings or UpscaleSettings()
    picture = read_picture(Path(image)) if isinstance(image, str | Path) else picture_from(image)
    faces = prepare_faces(picture, generator.network.resolution, settings.face)
    if not faces:
        raise PictureError(
            f"{picture.path or 'the picture'}: no face was found; "
            "if it is one aligned face, use align='never'"
        )
    jobs = [Job(faces[0], number) for number in range(1, candidates + 1)]
    found = search(jobs, generator, seed, settings, on_step=on_step)
    return Result(faces[0], tuple(found))


def search(
    jobs: Sequence[Job],
    generator: Pretrained,
    seed: int,
    settings: UpscaleSettings,
    batch_size: int | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> list[Candidate]:
    """Look for one candidate for each job; jobs with faces of one size share batches.

    A batch that does not fit in the device's memory is halved and searched again.

    Args:
        jobs: in any order; neither it nor the batches change what is found.
        generator: from `load_generator`.
        seed: any whole number.
        settings: of the method.
        batch_size: searches at a time at most; None for `DEFAULT_BATCH_SIZE`.
        on_step: called after each step of each batch.

    Returns:
        The candidates in the order of the jobs.

    Raises:
        DeviceError: if not even one search fits in the memory.
    """
    found: dict[int, Candidate] = {}
    for batch in _batches(jobs, batch_size or DEFAULT_BATCH_SIZE):
        waiting = [batch]
        while waiting:
            indices = waiting.pop()
            part = [jobs[i] for i in indices]
            try:
                answers = _search_batch(part, generator, seed, settings, on_step)
            except torch.OutOfMemoryError as error:
                if len(indices) == 1:
                    raise DeviceError(
                        f"{generator.device} has too little memory for one search with "
                        f"{generator.name}; free some, or choose another --device"
                    ) from error
                half = len(indices) // 2
                waiting += [indices[half:], indices[:half]]
                continue
            found.update(zip(indices, answers, strict=True))
    return [found[i] for i in range(len(jobs))]


def _batches(jobs: Sequence[Job], batch_size: int) -> Iterator[list[int]]:
    """Indices of jobs whose faces have one size, at most `batch_size` at a time."""
    by_size: dict[tuple[int, ...], list[int]] = {}
    for i, job in enumerate(jobs):
        by_size.setdefault(tuple(job.face.low_res.shape), []).append(i)
    for indices in by_size.values():
        for first in range(0, len(indices), batch_size):
            yield indices[first : first + batch_size]


def _search_batch(
    jobs: Sequence[Job],
    generator: Pretrained,
    seed: int,
    settings: UpscaleSettings,
    on_step: Callable[[Progress], None] | None,
) -> list[Candidate]:
    """The method: a start for each job, the operator A, the descent, and what was found."""
    began = time.monotonic()
    G, device = generator.network, generator.device
    starts = [
        random_start(
            rng_for(seed, job.face.picture, job.face.number, job.candidate),
            G.num_ws, G.w_dim, G.noise_sizes, settings.search,
        )
        for job in jobs
    ]  # fmt: skip
    target = torch.stack([job.face.low_res for job in jobs]).to(device)  # (B, 3, h, w)
    size = (G.resolution, G.resolution)
    A = Downscale(size, (target.shape[2], target.shape[3]), settings.face.kernel, device)
    start = stack(starts).to(device)
    found = descend(G, generator.prior, A, target, start, settings.search, on_step)
    seconds = time.monotonic() - began
    return _candidates(jobs, found, seconds, generator, seed, settings)


def _candidates(
    jobs: Sequence[Job],
    found: Found,
    seconds: float,
    generator: Pretrained,
    seed: int,
    settings: UpscaleSettings,
) -> list[Candidate]:
    images, ws = found.images.cpu(), found.ws.cpu()
    errors, steps = found.errors.tolist(), found.steps.tolist()
    return [
        Candidate(
            number=job.candidate,
            image=images[i],
            error=errors[i],
            met_tolerance=errors[i] <= settings.search.tolerance,
            latent=ws[i],
            steps=steps[i],
            seconds=seconds * steps[i] / sum(steps),
            origin=origin_of(job.face, job.candidate, generator, seed, settings),
        )
        for i, job in enumerate(jobs)
    ]


def origin_of(
    face: Face, candidate: int | None, generator: Pretrained, seed: int, settings: UpscaleSettings
) -> Origin:
    """What a picture of a face says about itself; `candidate` is None where it shows them all."""
    return Origin(
        generator=generator.name,
        generator_sha256=generator.sha256,
        seed=seed,
        settings={
            "picture": face.picture,
            "face": face.number,
            "candidate": candidate,
            "low_res_px": face.low_res.shape[-1],
            "class": generator.class_index,
            "kernel": settings.face.kernel,
            "search": asdict(settings.search),
        },
    )
