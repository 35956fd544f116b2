"""Who wants to hear of a run while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pulse.batch.journal import Record
from pulse.search.slots import Progress


@dataclass(frozen=True)
class Watcher:
    """What a caller may want to hear of while a run goes on; every one may be left out.

    Attributes:
        on_total: number of pictures, once they are listed.
        on_faces: a picture turned out to have this many faces.
        on_step: a step of the search.
        on_record: a record was written.
        on_face_done: a face, or a picture without one, is finished.
        on_warning: something to tell the user, one line.
    """

    on_total: Callable[[int], None] = lambda _total: None
    on_faces: Callable[[int], None] = lambda _count: None
    on_step: Callable[[Progress], None] = lambda _progress: None
    on_record: Callable[[Record], None] = lambda _record: None
    on_face_done: Callable[[], None] = lambda: None
    on_warning: Callable[[str], None] = lambda _text: None
