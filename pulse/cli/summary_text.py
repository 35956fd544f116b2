"""How a run went, in words and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from pulse.batch.summary import Extreme, Summary

NO_SUCH_PERSON = "These faces are imagined: nobody in them exists."
NO_PICTURES = (
    "There is no picture in the inputs: no PNG, JPEG, WebP, BMP, TIFF or HEIC file, output of "
    "earlier runs left out."
)


def summary_as_json(summary: Summary, out: Path, *, interrupted: bool = False) -> dict[str, object]:
    """The summary as one object."""
    errors = summary.errors
    return {
        "out": str(out),
        "interrupted": interrupted,
        "pictures": summary.pictures,
        "done_before": summary.done_before,
        "other_shards": summary.passed_over,
        "counts": dict(summary.counts),
        "median_error": statistics.median(errors) if errors else None,
        "worst_error": max(errors, default=None),
        "faces_searched": summary.faces,
        "seconds": round(summary.seconds, 1),
        "worst_faces": _extremes(summary.worst, "error"),
        "slowest_faces": _extremes(summary.slowest, "seconds"),
    }


def _extremes(extremes: Sequence[Extreme], unit: str) -> list[dict[str, object]]:
    return [{"face": extreme.name, unit: extreme.value} for extreme in extremes]


def summary_as_text(summary: Summary, out: Path) -> str:
    """The summary in a few lines."""
    if not summary.pictures and not summary.passed_over:
        return NO_PICTURES
    counts = summary.counts
    lines = []
    if summary.done_before:
        lines.append(
            f"{summary.done_before} of {count(summary.pictures, 'picture')} done before; "
            "left as is."
        )
    if summary.passed_over:
        lines.append(f"{count(summary.passed_over, 'picture')} left to other shards.")
    candidates = counts["saved"] + counts["above-tolerance"]
    if candidates:
        lines.append(
            f"{count(candidates, 'candidate')}: {counts['saved']} within the tolerance, "
            f"{counts['above-tolerance']} above it; median error "
            f"{statistics.median(summary.errors):.2g}, worst {max(summary.errors):.2g}."
        )
    if summary.faces:
        pace = summary.seconds / summary.faces
        faces = count(summary.faces, "face")
        lines.append(f"{faces} searched in {summary.seconds:.0f} s, {pace:.1f} s a face.")
    if counts["above-tolerance"]:
        names = ", ".join(f"{worst.name} ({worst.value:.2g})" for worst in summary.worst)
        lines.append(f"Fit least: {names}.")
    if summary.faces > len(summary.slowest):
        names = ", ".join(f"{slow.name} ({slow.value:.1f} s)" for slow in summary.slowest)
        lines.append(f"Took longest: {names}.")
    for number, words in ((counts["no-face"], "without a face"), (counts["failed"], "failed")):
        if number:
            lines.append(f"{number} {words}; the journal says why.")
    lines.append(f"Pictures are in '{out}'; start with a sheet.png. {NO_SUCH_PERSON}")
    return "\n".join(lines)


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A number and its noun: "1 face", "2 faces"."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"
