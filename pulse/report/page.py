"""report.html: one page without a network, over every face of one run or of several.

The page holds the faces as data, one line each, and its script shows as many as are looked at: a
page of 100,000 faces opens as one of ten does. Only what is on the disk is read, and nothing goes
in that depends on when or in which order a run did its work.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

import pulse
from pulse.batch.journal import (
    DISAGREEMENT_NAME,
    DOWNSCALED_NAME,
    JOURNAL_NAME,
    LOW_RES_NAME,
    REPORT_NAME,
    RUN_NAME,
    Record,
)
from pulse.batch.summary import Summary, name_of
from pulse.colour_scale import SCALE, TOP_IN_WORDS
from pulse.errors import PulseError
from pulse.files import printable, printable_path, write_pieces_atomically
from pulse.report.runs import Known, Run, faces_of

TEMPLATE = "page.html"
TEMPLATE_PARTS = (TEMPLATE, "page.css", "page.js")
MARK = '<meta name="pulse-report" content="'
HEAD_BYTES = 1024  # of a page, in which its mark is
MOST_EMBEDDED_BYTES = 300_000_000  # browsers hold a page's text in one string of 512 MB at most
MIME = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}


def template_environment() -> Environment:
    """The pages' templates; what is put into HTML is escaped."""
    return Environment(
        loader=PackageLoader("pulse.report", "."),
        autoescape=lambda name: name is None or name.endswith(".html"),
        undefined=StrictUndefined,
    )


