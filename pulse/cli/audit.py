"""`pulse audit`: whether the answers come in proportion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pulse.settings import EMBEDDED, LEAST_SIGMA, METHODS

if TYPE_CHECKING:
    from pulse.audit.uniformity import Uniformity

AUDIT_EXAMPLES = """\b
Examples:
  pulse audit --calibration -o calibration
  pulse audit --calibration -o calibration --method descent --low-res 8 --answers 7
"""


@click.command(epilog=AUDIT_EXAMPLES)
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Output folder; "
              "a later run with the same settings goes on there.")  # fmt: skip
@click.option("--calibration", is_flag=True, required=True,
              help="Rank faces of the prior among the answers to them (Talts et al. "
              "2018).")  # fmt: skip
@click.option("--method", type=click.Choice(METHODS), default="posterior", show_default=True,
              help="Whose answers.")  # fmt: skip
@click.option("--draws", type=click.IntRange(min=1), default=200, show_default=True,
              help="Faces drawn from the prior.")  # fmt: skip
@click.option("--answers", type=click.IntRange(min=1, max=31), default=31, show_default=True,
              help="Answers for each.")  # fmt: skip
@click.option("--low-res", type=click.IntRange(min=1), default=16, show_default=True,
              help="Pixels a side of the low-resolution faces.")  # fmt: skip
@click.option("--sigma", type=click.FloatRange(min=0, min_open=True), default=LEAST_SIGMA,
              show_default=True,
              help="Noise of the low-resolution faces, pixels in [0, 1].")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Any whole number.")
@click.option("--generator", default=EMBEDDED, show_default=True, metavar="NAME|FILE",
              help="A name of `pulse weights list`, or any weights file.")  # fmt: skip
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:K]|mps",
              help="Where to compute.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the tests as JSON.")
def audit(out: Path, generator: str, device: str, as_json: bool, **study: Any) -> None:  # noqa: ANN401
    """Check by simulation that answers come in proportion, and draw how they do."""
    from pulse.audit.calibration import CalibrationSettings
    from pulse.cli.audit_text import calibrate, table

    del study["calibration"]
    rows: list[Uniformity] = calibrate(CalibrationSettings(**study), generator, device, out)
    click.echo(json.dumps([vars(row) for row in rows]) if as_json else table(rows))
