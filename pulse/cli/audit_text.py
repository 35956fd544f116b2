"""What `pulse audit` does once its options are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from pulse.audit.calibration import Calibration, CalibrationSettings
from pulse.audit.uniformity import Uniformity, draw_ranks, uniformity_of
from pulse.files import make_folder
from pulse.pretrained import Pretrained


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
    return uniformity_of(ranks, settings.answers)


def table(rows: Sequence[Uniformity]) -> str:
    """The tests as lines of text."""
    width = max(len(row.quantity) for row in rows)
    lines = [f"{'quantity':{width}}  mean rank  chi-square p  ECDF band p"]
    lines += [
        f"{row.quantity:{width}}  {row.mean:9.2f}  {row.chi_square:12.4f}  {row.band:11.4f}"
        f"{'' if row.passes else '  not uniform'}"
        for row in rows
    ]
    failed = sum(not row.passes for row in rows)
    verdict = f"{failed} of {len(rows)} quantities are not uniform" if failed else "all are uniform"
    return "\n".join([*lines, f"{rows[0].draws} draws: {verdict} (5 %, Bonferroni)."])
