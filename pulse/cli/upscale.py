"""What `pulse upscale` and `pulse demo` do once their options are read."""

from __future__ import annotations

import json
import math
import shlex
import signal
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import FrameType, TracebackType

import click
from tqdm import tqdm

from pulse.batch.journal import JOURNAL_NAME, Record
from pulse.batch.runner import Runner
from pulse.batch.searcher import SearcherFactory
from pulse.batch.watcher import Watcher
from pulse.cli.bars import show_on
from pulse.cli.exit_status import INTERRUPTED
from pulse.cli.options import Output, Where
from pulse.cli.summary_text import count, summary_as_json, summary_as_text
from pulse.errors import PulseError
from pulse.files import printable_path
from pulse.pretrained import Pretrained, load_generator
from pulse.search.slots import Progress
from pulse.settings import UpscaleSettings

QUICK_JOURNAL_BYTES = 4_000_000  # some 6,000 records, a page of half a second
SHOW_EVERY_S = 0.1  # a folder that is done already would write thousands of bars a second
BAR = "{desc} |{bar}| {percentage:.0f}%, {elapsed} gone, {remaining} left{postfix}"


def run_upscale(
    inputs: Sequence[Path], out: Path, method: UpscaleSettings, where: Where, output: Output
) -> bool:
    """Run, tell how it went, and return whether every picture has its candidates.

    Raises:
        PulseError: if the run could not go on.
        Exit: after Ctrl-C or a request to end, once it is said how to go on.
    """
    searcher = searcher_of(where)
    searches_by = method.search.method
    # with workers the driver only keeps the books: no device for it, and no bank to search with
    where = replace(where, device="cpu") if searcher else where
    generator = load(
        where,
        with_bank=searches_by != "descent" and searcher is None,
        with_head=searches_by == "posterior",
    )
    if (
        searches_by == "mixing"
        and not generator.network.has_mapping
        and output.verbose is not False
    ):
        click.echo(
            f"pulse: {generator.name} has no mapping network to draw samples from: the published "
            "descent is used, which is slower", err=True,
        )  # fmt: skip
    with Display(output, method.candidates) as display, ends_like_ctrl_c():
        runner = Runner(out, generator, method, output.run, display.watcher(), searcher)
        try:
            summary = runner.run(inputs)
        except KeyboardInterrupt:
            display.close()
            faces = count(runner.summary.faces, "face")
            say_how_to_go_on(f"interrupted; {faces} of this run whole in '{out}'")
            page = report_page(out, output, is_hurried=True)
            if output.as_json:
                told = summary_as_json(runner.summary, out, page, interrupted=True)
                click.echo(json.dumps(told))
            raise click.exceptions.Exit(INTERRUPTED) from None
        except PulseError:
            display.close()
            if runner.summary.faces:
                faces = count(runner.summary.faces, "face")
                say_how_to_go_on(f"{faces} of this run whole in '{out}'")
            raise
    page = report_page(out, output)
    if output.as_json:
        click.echo(json.dumps(summary_as_json(summary, out, page)))
    elif output.verbose is not False:
        click.echo(summary_as_text(summary, out, page))
    return summary.is_complete


def report_page(out: Path, output: Output, *, is_hurried: bool = False) -> Path | None:
    """Bring the report page up to date, if it is wanted; None where there is none.

    Args:
        out: the output folder.
        output: what is wanted.
        is_hurried: somebody waits for the program to end: no page then that takes long.

    Raises:
        PulseError: if it cannot be written.
    """
    from pulse.report.page import report_on_run

    journal = out / JOURNAL_NAME
    is_long = is_hurried and journal.exists() and journal.stat().st_size > QUICK_JOURNAL_BYTES
    return report_on_run(out) if output.report and not is_long else None


def say_how_to_go_on(state: str) -> None:
    """Tell how a run stands that did not end, and the command that ends it."""
    click.echo(f"pulse: {state}; to go on: {shlex.join(['pulse', *sys.argv[1:]])}", err=True)


