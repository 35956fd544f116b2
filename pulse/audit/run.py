"""A labelled folder through the method, person by person."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from pulse.audit.labels import Labels
from pulse.audit.people import Attribute, Person, measure_person
from pulse.audit.study import Study, study
from pulse.batch.batch_size import measure_batch_size
from pulse.candidates import Candidate, Job
from pulse.errors import PictureError, PulseError
from pulse.faces.prepare import Face, prepare_faces
from pulse.files import printable_path
from pulse.images import read_picture
from pulse.pool import SearchPool
from pulse.posterior_pool import PosteriorPool, pool_for
from pulse.pretrained import Pretrained
from pulse.search.slots import Progress
from pulse.settings import UpscaleSettings

Known = tuple[Path, str, Face]
Upscaler = Callable[[Iterable[Known]], Iterator[tuple[Known, list[Candidate]]]]


def audit(
    labels: Labels, generator: Pretrained, settings: UpscaleSettings, method: str,
    upscaler: Upscaler | None = None, attribute: Attribute | None = None,
    on_person: Callable[[Person], object] | None = None,
) -> Study:  # fmt: skip
    """Upscale everyone and measure how it went.

    Args:
        labels: of the people.
        generator: from `load_generator`.
        settings: of the method; `face.low_res` says at which size.
        method: what to call the search.
        upscaler: finds candidates; None for `pooled`.
        attribute: the user's own function of a picture.
        on_person: called as each person is measured.

    Raises:
        PulseError: if nobody could be measured.
    """
    assert settings.face.low_res is not None
    began = time.monotonic()
    left_out: dict[str, str] = {path.name: "tells no group" for path in labels.unsaid}
    known = _faces(labels, generator, settings, left_out)
    people: list[Person] = []
    for (path, group, face), candidates in (upscaler or pooled(generator, settings))(known):
        people.append(measure_person(path, group, face, candidates, attribute))
        if on_person:
            on_person(people[-1])
    if not people:
        name, reason = next(iter(left_out.items()))
        raise PulseError(f"nobody could be measured; the first of the pictures, {name}: {reason}")
    return study(
        people, left_out, method, settings.face.low_res, settings.candidates,
        time.monotonic() - began, settings.seed,
    )  # fmt: skip


def _faces(
    labels: Labels, generator: Pretrained, settings: UpscaleSettings, left_out: dict[str, str]
) -> Iterator[Known]:
    """The largest face of each photograph; pictures without go to `left_out` with the reason."""
    look = replace(settings.face, faces="largest")
    for path, group in labels.groups.items():
        try:
            faces = prepare_faces(read_picture(path), generator.network.resolution, look)
        except PictureError as error:
            left_out[path.name] = str(error)
            continue
        if not faces:
            left_out[path.name] = "no face was found"
        elif faces[0].aligned is None:
            left_out[path.name] = "is of low resolution itself; the audit needs photographs"
        else:
            yield path, group, faces[0]


def pooled(
    generator: Pretrained, settings: UpscaleSettings,
    on_step: Callable[[Progress], None] | None = None,
) -> Upscaler:  # fmt: skip
    """What finds candidates for faces on the generator's device, in full batches."""

    def upscale(known: Iterable[Known]) -> Iterator[tuple[Known, list[Candidate]]]:
        pool: SearchPool | PosteriorPool | None = None
        faces = iter(known)
        open_: dict[int, tuple[Known, list[Candidate]]] = {}
        is_exhausted = False
        while True:
            while not is_exhausted and (pool is None or pool.wants_more):
                item = next(faces, None)
                if item is None:
                    is_exhausted = True
                    break
                if pool is None:  # nothing is measured for a folder without a face
                    size = measure_batch_size(generator, settings.search, MOST_AT_A_TIME)
                    pool = pool_for(generator, settings, size, on_step)
                open_[id(item[2])] = (item, [])
                pool.add(Job(item[2], k) for k in range(1, settings.candidates + 1))
            if pool is None or not len(pool):
                return
            for job, candidate in pool.advance():
                item, found = open_[id(job.face)]
                found.append(candidate)
                if len(found) == settings.candidates:
                    del open_[id(job.face)]
                    yield item, sorted(found, key=lambda candidate: candidate.number)

    return upscale


MOST_AT_A_TIME = 64  # searches; devices with room for more gain little


def load_attribute(text: str) -> Attribute:
    """A user's own function, given as FILE.py:NAME: an array (H, W, 3) uint8 to a word.

    Raises:
        PulseError: if the file or the function is not there, or the file fails.
    """
    file, _, name = text.rpartition(":")
    path = Path(file)
    if not file or not name or not path.is_file():
        raise PulseError(f"cannot find the function '{text}'; give FILE.py:NAME")
    spec = importlib.util.spec_from_file_location("pulse_user_attribute", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        function = getattr(module, name)
    except Exception as error:
        raise PulseError(f"{printable_path(path)} fails: {error}; correct it") from error
    return lambda image: str(function(image))
