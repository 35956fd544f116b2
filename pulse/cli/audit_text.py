"""What `pulse audit` does once its options are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from pulse.audit.calibration import Calibration, CalibrationSettings
from pulse.audit.uniformity import Uniformity, draw_ranks, uniformity_of
from pulse.files import make_folder
from pulse.pretrained import Pretrained

UNUSUAL = 3.0  # standard errors, which chance gives one quantity in 370


def calibrate(settings: CalibrationSettings, loaded: Pretrained, out: Path) -> list[Uniformity]:
    """Run a study, or go on with it, and draw its ranks into the output folder."""
    make_folder(out)
    study = Calibration(loaded, settings)
    with tqdm(total=settings.draws, unit=" draws", desc="ranking", disable=None) as bar:

        def show(done: int) -> None:
            bar.update(done - bar.n)

        rows = study.ranks(out, show)
    ranks = {name: [row["ranks"][name] for row in rows] for name in rows[0]["ranks"]}
    draw_ranks(ranks, settings.answers, out / f"{settings.name}.png")
    return uniformity_of(ranks, settings.answers, study.luck())


def table(rows: Sequence[Uniformity]) -> str:
    """The tests as lines of text."""
    width = max(len(row.quantity) for row in rows)
    lines = [f"{'quantity':{width}}  mean rank  chi-square p  ECDF band p  faces off by"]
    lines += [
        f"{row.quantity:{width}}  {row.mean:9.2f}  {row.chi_square:12.4f}  {row.band:11.4f}"
        f"  {'' if row.luck is None else format(row.luck, '.1f'):>12}"
        f"{'' if row.passes else '  not uniform'}".rstrip()
        for row in rows
    ]
    failed = [row for row in rows if not row.passes]
    verdict = (
        f"{len(failed)} of {len(rows)} quantities are not uniform" if failed else "all are uniform"
    )
    lines.append(f"{rows[0].draws} draws: {verdict} (5 %, Bonferroni).")
    if any(abs(row.luck or 0) > UNUSUAL for row in failed):
        lines.append(
            "Some of these faces are unusual in themselves: off by standard errors from a linear "
            "guess that no sampler has a part in. Rank more of them with --draws."
        )
    return "\n".join(lines)
