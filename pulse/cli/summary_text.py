"""How a run went, in words and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import click

from pulse.batch.journal import Status
from pulse.batch.summary import Extreme, Summary

NO_SUCH_PERSON = "These faces are imagined: nobody in them exists."
NO_PICTURES = (
    "There is no picture in the inputs: no PNG, JPEG, WebP, BMP, TIFF or HEIC file, output of "
    "earlier runs left out."
)
LABEL_WIDTH = 14


class Row(NamedTuple):
    """How a status stands in the table: its words, its colour, and whether it is always told."""

    words: str
    colour: str
    is_usual: bool


ROWS: dict[Status, Row] = {
    "saved": Row("within the tolerance", "green", True),
    "above-tolerance": Row("above the tolerance", "yellow", True),
    "no-face": Row("without a face", "red", False),
    "failed": Row("failed", "red", False),
}


def summary_as_json(
    summary: Summary, out: Path, page: Path | None = None, *, interrupted: bool = False
) -> dict[str, object]:
    """The summary of a run as one object."""
    return {
        "out": str(out),
        "report": str(page) if page else None,
        "interrupted": interrupted,
        "done_before": summary.done_before,
        "other_shards": summary.passed_over,
        **standing_as_json(summary),
        "faces_searched": summary.faces,
        "seconds": round(summary.seconds, 1),
        "slowest_faces": _extremes(summary.slowest, "seconds"),
    }


def standing_as_json(summary: Summary) -> dict[str, object]:
    """What does not depend on when it was done."""
    errors = summary.errors
    return {
        "pictures": summary.pictures,
        "counts": dict(summary.counts),
        "median_error": statistics.median(errors) if errors else None,
        "worst_error": max(errors, default=None),
        "worst_faces": _extremes(summary.worst, "error"),
    }


def _extremes(extremes: Sequence[Extreme], unit: str) -> list[dict[str, object]]:
    return [{"face": extreme.name, unit: extreme.value} for extreme in extremes]


def summary_as_text(summary: Summary, out: Path, page: Path | None = None) -> str:
    """The summary of a run as a small table and a few lines; colours are for terminals."""
    if not summary.pictures and not summary.passed_over:
        return NO_PICTURES
    lines = [*_table(summary)]
    if summary.done_before:
        pictures = count(summary.pictures, "picture")
        lines.append(_line("Done before", f"{summary.done_before} of {pictures}; left as is"))
    if summary.passed_over:
        lines.append(_line("Other shards", count(summary.passed_over, "picture")))
    if summary.faces:
        pace = f"{summary.seconds / summary.faces:.1f} s a face"
        faces = count(summary.faces, "face")
        lines.append(_line("Time", f"{faces} in {summary.seconds:.0f} s, {pace}"))
    if summary.faces > len(summary.slowest) > 0:
        lines.append(_line("Took longest", _names(summary.slowest, ".1f", " s")))
    return "\n".join([*lines, *_worst(summary), _line("Look at", str(page or out)), NO_SUCH_PERSON])


def standing_as_text(summary: Summary, page: Path) -> str:
    """What does not depend on when it was done, as `summary_as_text`."""
    lines = [*_table(summary), _line("Inputs", count(summary.pictures, "picture"))]
    return "\n".join([*lines, *_worst(summary), _line("Look at", str(page)), NO_SUCH_PERSON])


def _table(summary: Summary) -> Iterator[str]:
    """A line for each status, its figures below one another."""
    width = max(len(f"{number:,}") for number in [*summary.counts.values(), 0])
    for status, row in ROWS.items():
        number = summary.counts[status]
        if not number and not row.is_usual:
            continue
        figure = f"{number:,}".rjust(width)
        figure = click.style(figure, fg=row.colour if number else None, bold=bool(number))
        errors = summary.errors_by_status.get(status)
        told = "the journal says why" if not row.is_usual else ""
        if errors:
            told = f"median error {statistics.median(errors):<8.2g} largest {max(errors):.2g}"
        told = f"{row.words:<22}{click.style(told, dim=True)}" if told else row.words
        yield f"{figure}  {told}"
    yield ""


def _worst(summary: Summary) -> Iterator[str]:
    if summary.counts["above-tolerance"]:
        yield _line("Fit least", _names(summary.worst, ".2g", ""))


def _names(extremes: Sequence[Extreme], format_: str, unit: str) -> str:
    return ", ".join(f"{extreme.name} ({extreme.value:{format_}}{unit})" for extreme in extremes)


def _line(label: str, text: str) -> str:
    return f"{click.style(label.ljust(LABEL_WIDTH), dim=True)}{text}"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A number and its noun: "1 face", "2 faces"."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"