@dataclass
class Page:
    """A report over the faces of some runs.

    Attributes:
        runs: in the order of their making; later records replace earlier ones.
        path: the file to write.
        embed: whether the pictures go into the page, instead of links to where they are.
        summary: how the faces stand, filled in while the page is written.
    """

    runs: Sequence[Run]
    path: Path
    embed: bool = False
    summary: Summary = field(default_factory=Summary)
    _embedded_bytes: int = 0

    def write(self) -> None:
        """Write the page.

        Raises:
            PulseError: if a journal or a picture cannot be read, the page cannot be written or is
                a file of other making, or too much is to be embedded.
        """
        if self.path.exists() and _mark_of(self.path) is None:
            raise PulseError(
                f"{printable_path(self.path)} is there and is no report of PULSE; choose another "
                "file with -o"
            )
        pieces = (
            template_environment()
            .get_template(TEMPLATE)
            .stream(
                mark=self.mark(),
                version=pulse.__version__,
                stops=[f"rgb({r}, {g}, {b})" for r, g, b in SCALE],
                scale_top=TOP_IN_WORDS,
                runs=_json([self._run_row(run) for run in self.runs]),
                faces=self._face_rows(),
            )
        )
        pieces.enable_buffering(64)
        write_pieces_atomically(self.path, (piece.encode() for piece in pieces))

    def mark(self) -> str:
        """What tells whether a page was made by this version from these runs' settings."""
        template = [(Path(__file__).parent / part).read_text() for part in TEMPLATE_PARTS]
        runs = [[self._relative(run.path), run.settings] for run in self.runs]
        content = json.dumps([pulse.__version__, template, runs, self.embed], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def is_current(self) -> bool:
        """Whether the page is there, and nothing was recorded since it was written."""
        try:
            written = self.path.stat().st_mtime_ns
            recorded = max((run.path / JOURNAL_NAME).stat().st_mtime_ns for run in self.runs)
        except OSError:
            return False
        return written >= recorded and _mark_of(self.path) == self.mark()

    def _relative(self, path: Path) -> str:
        """A path as the page links to it."""
        return Path(os.path.relpath(path, self.path.parent)).as_posix()

    def _run_row(self, run: Run) -> dict[str, Any]:
        settings = run.settings
        return {
            "folder": self._relative(run.path),
            "options": run.options,
            "tolerance": run.tolerance,
            "generator": settings["generator"],
            "sha256": settings["generator_sha256"],
            "needsFile": run.needs_file,
            "kernel": settings["face"]["kernel"],
            "seed": settings["seed"],
        }

    def _face_rows(self) -> Iterator[str]:
        """Each face as one line of JSON."""
        places = {
            run.path: (number, self._relative(run.path)) for number, run in enumerate(self.runs)
        }
        source = None
        for known in faces_of(self.runs):
            self.summary.pictures += known[0].record.source != source
            source = known[0].record.source
            self.summary.add(record for _, record in known)
            yield _json(self._face_row(known, places))

    def _face_row(
        self, known: Sequence[Known], places: dict[Path, tuple[int, str]]
    ) -> dict[str, Any]:
        """What the page's script reads of one face; empty values are left out.

        Links without a slash are of files in the face's folder.
        """
        run, last = max(known, key=lambda item: places[item.run.path][0])  # the latest run
        number, place = places[run.path]
        name = name_of(last)
        home = f"{run.path}/{name}"
        shown = [record for _, record in known if record.output]
        # candidates from the folders of several runs are on no strip or map together
        is_together = all(its_run is run for its_run, _ in known)
        names = _names_in(home) if shown else set()
        comparisons = names if is_together else set()
        is_one_of_several = (last.faces or 1) > 1
        row = {
            "name": printable(name),
            "folder": name if place == "." else f"{place}/{name}",
            "source": last.source,
            "run": number,
            "status": _status_of(known),
            "face": last.face if is_one_of_several else None,
            "faces": last.faces if is_one_of_several else None,
            "px": last.low_res_px,
            "earlier": last.run_id != run.run_id,
            "input": self._link(home, LOW_RES_NAME, names),
            "again": self._link(home, DOWNSCALED_NAME, comparisons),
            # of one candidate there may be a map of an earlier run with more of them
            "map": self._link(home, DISAGREEMENT_NAME, comparisons) if len(shown) > 1 else None,
            "candidates": [
                self._candidate(record, home, names)
                if its_run is run
                else self._candidate_elsewhere(record, its_run, places[its_run.path][1])
                for its_run, record in known
                if record.candidate
            ],
            "reason": None if shown else last.reason,
            "notes": list(dict.fromkeys(note for _, record in known for note in record.notes)),
        }
        return {
            key: value
            for key, value in row.items()
            if value is not None and value is not False and value != []
        }

    def _candidate(self, record: Record, home: str, names: set[str]) -> list[Any]:
        """Number, error, steps, whether the tolerance was met, picture."""
        name = (record.output or "").rpartition("/")[2]
        link = self._link(home, name, names)
        return [record.candidate, record.error, record.steps, record.status == "saved", link]

    def _candidate_elsewhere(self, record: Record, run: Run, place: str) -> list[Any]:
        """The same of a candidate in another run's folder than the face's last."""
        home = f"{run.path}/{name_of(record)}"
        *values, link = self._candidate(record, home, _names_in(home))
        is_name = link is not None and not self.embed
        return [*values, f"{place}/{name_of(record)}/{link}" if is_name else link]

    def _link(self, folder: str, name: str, names: set[str]) -> str | None:
        """How the page gets at a picture; None where it is not there."""
        if name not in names:
            return None
        if not self.embed:
            return name
        path = Path(folder, name)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise PulseError(f"cannot read {printable_path(path)}: {error.strerror}") from error
        self._embedded_bytes += len(data)
        if self._embedded_bytes > MOST_EMBEDDED_BYTES:
            raise PulseError(
                f"the pictures are more than the {MOST_EMBEDDED_BYTES // 10**6} MB that browsers "
                "open in one page; leave --embed out, or name fewer runs"
            )
        return f"data:{MIME[path.suffix]};base64,{base64.b64encode(data).decode()}"


def report_on_run(out: Path) -> Path | None:
    """Write a run's page into its folder, unless it is there and current.

    Returns:
        The page; None if the run recorded nothing.

    Raises:
        PulseError: as for `Page.write`.
    """
    if not (out / JOURNAL_NAME).exists() or not (out / RUN_NAME).exists():
        return None
    page = Page([Run.open(out)], out / REPORT_NAME)
    if not page.is_current():
        page.write()
    return page.path


def _status_of(known: Sequence[Known]) -> str:
    """Of a face: that of the candidate that fits best, or why there is none."""
    statuses = {record.status for _, record in known}
    best = ("saved", "above-tolerance", "no-face", "failed")
    return next(status for status in best if status in statuses)


def _names_in(folder: str) -> set[str]:
    try:
        return {entry.name for entry in os.scandir(folder)}
    except OSError:
        return set()


def _mark_of(path: Path) -> str | None:
    """The mark of a page; None if the file is no page of ours."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES).decode(errors="replace")
    except OSError:
        return None
    _, found, rest = head.partition(MARK)
    return rest.partition('"')[0] if found else None


def _json(value: Any) -> str:  # noqa: ANN401 (JSON)
    """JSON in ASCII that can stand in a script element."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
