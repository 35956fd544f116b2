"""Photographs with their faces back in them, once every face of a photograph is written."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from pulse.batch.journal import Record
from pulse.batch.plan import PlannedPicture
from pulse.candidates import origin_of
from pulse.errors import PictureError, PulseError
from pulse.faces.align import Array, center_square_quad
from pulse.faces.paste import Patch, paste_faces
from pulse.faces.prepare import Face
from pulse.files import make_folder, remove_partial_files
from pulse.images import Origin, Picture, read_picture, to_tensor, write_picture
from pulse.images.credentials import Signer
from pulse.images.origin import COMPOSITE
from pulse.pretrained import Pretrained
from pulse.settings import FormatName, PasteSettings, UpscaleSettings

if TYPE_CHECKING:
    from PIL import Image

PASTED = re.compile(r"pasted(-\d+)?(-x[0-9.]+)?\.(png|jpg|webp)")
DESCRIPTION = (
    "A photograph with an imagined face in it, drawn by a neural network: it does not show what "
    "the person looks like."
)


class Together:
    """The faces of one picture; any thread may add the one that it has written.

    Args:
        count: how many there are.
    """

    def __init__(self, count: int) -> None:
        self._count, self._lock = count, Lock()
        self._written: list[tuple[Face, list[Record]]] = []

    def add(self, face: Face, records: list[Record]) -> list[tuple[Face, list[Record]]] | None:
        """Add a face with the records of its candidates: all faces if it is the last one."""
        with self._lock:
            self._written.append((face, records))
            return self._written if len(self._written) == self._count else None


@dataclass(frozen=True)
class Paster:
    """Pastes candidates into the photographs that their faces are from.

    Attributes:
        out: the output folder of the run.
        generator: that drew the candidates.
        settings: of the method.
        paste: which candidates, and how large.
        format: of the pictures.
        signer: signs them; None for no signature.

    Raises:
        PulseError: if a candidate is to be pasted that is not asked for.
    """

    out: Path
    generator: Pretrained
    settings: UpscaleSettings
    paste: PasteSettings
    format: FormatName
    signer: Signer | None = None

    def __post_init__(self) -> None:
        pick, candidates = self.paste.pick, self.settings.candidates
        if isinstance(pick, int) and pick > candidates:
            raise PulseError(
                f"candidate {pick} is to be pasted back, but each face has {candidates}; "
                "give another --pick or more --candidates"
            )

    @property
    def picks(self) -> tuple[int | None, ...]:
        """The candidate of each pasted picture; None for the best of each face."""
        if self.paste.pick == "best":
            return (None,)
        if self.paste.pick == "all":
            return tuple(range(1, self.settings.candidates + 1))
        return (self.paste.pick,)

    @property
    def names(self) -> tuple[str, ...]:
        """What the pictures are called; a name says all that decides how one looks."""
        return tuple(self._name(pick) for pick in self.picks)

    def _name(self, pick: int | None) -> str:
        number = "" if pick is None else f"-{pick:02d}"
        size = "" if self.paste.scale == 1 else f"-x{self.paste.scale:g}"
        return f"pasted{number}{size}.{self.format}"

    def write(
        self, planned: PlannedPicture, faces: Sequence[tuple[Face, Sequence[Record]]]
    ) -> None:
        """Paste the faces of one picture, and write what is asked for.

        Args:
            planned: the picture.
            faces: all of them, each with the records of its candidates.

        Raises:
            PictureError: if the photograph has changed, or the result does not fit its format.
            PulseError: if a file cannot be written.
        """
        photograph = read_picture(planned.source.path)
        if photograph.content_hash != faces[0][0].picture:
            raise PictureError(f"{planned.name} has changed during the run; run it again")
        folder = self.out / planned.folder
        make_folder(folder, within=self.out)
        remove_partial_files(folder)
        for pick in self.picks:
            picked = [
                (face, record)
                for face, records in sorted(faces, key=lambda pair: pair[0].number)
                if (record := _pick(records, pick)) is not None
            ]
            path = folder / self._name(pick)
            if _is_same(path, planned.source.path):
                raise PictureError(
                    f"{planned.name} is where its pasted picture belongs; choose another folder "
                    "with -o"
                )
            if picked:
                self._write(path, planned, photograph, picked)

    def _write(
        self, path: Path, planned: PlannedPicture, photograph: Picture,
        picked: Sequence[tuple[Face, Record]],
    ) -> None:  # fmt: skip
        """Write one picture with one candidate of each face."""
        patches = [self._patch(face, record, photograph.image) for face, record in picked]
        write_picture(
            paste_faces(photograph.image, patches, self.paste.scale),
            path,
            origin=self._origin(picked),
            captured=photograph.captured,
            sign=self.signer.for_input(planned.source.path) if self.signer else None,
        )

    def _patch(self, face: Face, record: Record, photograph: Image.Image) -> Patch:
        """A candidate as it was saved: a later run finds the same."""
        assert record.output is not None
        key = f"{self.settings.seed}/{face.picture}/{face.number}/{record.candidate}"
        return Patch(
            image=to_tensor(read_picture(self.out / record.output).image),
            low_res=face.low_res,
            kernel=self.settings.face.kernel,
            quad=_quad_of(face, photograph),
            seed=int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big"),
        )

    def _origin(self, picked: Sequence[tuple[Face, Record]]) -> Origin:
        """What a pasted picture says about itself."""
        origin = origin_of(picked[0][0], None, self.generator, self.settings.seed, self.settings)
        faces = [{"face": face.number, "candidate": record.candidate} for face, record in picked]
        settings = {k: v for k, v in origin.settings.items() if k not in ("face", "candidate")}
        return replace(
            origin,
            settings=settings | {"faces": faces, "scale": self.paste.scale},
            description=DESCRIPTION,
            digital_source_type=COMPOSITE,
        )


def remove_pasted(out: Path, planned: PlannedPicture) -> None:
    """Remove a picture's pasted ones: its candidates are about to change."""
    for path in (out / planned.folder).glob("pasted*"):
        if PASTED.fullmatch(path.name) and not _is_same(path, planned.source.path):
            path.unlink(missing_ok=True)


def _pick(records: Sequence[Record], candidate: int | None) -> Record | None:
    """The record of one candidate, or of the best; None where there is no picture of it."""
    there = [r for r in records if r.output is not None and r.error is not None and r.candidate]
    if candidate is not None:
        return next((record for record in there if record.candidate == candidate), None)
    return min(there, key=lambda record: (record.error, record.candidate), default=None)


def _quad_of(face: Face, photograph: Image.Image) -> Array:
    """Where a face belongs; one taken as it is fills the central square."""
    return center_square_quad(photograph) if face.quad is None else np.array(face.quad)


def _is_same(path: Path, source: Path) -> bool:
    """Whether two paths are one file, whatever they are called."""
    try:
        return path.samefile(source)
    except OSError:
        return False
