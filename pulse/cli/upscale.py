"""What `pulse upscale` and `pulse demo` do once their options are read."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from types import TracebackType

import click
from tqdm import tqdm

from pulse.batch.journal import Record
from pulse.batch.runner import Runner, Summary, Watcher
from pulse.cli.bars import show_on
from pulse.cli.exit_status import INTERRUPTED
from pulse.cli.options import Output, Where
from pulse.files import printable_path
from pulse.pretrained import Pretrained, load_generator
from pulse.search.descent import Progress
from pulse.settings import UpscaleSettings

NO_SUCH_PERSON = "These faces are imagined: nobody in them exists."
NO_PICTURES = (
    "There is no picture in the inputs: no PNG, JPEG, WebP, BMP, TIFF or HEIC file, output of "
    "earlier runs left out."
)
BAR = "{desc} |{bar}| {percentage:.0f}%, {elapsed} gone, {remaining} left{postfix}"


def run_upscale(
    inputs: Sequence[Path], out: Path, method: UpscaleSettings, where: Where, output: Output
) -> bool:
    """Run, tell how it went, and return whether every picture has its candidates.

    Raises:
        PulseError: if the run could not go on.
        Exit: after Ctrl-C, once it is said how to go on.
    """
    generator = load(where)
    with Display(output, method.candidates) as display:
        runner = Runner(out, generator, method, output.run, display.watcher())
        try:
            summary = runner.run(inputs)
        except KeyboardInterrupt:
            display.close()
            click.echo(
                f"pulse: interrupted; {_count(runner.summary.faces, 'face')} of this run whole in "
                f"'{out}'; the same command goes on from there",
                err=True,
            )
            raise click.exceptions.Exit(INTERRUPTED) from None
    if output.as_json:
        click.echo(json.dumps(summary_as_json(summary, out)))
    elif output.verbose is not False:
        click.echo(summary_as_text(summary, out))
    return summary.is_complete


def plan_only(
    inputs: Sequence[Path], out: Path, method: UpscaleSettings, where: Where, output: Output
) -> None:
    """Say what a run would do."""
    generator = load(where)
    planned = Runner(out, generator, method, output.run).plan(inputs)
    if output.as_json:
        rows = [
            {"source": p.source.key, "folder": str(p.folder), "done": p.is_done} for p in planned
        ]
        click.echo(json.dumps({"out": str(out), "pictures": rows}))
        return
    for p in planned:
        state = "done" if p.is_done else "to do"
        click.echo(f"{state}  {printable_path(p.source.path)} -> {printable_path(out / p.folder)}")
    to_do = sum(not p.is_done for p in planned)
    pictures, candidates = _count(len(planned), "picture"), _count(method.candidates, "candidate")
    click.echo(f"{to_do} of {pictures} to do, {candidates} a face.")


def load(where: Where) -> Pretrained:
    """Load the generator; a bar is shown where its prior has to be fitted first."""
    with tqdm(unit=" styles", desc="fitting the prior", disable=None, delay=1) as bar:
        return load_generator(where.generator, where.device, where.class_index, show_on(bar))


def demo_folder() -> Path:
    """The pictures that come with PULSE: in the installed package, else in the repository."""
    installed = Path(str(files("pulse"))) / "demo"
    return installed if installed.exists() else Path(__file__).parents[2] / "tests/data/low_res"


class Display:
    """The progress bar and the lines beside it, on stderr.

    Quiet where stderr is not a terminal, but for warnings and failures. The bar counts a face that
    is being searched for by the steps it has taken, so that the time left is known from the first
    steps on and not only once the first batch is written.

    Args:
        output: how much to tell.
        candidates: asked for, of each face.
    """

    def __init__(self, output: Output, candidates: int) -> None:
        self.verbose = output.verbose
        self.candidates = candidates
        self.done = 0  # faces, and pictures without one
        self.is_recorded = False  # whether this run did something since the last of them
        is_hidden = output.verbose is False or not sys.stderr.isatty()
        self.bar = tqdm(
            total=0, desc="reading", bar_format=BAR, smoothing=0, disable=is_hidden, file=sys.stderr
        )

    def watcher(self) -> Watcher:
        """What the runner calls."""
        return Watcher(
            on_total=self._set_total,
            on_faces=lambda count: self._set_total(int(self.bar.total or 0) + count - 1),
            on_step=self._show_step,
            on_record=self._show_record,
            on_face_done=self._advance,
            on_warning=self._say,
        )

    def _set_total(self, total: int) -> None:
        self.bar.total = total
        self._move_to(self.done)

    def _advance(self) -> None:
        self.done += 1
        if not self.is_recorded and not self.bar.disable:
            self.bar.initial += 1  # done by an earlier run: it says nothing of this one's pace
        self.is_recorded = False
        self._move_to(self.done)

    def _move_to(self, faces: float) -> None:
        """Show how far the run is; the bar never goes back."""
        self.bar.n = max(self.bar.n, faces)
        self.bar.set_description_str(f"{self.done} of {_count(int(self.bar.total or 0), 'face')}")

    def _show_step(self, progress: Progress) -> None:
        error = progress.errors.median().item()
        text = f"error {error:.2g}, step {progress.step}/{progress.steps}"
        self.bar.set_postfix_str(text, refresh=False)
        searched = len(progress.errors) / self.candidates
        self._move_to(self.done + searched * progress.step / progress.steps)

    def _show_record(self, record: Record) -> None:
        self.is_recorded = True
        if record.status in ("failed", "no-face"):
            name = printable_path(Path(record.source))
            self._say(record.reason if record.status == "failed" else f"{name}: {record.reason}")
        elif self.verbose:
            self._say(f"{record.status}: {record.output}, error {record.error:.2g}")

    def _say(self, text: str | None) -> None:
        if self.verbose is not False or not self.bar.disable:
            self.bar.clear()
        click.echo(text, err=True)
        self.bar.refresh()

    def close(self) -> None:
        """End the bar."""
        self.bar.close()

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()


def summary_as_json(summary: Summary, out: Path) -> dict[str, object]:
    """The summary as one object."""
    errors = summary.errors
    return {
        "out": str(out),
        "pictures": summary.pictures,
        "done_before": summary.done_before,
        "counts": dict(summary.counts),
        "median_error": statistics.median(errors) if errors else None,
        "worst_error": max(errors, default=None),
        "faces_searched": summary.faces,
        "seconds": round(summary.seconds, 1),
    }


def summary_as_text(summary: Summary, out: Path) -> str:
    """The summary in a few lines."""
    if not summary.pictures:
        return NO_PICTURES
    counts = summary.counts
    lines = []
    if summary.done_before:
        lines.append(
            f"{summary.done_before} of {_count(summary.pictures, 'picture')} done before; "
            "left as is."
        )
    candidates = counts["saved"] + counts["above-tolerance"]
    if candidates:
        lines.append(
            f"{_count(candidates, 'candidate')}: {counts['saved']} within the tolerance, "
            f"{counts['above-tolerance']} above it; median error "
            f"{statistics.median(summary.errors):.2g}, worst {max(summary.errors):.2g}."
        )
    if summary.faces:
        pace = summary.seconds / summary.faces
        faces = _count(summary.faces, "face")
        lines.append(f"{faces} searched in {summary.seconds:.0f} s, {pace:.1f} s a face.")
    for count, words in ((counts["no-face"], "without a face"), (counts["failed"], "failed")):
        if count:
            lines.append(f"{count} {words}; the journal says why.")
    lines.append(f"Pictures are in '{out}'; start with a sheet.png. {NO_SUCH_PERSON}")
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    """A number and its noun: "1 face", "2 faces"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
