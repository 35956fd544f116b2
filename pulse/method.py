"""One picture through the whole method: find its faces, search, and give back the candidates.

result = pulse.upscale("face.png", pulse.load_generator(), candidates=4, seed=0)
result.candidates[0].image   # (3, H, W) float in [0, 1]: an imagined face
result.spread                # (H, W): where the candidates disagree
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from pulse.candidates import Candidate, Job, spread_of
from pulse.errors import PictureError
from pulse.faces.prepare import Face, prepare_faces
from pulse.images import picture_from, read_picture
from pulse.posterior_pool import pool_for
from pulse.pretrained import Pretrained
from pulse.search.slots import Progress
from pulse.settings import UpscaleSettings

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

MAX_BATCH_SIZE = 16  # candidates searched for at a time


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
    settings = replace(settings or UpscaleSettings(), candidates=candidates, seed=seed)
    picture = read_picture(Path(image)) if isinstance(image, str | Path) else picture_from(image)
    faces = prepare_faces(picture, generator.network.resolution, settings.face)
    if not faces:
        raise PictureError(
            f"{picture.path or 'the picture'}: no face was found; "
            "if it is one aligned face, use align='never'"
        )
    pool = pool_for(generator, settings, min(candidates, MAX_BATCH_SIZE), on_step)
    pool.add(Job(faces[0], number) for number in range(1, candidates + 1))
    found: dict[int, Candidate] = {}
    while len(pool):
        found |= {job.candidate: candidate for job, candidate in pool.advance()}
    return Result(faces[0], tuple(found[number] for number in sorted(found)))
