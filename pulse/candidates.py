"""What is looked for and what is found: a job for each candidate of a face, and its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pulse.faces.prepare import Face
from pulse.images import Origin, to_image, write_picture
from pulse.images.credentials import Sign
from pulse.pretrained import Pretrained
from pulse.search.sampling import Diagnostics
from pulse.search.start import Start
from pulse.settings import NOTHING_KEPT, KeepSettings, UpscaleSettings

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Job:
    """One search.

    Attributes:
        face: that is looked for.
        candidate: number of the answer.
        start: where the search begins; None for where the seed says.
        keep: what of the search its candidate keeps.
    """

    face: Face
    candidate: int
    start: Start | None = None
    keep: KeepSettings = NOTHING_KEPT


@dataclass(frozen=True)
class Latents:
    """Where a search ended, beside the styles.

    Attributes:
        v: (L, D) the styles in Gaussianised coordinates.
        noise_maps: one (1, size, size) for each noise input.
    """

    v: Tensor
    noise_maps: tuple[Tensor, ...]


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
        latents: where the search ended; None unless the job kept them.
        frames: (3, h, w) of 8 bits each: the sample that was searched on from, if any, and the best
            image after some of the steps; none unless the job kept them.
        posterior: how the sampler of its face fared; None where it was searched for.
        notes: what somebody should know who relies on it.
    """

    number: int
    image: Tensor
    error: float
    met_tolerance: bool
    latent: Tensor
    steps: int
    seconds: float
    origin: Origin
    latents: Latents | None = None
    frames: tuple[Tensor, ...] = ()
    posterior: Diagnostics | None = None
    notes: tuple[str, ...] = ()

    def to_pil(self) -> Image.Image:
        """The image as 8-bit RGB."""
        return to_image(self.image)

    def save(self, path: str | Path, sign: Sign | None = None) -> None:
        """Write the image, with its origin in the file; the suffix decides the format.

        Args:
            path: the file.
            sign: adds signed credentials; see `Signer`.

        Raises:
            PulseError: if it cannot be written.
        """
        write_picture(self.to_pil(), Path(path), origin=self.origin, sign=sign)


def spread_of(images: Sequence[Tensor]) -> Tensor:
    """Standard deviation over pictures (3, H, W) in each pixel, averaged over colours: (H, W)."""
    return torch.stack(list(images)).std(dim=0, unbiased=False).mean(dim=0)


def origin_of(
    face: Face, candidate: int | None, generator: Pretrained, seed: int, settings: UpscaleSettings
) -> Origin:
    """What a picture of a face says about itself; `candidate` is None where it shows them all."""
    coarse = generator.coarse_head_for(settings.search)
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
            **({"coarse_generator": coarse.digest} if coarse else {}),
        },
    )
