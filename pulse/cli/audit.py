"""`pulse audit`: for whom does it work?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource
from tqdm import tqdm

from pulse.audit.labels import Labels, read_labels
from pulse.cli.options import Where
from pulse.cli.upscale import load
from pulse.errors import PulseError
from pulse.settings import UpscaleSettings, least_sigma

if TYPE_CHECKING:
    from pulse.audit.alone import Alone
    from pulse.audit.people import Person
    from pulse.audit.study import Study
    from pulse.pretrained import Pretrained

DEFAULT_LOW_RES_PX = 16


@dataclass(frozen=True)
class Asked:
    """What is to be audited.

    Attributes:
        folder: of photographs; None for the generator alone.
        labels: the table of groups; None for the folder's labels.csv.
        group: its column; None for the obvious one.
        samples: of the generator alone; 0 for none.
        attribute: FILE.py:NAME of the user's own function; None for none.
        out: the output folder.
    """

    folder: Path | None
    labels: Path | None
    group: str | None
    samples: int
    attribute: str | None
    out: Path


def run_audit(asked: Asked, method: UpscaleSettings, where: Where) -> None:
    """Measure, write, and say what was found.

    Raises:
        PulseError: if something is missing, or nobody could be measured.
        UsageError: if nothing is asked for.
    """
    from pulse.audit.page import write_pages
    from pulse.audit.results import Results

    labels = _labels(asked)
    if labels is None and not asked.samples:
        raise click.UsageError("give a FOLDER of photographs, or --samples for the generator alone")
    searches_by = method.search.method if labels is not None else "descent"
    generator = load(
        where, with_bank=searches_by != "descent", with_head=searches_by == "posterior"
    )
    column = labels.column if labels else None
    results = Results.open(asked.out, generator, asked.folder, column)
    people: Sequence[Person] = ()
    if labels is not None:
        found = _audit_people(labels, generator, method, asked.attribute)
        results.add(found)
        people = found.people
        _tell(found)
    if asked.samples:
        results.add_alone(_measure_alone(generator, asked.samples, people, method.seed))
    results.write(asked.out)
    click.echo(f"{write_pages(results, asked.out)} shows it; audit.json, audit.csv and audit.md "
               "are beside it")  # fmt: skip


def run_calibration(
    draws: int, out: Path, method: UpscaleSettings, where: Where, *, as_json: bool
) -> None:
    """Rank draws of the prior among the answers to them, and say what the tests say.

    Raises:
        PulseError: if the generator has no mapping network, or the folder has another study.
    """
    from pulse.audit.calibration import CalibrationSettings
    from pulse.cli.audit_text import calibrate, table

    low_res = method.face.low_res or DEFAULT_LOW_RES_PX
    source = click.get_current_context().get_parameter_source
    is_given = {name: source(name) != ParameterSource.DEFAULT for name in ("method", "candidates")}
    by = method.search.method if is_given["method"] else "posterior"
    study = CalibrationSettings(
        method=by,
        draws=draws,
        answers=method.candidates if is_given["candidates"] else CalibrationSettings.answers,
        low_res=low_res,
        sigma=method.search.sigma or least_sigma((low_res, low_res)),
        seed=method.seed,
    )
    if study.answers > CalibrationSettings.answers:
        raise click.UsageError(f"--calibration takes -n {CalibrationSettings.answers} at most")
    generator = load(where, with_bank=by != "descent", with_head=by == "posterior")
    rows = calibrate(study, generator, out)
    click.echo(json.dumps([vars(row) for row in rows]) if as_json else table(rows))


def _labels(asked: Asked) -> Labels | None:
    """Who is in the folder, if there is one."""
    if asked.folder is None:
        return None
    if not asked.folder.is_dir():
        raise PulseError(f"there is no folder '{asked.folder}'; give one with photographs")
    path = asked.labels or asked.folder / "labels.csv"
    return read_labels(path, asked.folder, asked.group)


def _audit_people(
    labels: Labels, generator: Pretrained, method: UpscaleSettings, attribute: str | None
) -> Study:
    """Everyone through the method, with a bar."""
    from pulse.audit.run import audit, load_attribute

    face = replace(method.face, low_res=method.face.low_res or DEFAULT_LOW_RES_PX)
    own = load_attribute(attribute) if attribute else None
    with tqdm(total=len(labels.groups), unit=" people", disable=None) as bar:
        return audit(
            labels, generator, replace(method, face=face), method.search.method,
            attribute=own, on_person=lambda _: bar.update(),
        )  # fmt: skip


def _measure_alone(
    generator: Pretrained, samples: int, people: Sequence[Person], seed: int
) -> Alone:
    """The generator's own samples, with a bar."""
    from pulse.audit.alone import measure_generator

    with tqdm(total=samples, unit=" samples", disable=None) as bar:
        return measure_generator(generator, samples, people, seed, bar.update)


def _tell(found: Study) -> None:
    """What was found, in a few lines."""
    sizes = ", ".join(f"{group} {count}" for group, count in found.sizes.items())
    click.echo(f"{found.method}, {found.low_res_px} px, {len(found.people)} people: {sizes}")
    for line in found.findings():
        click.echo(f"  {line}")
    if found.too_few():
        click.echo(f"  Too few people for a statement: {', '.join(found.too_few())}.")
    for name, reason in found.left_out.items():
        click.echo(f"  left out: {name}: {reason}")
