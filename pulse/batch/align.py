"""Align the faces of many pictures and write them, without a search."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pulse.batch.jobs import OutputFolders, Source, face_folder, list_sources
from pulse.errors import PulseError
from pulse.faces.align import align_faces
from pulse.faces.detect import detect_faces
from pulse.faces.prepare import reduce_square
from pulse.files import make_folder, printable_path
from pulse.images import read_picture, to_image, write_picture
from pulse.settings import FaceSettings

# What is added to a picture's name, so that no picture's own name may end like this.
RESERVED = re.compile(r".*\.(low_res|face-\d+)")


@dataclass(frozen=True)
class Line:
    """What became of one face or picture, in words."""

    text: str
    is_failure: bool


def align_pictures(
    inputs: Sequence[Path], out: Path, size: int, settings: FaceSettings, *, overwrite: bool
) -> Iterator[Line]:
    """Cut the faces out of pictures and write each as a PNG.

    A face goes to OUT/<the input's folders>/<stem>.png, or <stem>.face-K.png where a picture has
    several; with `settings.low_res` the reduced face goes beside it as <stem>.low_res.png.

    Args:
        inputs: files and folders.
        out: the output folder.
        size: pixels a side of the aligned face.
        settings: which faces, and the size and kernel of the reduced ones.
        overwrite: whether files that are there are written again.

    Yields:
        One line for each file, and for each picture without a face.
    """
    folders = OutputFolders(reserved=RESERVED)
    for source in list_sources(inputs, out):
        try:
            yield from _align_one(source, out, folders, size, settings, overwrite=overwrite)
        except PulseError as error:
            yield Line(str(error), is_failure=True)


def _align_one(
    source: Source, out: Path, folders: OutputFolders, size: int, settings: FaceSettings,
    *, overwrite: bool,
) -> Iterator[Line]:  # fmt: skip
    name = printable_path(source.path)
    stem = folders.of(source)
    image = read_picture(source.path).image
    detections = detect_faces(image)
    if settings.faces == "largest":
        detections = detections[:1]
    if not detections:
        yield Line(f"{name}: no face was found", is_failure=True)
    for face in align_faces(image, detections, size):
        base = out / face_folder(stem, face.face_index + 1, len(detections))
        files = {base.with_name(f"{base.name}.png"): face.image}
        if settings.low_res:
            reduced = reduce_square(face.image, settings.low_res, settings.kernel)
            files[base.with_name(f"{base.name}.low_res.png")] = to_image(reduced)
        make_folder(base.parent)
        for path, square in files.items():
            if path.exists() and not overwrite:
                yield Line(
                    f"{name}: {printable_path(path)} is there already; left as is", is_failure=False
                )
                continue
            write_picture(square, path)
            yield Line(f"{name} -> {printable_path(path)}", is_failure=False)
