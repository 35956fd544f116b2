"""What `pulse report` does once its options are read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from pulse.batch.journal import REPORT_NAME
from pulse.cli.summary_text import standing_as_json, standing_as_text
from pulse.report.page import Page
from pulse.report.runs import Run


def report_on(runs: Sequence[Path], page: Path | None, *, embed: bool, as_json: bool) -> None:
    """Write the page over some runs, and tell how their faces stand.

    Raises:
        PulseError: if a run cannot be read or the page cannot be written.
    """
    opened = [Run.open(path) for path in dict.fromkeys(runs)]
    if page is None:
        page = opened[0].path / REPORT_NAME if len(opened) == 1 else Path(REPORT_NAME)
    report = Page(opened, page, embed)
    report.write()
    if as_json:
        told = {"report": str(page), "runs": [str(run.path) for run in opened]}
        click.echo(json.dumps(told | standing_as_json(report.summary)))
    else:
        click.echo(standing_as_text(report.summary, page))
