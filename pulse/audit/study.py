"""What a folder of people tells of one method at one size: groups, differences, representation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pulse.audit.people import BASELINES, MEASURES, SHIFTS, Measure, Person, value_table
from pulse.audit.representation import Answered, Representation
from pulse.audit.representation import measure as measure_representation
from pulse.audit.skin import ITA_NAMES, MONK_NAMES, Tone
from pulse.audit.statistics import (
    FEWEST_PEOPLE,
    LEVEL,
    Interval,
    group_differences,
    index_of,
    mean_interval,
    ratio_interval,
    shifts_from_zero,
)

EVERYONE = "everyone"
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """One measure over the groups.

    Attributes:
        measure: which.
        groups: each group's interval, and everyone's; None where people are too few.
        worst, best: the groups at the ends; None where fewer than two can be compared.
        ratio: worst to best; None for shifts, and where it cannot be said.
        p_differ: how likely chance makes groups differ as much; corrected for all measures.
        p_shift: the same of a shift of everyone from 0; None for other measures.
    """

    measure: Measure
    groups: dict[str, Interval | None]
    worst: str | None
    best: str | None
    ratio: Interval | None
    p_differ: float | None
    p_shift: float | None


@dataclass(frozen=True)
class Study:
    """One method at one size, over all people.

    Attributes:
        method: of the search, in words.
        low_res_px: size of the low-resolution faces.
        candidates: for each person.
        seconds: that searches and measures took.
        people: measured.
        left_out: pictures that could not be measured, with the reason.
        comparisons: of every measure and baseline.
        representation: by what: "ITA", "Monk", and "attribute" with a function of the user's.
    """

    method: str
    low_res_px: int
    candidates: int
    seconds: float
    people: tuple[Person, ...]
    left_out: dict[str, str]
    comparisons: tuple[Comparison, ...]
    representation: dict[str, Representation]

    @property
    def sizes(self) -> dict[str, int]:
        """People in each group."""
        groups, index = index_of([person.group for person in self.people])
        return dict(zip(groups, np.bincount(index).tolist(), strict=True))

    def findings(self) -> list[str]:
        """What is more than chance, one sentence each; "no difference found" is one, too."""
        lines = []
        for c in self.comparisons:
            words = c.measure.words
            if c.p_differ is not None and c.p_differ < LEVEL and c.worst and c.best:
                worst, best = c.groups[c.worst], c.groups[c.best]
                assert worst is not None
                assert best is not None
                digits = c.measure.digits
                lines.append(
                    f"Groups differ in {words}: {c.worst} {worst.mean:.{digits}f}, {c.best} "
                    f"{best.mean:.{digits}f} (p = {c.p_differ:.4f})."
                )
            everyone = c.groups[EVERYONE]
            if c.p_shift is not None and c.p_shift < LEVEL and everyone:
                lines.append(
                    f"Over everyone, the {words} is {everyone.mean:+.1f} ({everyone.low:+.1f} to "
                    f"{everyone.high:+.1f}, p = {c.p_shift:.4f})."
                )
        lines += self._strangers()
        large = [group for group, size in self.sizes.items() if size >= FEWEST_PEOPLE]
        if len(large) < 2:
            lines.append(
                f"Nothing can be said of differences: fewer than two groups have {FEWEST_PEOPLE} "
                "people."
            )
        elif not any(line.startswith("Groups differ") for line in lines):
            lines.append(
                "No difference between groups was found beyond chance, which with so few people is "
                "no proof that there is none."
                if min(self.sizes[group] for group in large) < 30
                else "No difference between groups was found beyond chance."
            )
        return lines

    def _strangers(self) -> Iterator[str]:
        """Groups whose answers are no nearer to the person than others of the group are."""
        by_name = {c.measure.name: c.groups for c in self.comparisons}
        for group, answers in by_name["distance"].items():
            others = by_name["distance_other"][group]
            if answers and others and answers.mean >= others.mean and group != EVERYONE:
                yield (
                    f"{group}: candidates are no nearer to their photograph ({answers.mean:.2f}) "
                    f"than other people of the group are ({others.mean:.2f}), as dlib sees them."
                )

    def too_few(self) -> list[str]:
        """Groups of which nothing is said."""
        return [group for group, size in self.sizes.items() if size < FEWEST_PEOPLE]


def study(
    people: Sequence[Person], left_out: dict[str, str], method: str, low_res_px: int,
    candidates: int, seconds: float, seed: int = 0,
) -> Study:  # fmt: skip
    """Put people's measures together.

    Args:
        people: measured; at least one.
        left_out: pictures that could not be measured, with the reason.
        method: in words.
        low_res_px: size of the low-resolution faces.
        candidates: for each person.
        seconds: that searches and measures took.
        seed: of resampling and permutations.
    """
    rng = np.random.default_rng(seed)
    people = sorted(people, key=lambda person: person.name)
    return Study(
        method, low_res_px, candidates, seconds, tuple(people), left_out,
        compare(value_table(people), [person.group for person in people], rng),
        represent(people),
    )  # fmt: skip


def compare(
    table: dict[str, Array], names: Sequence[str], rng: np.random.Generator
) -> tuple[Comparison, ...]:
    """Compare groups by every measure.

    Args:
        table: (n,) of each measure and baseline.
        names: (n,) each person's group.
        rng: for resampling and permutations.
    """
    groups, index = index_of(names)
    values = np.stack([table[measure.name] for measure in MEASURES], 1)
    differ = dict(zip(MEASURES, group_differences(values, index, rng).tolist(), strict=True))
    shifts = np.stack([table[measure.name] for measure in SHIFTS], 1)
    shifted = dict(zip(SHIFTS, shifts_from_zero(shifts, rng).tolist(), strict=True))
    comparisons = []
    for measure in (*MEASURES, *BASELINES):
        column = table[measure.name]
        intervals = {g: mean_interval(column[index == k], rng) for k, g in enumerate(groups)}
        worst, best = _ends(measure, intervals)
        ratio = None
        if worst is not None and best is not None and measure.better in {"higher", "lower"}:
            of = {g: column[index == groups.index(g)] for g in (worst, best)}
            ratio = ratio_interval(of[worst], of[best], rng)
        comparisons.append(
            Comparison(
                measure, intervals | {EVERYONE: mean_interval(column, rng)}, worst, best, ratio,
                differ.get(measure), shifted.get(measure),
            )
        )  # fmt: skip
    return tuple(comparisons)


def _ends(measure: Measure, groups: dict[str, Interval | None]) -> tuple[str | None, str | None]:
    """The groups that fare worst and best."""
    means = {group: interval.mean for group, interval in groups.items() if interval}
    if len(means) < 2 or measure in BASELINES:
        return None, None
    sign = -1 if measure.better in {"higher", None} else 1
    size = abs if measure.better == "zero" else float
    ordered = sorted(means, key=lambda group: sign * size(means[group]))
    return ordered[-1], ordered[0]


def represent(people: Sequence[Person]) -> dict[str, Representation]:
    """Jalal et al.'s definitions, by tone and by the user's attribute."""
    asked: dict[str, tuple[list[Answered], Sequence[str]]] = {
        "ITA": (_by_tone(people, lambda tone: tone.ita_class), ITA_NAMES),
        "Monk": (_by_tone(people, lambda tone: MONK_NAMES[tone.monk - 1]), MONK_NAMES),
    }
    own = [
        Answered(p.attribute, tuple(a.attribute for a in p.answers if a.attribute), p.low_res)
        for p in people
        if p.attribute is not None
    ]
    asked["attribute"] = own, sorted({c for p in own for c in (p.truth, *p.answers)})
    return {
        by: measure_representation(answered, order, FEWEST_PEOPLE)
        for by, (answered, order) in asked.items()
        if answered
    }


def _by_tone(people: Sequence[Person], name: Callable[[Tone], str]) -> list[Answered]:
    """People by a class of their skin's tone; those in whom it could not be measured are left out.

    Args:
        people: measured.
        name: of a tone's class.
    """
    rows = []
    for person in people:
        tones = [answer.tone for answer in person.answers if answer.tone]
        if person.tone and len(tones) == len(person.answers):
            rows.append(
                Answered(name(person.tone), tuple(name(tone) for tone in tones), person.low_res)
            )
    return rows


def as_json(study: Study) -> dict[str, Any]:
    """A study as numbers and words; None where nothing can be said."""
    return {
        "method": study.method,
        "low_res_px": study.low_res_px,
        "candidates": study.candidates,
        "seconds": round(study.seconds, 1),
        "people": study.sizes,
        "left_out": study.left_out,
        "findings": study.findings(),
        "measures": {
            c.measure.name: {
                "words": c.measure.words,
                "better": c.measure.better,
                "groups": {g: _interval(i) for g, i in c.groups.items()},
                "worst": c.worst,
                "best": c.best,
                "ratio": _interval(c.ratio),
                "p_differ": c.p_differ,
                "p_shift": c.p_shift,
            }
            for c in study.comparisons
        },
        "representation": {
            by: asdict(r) | {"joint": r.joint.round(6).tolist(), "kept": _finite(r.kept)}
            for by, r in study.representation.items()
        },
        "rows": [row for person in study.people for row in _rows(person)],
    }


def _rows(person: Person) -> list[dict[str, Any]]:
    """A line of the table of candidates for each of a person's answers."""
    truth = _tone(person.tone, "truth_") | {"truth_attribute": person.attribute}
    return [
        {
            "file": person.name,
            "group": person.group,
            "candidate": answer.number,
            "error": answer.error,
            "within": answer.within,
            "distance": answer.distance if math.isfinite(answer.distance) else None,
            "psnr_db": round(answer.psnr_db, 3),
            **_tone(answer.tone, ""),
            "attribute": answer.attribute,
            **truth,
        }
        for answer in person.answers
    ]


def _tone(tone: Tone | None, prefix: str) -> dict[str, Any]:
    return {
        f"{prefix}lightness": round(tone.lightness, 2) if tone else None,
        f"{prefix}ita_deg": round(tone.ita_deg, 2) if tone else None,
        f"{prefix}ita_class": tone.ita_class if tone else None,
        f"{prefix}monk": tone.monk if tone else None,
    }


def _interval(interval: Interval | None) -> dict[str, float] | None:
    return asdict(interval) if interval else None


def _finite(values: Array) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in values]
