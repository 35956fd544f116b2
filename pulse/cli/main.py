"""The command group: `pulse upscale`, `pulse demo`, `pulse align`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import pulse
from pulse.cli.exit_status import INTERRUPTED, SOME_FAILED, STOPPED
from pulse.cli.options import (
    Output,
    Where,
    face_options,
    method_options,
    output_options,
    where_options,
)
from pulse.cli.weights import weights
from pulse.errors import PulseError
from pulse.settings import FaceSettings, UpscaleSettings

InputPath = click.Path(path_type=Path)


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


@click.group(cls=PulseGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(pulse.__version__, prog_name="pulse")
def main() -> None:
    """Imagine high-resolution faces that downscale to the low-resolution one you have.

    There is never one answer: PULSE shows several, says how well each fits, and where they
    disagree. Nobody in its pictures exists.
    """


@main.command()
@click.argument("inputs", nargs=-1, required=True, type=InputPath, metavar="INPUT...")
@click.option("-o", "--out", type=InputPath, default=Path("pulse-out"), show_default=True,
              help="Output folder; a later run with the same settings goes on there.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@output_options
@where_options
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


@main.command()
@click.option("-o", "--out", type=InputPath, default=Path("pulse-demo"), show_default=True,
              help="Output folder.")  # fmt: skip
@output_options
@where_options
@method_options
@click.pass_context
def demo(ctx: click.Context, out: Path, method: UpscaleSettings, where: Where,
         output: Output) -> None:  # fmt: skip
    """Imagine faces for the dozen 16x16 pictures that come with PULSE."""
    from pulse.cli.upscale import demo_folder, run_upscale

    is_complete = run_upscale((demo_folder(),), out, method, where, output)
    ctx.exit(0 if is_complete else SOME_FAILED)


@main.command()
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


main.add_command(weights)
