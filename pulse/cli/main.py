"""The command group: `pulse upscale`, `demo`, `report`, `align`, `audit`, `info`, `weights`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

import pulse
from pulse.cli.exit_status import INTERRUPTED, SOME_FAILED, STOPPED
from pulse.cli.options import (
    ExistingFile,
    Output,
    Where,
    face_options,
    method_options,
    output_options,
    where_options,
)
from pulse.cli.weights import weights
from pulse.errors import PulseError
from pulse.memory import keep_freed_memory
from pulse.settings import FaceSettings, UpscaleSettings

InputPath = click.Path(path_type=Path)


EXAMPLES = """\b
Examples:
  pulse demo                             try it on the pictures that come along
  pulse upscale face.png                 four faces that fit, in pulse-out/
  pulse upscale scans/ -o faces -n 8     a folder with all below it; again to go on
  pulse report faces                     the page to look at them, once more

\b
Completion of commands and options, for bash (zsh and fish likewise):
  eval "$(_PULSE_COMPLETE=bash_source pulse)"
"""
UPSCALE_EXAMPLES = """\b
Examples:
  pulse upscale face.png
  pulse upscale photo.jpg scans/ -o faces --seed 7
  pulse upscale scans/ --generator my-generator.pkl --tolerance 0.002
  pulse upscale scans/ -o part-2 --shard 2/8     one of eight machines
"""
DEMO_EXAMPLES = """\b
Examples:
  pulse demo
  pulse demo -n 2 --seed 1 -o other-faces
"""
ALIGN_EXAMPLES = """\b
Examples:
  pulse align photos/ -o faces
  pulse align photo.jpg -o faces --low-res 16 --faces largest
"""
AUDIT_EXAMPLES = """\b
Examples:
  pulse audit photographs/ --labels labels.csv --group ethnicity -o audit
  pulse audit photographs/ --low-res 8 --method descent -o audit     adds to the same page
  pulse audit --samples 2000 -o audit                                the generator alone
  pulse audit --calibration -o calibration                           are answers in proportion?
"""
INFO_EXAMPLES = """\b
Examples:
  pulse info pulse-out/face/candidate-01.png
  pulse info pulse-out/face/candidate-01.png photo.jpg --json
"""
REPORT_EXAMPLES = """\b
Examples:
  pulse report pulse-out
  pulse report part-1 part-2 part-3 -o report.html
  pulse report pulse-out --embed -o to-send.html
"""


class PulseGroup(click.Group):
    """Turns what went wrong into one line on stderr and a true exit status."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 (click's signature)
        """Run the command."""
        try:
            return super().invoke(ctx)
        except PulseError as error:
            click.echo(f"pulse: {error}", err=True)
            ctx.exit(STOPPED)
        except KeyboardInterrupt:
            click.echo("pulse: interrupted", err=True)
            ctx.exit(INTERRUPTED)