@contextmanager
def ends_like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM, which batch systems send before they kill, end a run as Ctrl-C does."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # only the main thread may; elsewhere SIGTERM keeps its meaning
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def plan_only(
    inputs: Sequence[Path], out: Path, method: UpscaleSettings, where: Where, output: Output
) -> None:
    """Say what a run would do."""
    generator = load(where, with_bank=False)
    planned = Runner(out, generator, method, output.run).plan(inputs)
    if output.as_json:
        rows = [
            {"source": p.source.key, "folder": str(p.folder), "done": p.is_done} for p in planned
        ]
        click.echo(json.dumps({"out": str(out), "pictures": rows}))
        return
    pictures = to_do = 0
    for p in planned:
        state = "done" if p.is_done else "to do"
        click.echo(f"{state}  {printable_path(p.source.path)} -> {printable_path(out / p.folder)}")
        pictures, to_do = pictures + 1, to_do + (not p.is_done)
    candidates = count(method.candidates, "candidate")
    click.echo(f"{to_do} of {count(pictures, 'picture')} to do, {candidates} a face.")


def searcher_of(where: Where) -> SearcherFactory | None:
    """What searches: None for this process, else the workers asked for."""
    if where.workers is None and where.ray is None:
        return None
    from pulse.batch.ray_pool import RayPool

    return RayPool.factory(where.ray, where.workers, where.device)


def load(where: Where, *, with_bank: bool, with_head: bool = False) -> Pretrained:
    """Load the generator; bars are shown for what has to be made first."""
    with (
        tqdm(unit=" styles", desc="fitting the prior", disable=None, delay=1) as styles,
        tqdm(unit=" samples", desc="drawing the bank", disable=None, delay=1) as samples,
        tqdm(unit="", desc="training the head", disable=None, delay=1) as head,
    ):
        return load_generator(
            where.generator, where.device, where.class_index, show_on(styles), show_on(samples),
            with_bank=with_bank, with_head=with_head, on_head=show_on(head),
        )  # fmt: skip


def demo_folder() -> Path:
    """The pictures that come with PULSE: in the installed package, else in the repository."""
    installed = Path(str(files("pulse"))) / "demo"
    return installed if installed.exists() else Path(__file__).parents[2] / "tests/data/low_res"


class Display:
    """The progress bar and the lines beside it, on stderr.

    Quiet where stderr is not a terminal, but for warnings and failures. Nobody knows beforehand how
    many steps a search takes; few use up all that they may. So there is no time left before the
    first searches have ended, and from then on a face in progress counts by the steps it has taken
    of those that searches took.

    Args:
        output: how much to tell.
        candidates: asked for, of each face.
    """

    def __init__(self, output: Output, candidates: int) -> None:
        self.verbose = output.verbose
        self.candidates = candidates
        self.done = 0  # faces, and pictures without one
        self.is_recorded = False  # whether this run did something since the last of them
        self.searches = self.steps = 0  # that ended in this run, and what they took together
        self.shown_s = 0.0  # when the bar was shown last
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
        text = f"{self.done} of {count(int(self.bar.total or 0), 'face')}"
        self.bar.set_description_str(text, refresh=False)
        if time.monotonic() - self.shown_s >= SHOW_EVERY_S:
            self.bar.refresh()
            self.shown_s = time.monotonic()

    def _show_step(self, progress: Progress) -> None:
        if not progress.errors:
            return
        searches = count(progress.active, "search", "searches")
        text = f"error {statistics.median(progress.errors):.2g}, {searches}"
        self.bar.set_postfix_str(text, refresh=False)
        usual = self.steps / self.searches if self.searches else math.inf
        shares = [min(1.0, taken / usual) for taken in progress.taken]
        self._move_to(self.done + sum(shares) / self.candidates)

    def _show_record(self, record: Record) -> None:
        self.is_recorded = True
        if record.steps:
            self.searches, self.steps = self.searches + 1, self.steps + record.steps
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
