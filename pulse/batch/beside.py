"""What is kept beside a candidate: its latents, and the search as a small animation."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from pulse.candidates import Candidate
from pulse.faces.prepare import Face
from pulse.images import to_image, write_animation
from pulse.images.credentials import Sign
from pulse.latents import write_latents
from pulse.settings import KeepSettings

FRAME_MS, LAST_FRAME_MS = 80, 2000


def names_beside(candidate: int, keep: KeepSettings) -> tuple[str, ...]:
    """Names of the files that are kept beside a candidate."""
    steps = (steps_name(candidate),) if keep.steps else ()
    return (*steps, latents_name(candidate)) if keep.latents else steps


def steps_name(candidate: int) -> str:
    """The name of a candidate's animation."""
    return f"steps-{candidate:02d}.webp"


def latents_name(candidate: int) -> str:
    """The name of a candidate's latents file."""
    return f"latents-{candidate:02d}.safetensors"


def write_beside(
    folder: Path, candidate: Candidate, face: Face, keep: KeepSettings, sign: Sign | None
) -> None:
    """Write what is kept beside a candidate.

    Raises:
        PulseError: if a file cannot be written.
    """
    if keep.latents:
        write_latents(folder / latents_name(candidate.number), candidate, face)
    if keep.steps:
        frames = [_frame(to_image(frame.float().div(255)), face) for frame in candidate.frames]
        times = [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS]
        path = folder / steps_name(candidate.number)
        write_animation(frames, times, path, origin=candidate.origin, sign=sign)


def _frame(image: Image.Image, face: Face) -> Image.Image:
    """The low-resolution face as pixels, and beside it the best face so far."""
    low_res = to_image(face.low_res).resize(image.size, Image.Resampling.NEAREST)
    frame = Image.new("RGB", (2 * image.width, image.height))
    frame.paste(low_res, (0, 0))
    frame.paste(image, (image.width, 0))
    return frame