@click.group(
    cls=PulseGroup, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(pulse.__version__, prog_name="pulse")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Imagine high-resolution faces that downscale to the low-resolution one you have.

    There is never one answer: PULSE shows several, says how well each fits, and where they
    disagree. Nobody in its pictures exists.
    """
    if os.environ.get("NO_COLOR"):  # as https://no-color.org asks
        ctx.color = False
    keep_freed_memory()


@main.command(epilog=UPSCALE_EXAMPLES)
@click.argument("inputs", nargs=-1, required=True, type=InputPath, metavar="INPUT...")
@click.option("-o", "--out", type=InputPath, default=Path("pulse-out"), show_default=True,
              help="Output folder; a later run with the same settings goes on there.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@output_options
@where_options(with_workers=True)
@method_options
@click.pass_context
def upscale(ctx: click.Context, inputs: tuple[Path, ...], out: Path, dry_run: bool,
            method: UpscaleSettings, where: Where, output: Output) -> None:  # fmt: skip
    """Imagine faces for every picture of files and folders (with all folders below them).

    Exit status: 0 all saved, 1 could not go on, 2 wrong usage, 3 some pictures have no face or
    could not be read.
    """
    from pulse.cli.upscale import plan_only, run_upscale

    if dry_run:
        plan_only(inputs, out, method, where, output)
        return
    is_complete = run_upscale(inputs, out, method, where, output)
    ctx.exit(0 if is_complete else SOME_FAILED)


@main.command(epilog=DEMO_EXAMPLES)
@click.option("-o", "--out", type=InputPath, default=Path("pulse-demo"), show_default=True,
              help="Output folder.")  # fmt: skip
@output_options
@where_options(with_workers=True)
@method_options
@click.pass_context
def demo(ctx: click.Context, out: Path, method: UpscaleSettings, where: Where,
         output: Output) -> None:  # fmt: skip
    """Imagine faces for the dozen 16x16 pictures that come with PULSE."""
    from pulse.cli.upscale import demo_folder, run_upscale

    is_complete = run_upscale((demo_folder(),), out, method, where, output)
    ctx.exit(0 if is_complete else SOME_FAILED)


@main.command(epilog=REPORT_EXAMPLES)
@click.argument("runs", nargs=-1, required=True, type=InputPath, metavar="RUN...")
@click.option(
    "-o",
    "--out",
    type=InputPath,
    metavar="FILE",
    help="The page; default: report.html in the run's folder, or here for several runs.",
)
@click.option("--embed", is_flag=True, help="Put the pictures into the page, to send it alone.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def report(runs: tuple[Path, ...], out: Path | None, embed: bool, as_json: bool) -> None:
    """Write a page to look at everything in a browser, over one output folder or several.

    Several are taken as parts of one run, such as those of --shard: of the same picture, face and
    candidate the later folder's counts.
    """
    from pulse.cli.report import report_on

    report_on(runs, out, embed=embed, as_json=as_json)


@main.command(epilog=ALIGN_EXAMPLES)
@click.argument("inputs", nargs=-1, required=True, type=InputPath, metavar="INPUT...")
@click.option("-o", "--out", type=InputPath, required=True, help="Output folder.")
@click.option("--size", type=click.IntRange(min=1), default=1024, show_default=True,
              help="Pixels a side of the aligned face.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Write over faces that are there.")
@face_options(for_align=True)
@click.pass_context
def align(ctx: click.Context, inputs: tuple[Path, ...], out: Path, size: int, overwrite: bool,
          face: FaceSettings) -> None:  # fmt: skip
    """Cut faces out of photographs, upright and centred as in the FFHQ data set.

    With --low-res N each face is also reduced to N pixels, by the operator that the search uses.
    """
    from pulse.batch.align import align_pictures
    from pulse.cli.summary_text import NO_PICTURES

    lines = failures = 0
    for line in align_pictures(inputs, out, size, face, overwrite=overwrite):
        lines += 1
        failures += line.is_failure
        click.echo(line.text, err=line.is_failure)
    if not lines:
        click.echo(NO_PICTURES)
    ctx.exit(SOME_FAILED if failures else 0)


@main.command(epilog=AUDIT_EXAMPLES)
@click.argument("folder", required=False, type=InputPath, metavar="[FOLDER]")
@click.option("--labels", type=ExistingFile, metavar="CSV",
              help="What people say of themselves: a column 'file' and others; default: "
              "labels.csv in the folder.")  # fmt: skip
@click.option("--group", metavar="COLUMN", help="Column to compare people by.")
@click.option("-o", "--out", type=InputPath, default=Path("pulse-audit"), show_default=True,
              help="Output folder; audits of other sizes and methods are added there.")  # fmt: skip
@click.option("--samples", type=click.IntRange(min=0), default=0, show_default=True,
              help="Also measure so many samples of the generator alone.")  # fmt: skip
@click.option("--attribute", metavar="FILE.py:NAME",
              help="Your own function of a picture, (H, W, 3) uint8, to a word: whom the answers "
              "show is also counted by it.")  # fmt: skip
@click.option("--calibration", is_flag=True,
              help="Check by simulation whether answers come in proportion; the method is "
              "'posterior' unless --method says otherwise, -n 31 unless it is given.")  # fmt: skip
@click.option("--draws", type=click.IntRange(min=1), default=200, show_default=True,
              help="Of --calibration: faces drawn from the prior.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Of --calibration: print the tests as JSON.")
@where_options(with_workers=False)
@method_options
def audit(folder: Path | None, labels: Path | None, group: str | None, out: Path, samples: int,
          attribute: str | None, calibration: bool, draws: int, as_json: bool,
          method: UpscaleSettings, where: Where) -> None:  # fmt: skip
    """Measure for whom it works less well, by what people say of themselves.

    Photographs are reduced (to 16 px, or --low-res), upscaled, and held against what was found:
    likeness, tone of skin, whom the answers show, each by group and with intervals. Nobody's group
    is ever guessed.
    """
    from pulse.cli.audit import Asked, run_audit, run_calibration

    if calibration:
        run_calibration(draws, out, method, where, as_json=as_json)
        return
    run_audit(Asked(folder, labels, group, samples, attribute, out), method, where)


@main.command(epilog=INFO_EXAMPLES)
@click.argument("files", nargs=-1, required=True, type=InputPath, metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@click.pass_context
def info(ctx: click.Context, files: tuple[Path, ...], as_json: bool) -> None:
    """Say where pictures came from, from PULSE or not: made by whom, with what, signed or not.

    Exit status: 0 all read, 3 some could not be read.
    """
    from pulse.cli.info import info_as_json, info_as_text
    from pulse.images.info import read_info

    rows, failures = [], 0
    for path in files:
        try:
            rows.append(read_info(path))
        except PulseError as error:
            failures += 1
            click.echo(f"pulse: {error}", err=True)
    if as_json:
        click.echo(json.dumps([info_as_json(row) for row in rows]))
    else:
        click.echo("\n".join(info_as_text(row) for row in rows))
    ctx.exit(SOME_FAILED if failures else 0)


main.add_command(weights)
