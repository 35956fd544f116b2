"""Reads pictures ahead of the search: decoding, detection and alignment in threads of their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from pulse.batch.jobs import Source
from pulse.batch.plan import Plan, PlannedPicture
from pulse.errors import PictureError
from pulse.faces.prepare import Face, prepare_faces
from pulse.images import read_picture
from pulse.settings import FaceSettings, Shard

NO_FACE = "no face was found; if the picture is one aligned face, use --align never"
AHEAD = 4  # pictures a thread that are ready or in work before they are asked for


@dataclass(frozen=True)
class Prepared:
    """A picture that was looked at.

    Attributes:
        planned: what was known of it before.
        faces: its faces; none where it is done, passed over, or has none.
        notes: conversions of the whole picture.
        problem: why it has no faces, as a status and a reason; None where there is nothing to say.
        is_ours: whether it belongs to this shard.
    """

    planned: PlannedPicture
    faces: tuple[Face, ...] = ()
    notes: tuple[str, ...] = ()
    problem: tuple[Literal["failed", "no-face"], str] | None = None
    is_ours: bool = True


class Reader:
    """Pictures in the order of their sources, some of them ready before they are asked for.

    Args:
        sources: each with its folder in the output tree.
        plan: what is known of them.
        resolution: pixels a side of what the generator draws.
        settings: how faces are found.
        shard: the part of the pictures that is read; None for all.
        threads: how many pictures are read at a time.
    """

    def __init__(
        self,
        sources: Iterable[tuple[Source, PurePosixPath]],
        plan: Plan,
        resolution: int,
        settings: FaceSettings,
        shard: Shard | None,
        threads: int,
    ) -> None:
        self._sources: Iterator[tuple[Source, PurePosixPath]] = iter(sources)
        self._plan, self._resolution, self._settings = plan, resolution, settings
        self._shard = shard
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="read")
        self._ahead = threads * AHEAD
        # in order; what is known at once takes no thread: of a large folder most may be done
        self._queue: deque[Future[Prepared] | Prepared] = deque()
        self._refill()

    @property
    def is_exhausted(self) -> bool:
        """Whether every picture has been handed out."""
        return not self._queue

    @property
    def is_ready(self) -> bool:
        """Whether the next picture can be had without waiting."""
        if not self._queue:
            return False
        first = self._queue[0]
        return isinstance(first, Prepared) or first.done()

    def next(self) -> Prepared:
        """The next picture; waits until it is ready."""
        first = self._queue.popleft()
        prepared = first if isinstance(first, Prepared) else first.result()
        self._refill()
        return prepared

    def close(self) -> None:
        """Drop what was read ahead."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _refill(self) -> None:
        while len(self._queue) < self._ahead:
            item = next(self._sources, None)
            if item is None:
                return
            planned = self._plan.at_once(*item)
            prepared = self._unread(planned) if planned else None
            self._queue.append(prepared or self._executor.submit(self._prepare, *item))

    def _unread(self, planned: PlannedPicture) -> Prepared | None:
        """A picture that need not be opened; None for one that must be."""
        if self._shard and not self._shard.holds(_shard_key(planned)):
            return Prepared(planned, is_ours=False)
        return Prepared(planned) if planned.is_done else None

    def _prepare(self, source: Source, folder: PurePosixPath) -> Prepared:
        """Look at one picture, in one of the threads."""
        planned = self._plan.of(source, folder)
        unread = self._unread(planned)
        if unread:
            return unread
        try:
            picture = read_picture(source.path)
            faces = prepare_faces(picture, self._resolution, self._settings)
        except PictureError as error:
            return Prepared(planned, problem=("failed", str(error)))
        if not faces:
            return Prepared(planned, notes=picture.notes, problem=("no-face", NO_FACE))
        return Prepared(planned, tuple(faces), picture.notes)


def _shard_key(planned: PlannedPicture) -> str:
    """What decides the shard: the content, so that copies meet; the path where it has none."""
    return planned.identity.sha256 if planned.identity else planned.source.key
