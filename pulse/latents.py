"""Where a search ended, as a file: everything needed to go on from there.

One safetensors file for each candidate: `v` (L, D) and `ws` (L, D), `noise.0`, `noise.1`, ...
(1, size, size) each, `low_res` (3, h, w); and in its metadata one JSON object under "pulse".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save

from pulse.candidates import Candidate
from pulse.errors import PulseError
from pulse.faces.prepare import Face
from pulse.files import printable_path, write_bytes_atomically
from pulse.pretrained import Pretrained
from pulse.search.start import Start

FORMAT = "pulse-latents-1"
METADATA_KEY = "pulse"  # a single one: the library writes several in any order
LATENTS_GLOB = "latents-*.safetensors"

Key = tuple[str, int, int]
"""Content hash of the picture, number of the face, number of the candidate."""


def write_latents(path: Path, candidate: Candidate, face: Face) -> None:
    """Write where the search of a candidate ended.

    Raises:
        PulseError: if the file cannot be written.
        ValueError: if the candidate was searched for without keeping its latents.
    """
    latents = candidate.latents
    if latents is None:
        raise ValueError("got a candidate without latents, expected one of a job that keeps them")
    tensors = {"v": latents.v, "ws": candidate.latent, "low_res": face.low_res}
    tensors |= {f"noise.{i}": noise for i, noise in enumerate(latents.noise_maps)}
    about = {
        "format": FORMAT,
        "picture": face.picture,
        "face": face.number,
        "candidate": candidate.number,
        "error": candidate.error,
        "steps": candidate.steps,
        **json.loads(candidate.origin.settings_json()),
    }
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_bytes_atomically(path, save(contiguous, {METADATA_KEY: json.dumps(about)}))


def read_start(path: Path, generator: Pretrained) -> Start:
    """Read where a search goes on: B = 1.

    Raises:
        PulseError: if the file is damaged, or does not suit the generator.
    """
    G = generator.network
    try:
        tensors = load(path.read_bytes())
        v = tensors["v"].float()
        noise_maps = [tensors[f"noise.{i}"].float() for i in range(len(G.noise_sizes))]
    except (OSError, SafetensorError, KeyError) as error:
        raise _damaged(path, error) from error
    shapes = [tuple(noise.shape) for noise in noise_maps]
    if v.shape != (G.num_ws, G.w_dim) or shapes != [(1, size, size) for size in G.noise_sizes]:
        raise PulseError(
            f"{printable_path(path)} holds latents of another shape than {generator.name} has; "
            "give the generator that they are from"
        )
    return Start(v[None], [noise[None] for noise in noise_maps])


@dataclass(frozen=True)
class LatentFiles:
    """Latents files, found by what they are of.

    Attributes:
        paths: of each.
        generator: that they are from, and that goes on with them.
        digest: SHA-256 of them all; None where there are none.
    """

    paths: dict[Key, Path]
    generator: Pretrained
    digest: str | None

    @classmethod
    def find(cls, given: Sequence[Path], generator: Pretrained) -> LatentFiles:
        """Look into files, and into folders with all below them.

        Raises:
            PulseError: if there is none, one is damaged or of another generator, or two are of
                one candidate.
        """
        paths: dict[Key, Path] = {}
        digest = hashlib.sha256()
        for path in (file for place in given for file in _files_of(place)):
            key = _key_of(path, generator)
            if key in paths and paths[key] != path:
                raise PulseError(
                    f"{printable_path(paths[key])} and {printable_path(path)} are of one "
                    "candidate; give one of them"
                )
            paths[key] = path
        for key, path in sorted(paths.items()):
            digest.update(f"{key}".encode() + hashlib.sha256(path.read_bytes()).digest())
        return cls(paths, generator, digest.hexdigest() if paths else None)

    def start_of(self, face: Face, candidate: int) -> Start | None:
        """Where the search of a candidate goes on; None where no file is of it.

        Raises:
            PulseError: if the file is damaged, or does not suit the generator.
        """
        path = self.paths.get((face.picture, face.number, candidate))
        return read_start(path, self.generator) if path else None


def _files_of(place: Path) -> Iterator[Path]:
    if not place.is_dir():
        yield place
        return
    files = sorted(place.rglob(LATENTS_GLOB))
    if not files:
        raise PulseError(
            f"there is no {LATENTS_GLOB} in {printable_path(place)}; make them with --save-latents"
        )
    yield from files


def _key_of(path: Path, generator: Pretrained) -> Key:
    """What a file is of; its tensors are not read."""
    try:
        with safe_open(path, "pt") as file:
            about: dict[str, Any] = json.loads((file.metadata() or {})[METADATA_KEY])
        if about["format"] != FORMAT:
            raise ValueError(f"its format is {about['format']}")
        sha256, name = about["generator_sha256"], about["generator"]
        key = (str(about["picture"]), int(about["face"]), int(about["candidate"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error
    if (sha256, about["settings"].get("class")) != (generator.sha256, generator.class_index):
        raise PulseError(
            f"{printable_path(path)} is of the generator {name}, and this run has "
            f"{generator.name}; give --generator and --class as they were"
        )
    return key


def _damaged(path: Path, error: Exception) -> PulseError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return PulseError(
        f"{printable_path(path)} is not a latents file of this program, or damaged ({reason}); "
        "make it with --save-latents"
    )
