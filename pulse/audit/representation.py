"""Fairness in the sense of Jalal et al. (ICML 2021): whom do the answers show?

Truths x and answers x_hat fall into categories c_1, ..., c_K of something measured from pixels,
such as the class of the skin's tone. Of the paper's section 2:

    representation demographic parity   P(x_hat in c_i | x in c_i) is the same for all i
    proportional representation         P(x_hat in c_i) = P(x in c_i) for all i
    symmetric pairwise error            P(x_hat in c_j, x in c_i) = P(x_hat in c_i, x in c_j)
    conditional proportional            P(x_hat in c_i | y) = P(x in c_i | y) for all i and every
      representation                      low-resolution picture y

The last can only be measured where several truths share a low-resolution picture. Samples from the
posterior of the people measured would have the last three; no method that picks the likeliest face
has them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Answered:
    """One person's truth and answers.

    Attributes:
        truth: category of the photograph.
        answers: category of each candidate.
        low_res: what identifies the low-resolution picture.
    """

    truth: str
    answers: tuple[str, ...]
    low_res: Hashable = None


@dataclass(frozen=True)
class Representation:
    """How far answers are from each definition; 0 is fulfilled.

    Attributes:
        categories: that occur, in order.
        people: truths in each.
        joint: (K, K) P(x in c_i, x_hat in c_j), people counting alike.
        kept: P(x_hat in c_i | x in c_i) for each; NaN where nobody is.
        demographic_parity_gap: largest minus smallest of `kept`, over categories with enough
            people; None with fewer than two of those.
        proportional_gap: total variation distance between answers and truths.
        pairwise_gap: total variation distance between `joint` and its transpose.
        conditional_gap: mean total variation distance within shared low-resolution pictures; None
            where no two truths share one.
        shared: low-resolution pictures that several truths share.
    """

    categories: tuple[str, ...]
    people: tuple[int, ...]
    joint: Array
    kept: Array
    demographic_parity_gap: float | None
    proportional_gap: float
    pairwise_gap: float
    conditional_gap: float | None
    shared: int


def measure(people: Sequence[Answered], order: Sequence[str], fewest_people: int) -> Representation:
    """Hold the answers against the definitions.

    Args:
        people: at least one.
        order: of all categories; those that do not occur are left out.
        fewest_people: that a category needs to count for demographic parity.

    Raises:
        ValueError: if there is nobody, or a category is not in `order`.
    """
    if not people:
        raise ValueError("got nobody, expected at least one person")
    seen = {c for person in people for c in (person.truth, *person.answers)}
    if not seen <= set(order):
        raise ValueError(f"got categories {sorted(seen - set(order))}, expected some of {order}")
    categories = tuple(c for c in order if c in seen)
    joint = _joint(people, categories)
    truths, answers = joint.sum(1), joint.sum(0)
    counts = tuple(sum(person.truth == c for person in people) for c in categories)
    with np.errstate(invalid="ignore"):
        kept = np.diagonal(joint) / truths
    large = kept[np.array(counts) >= fewest_people]
    shared = _shared(people)
    return Representation(
        categories,
        counts,
        joint,
        kept,
        float(large.max() - large.min()) if len(large) > 1 else None,
        float(np.abs(answers - truths).sum() / 2),
        float(np.abs(joint - joint.T).sum() / 2),
        _conditional_gap(shared, categories),
        len(shared),
    )


def _joint(people: Sequence[Answered], categories: tuple[str, ...]) -> Array:
    """(K, K) shares of (truth, answer); a person's candidates share the person's weight."""
    place = {c: i for i, c in enumerate(categories)}
    joint = np.zeros((len(categories), len(categories)))
    for person in people:
        for answer in person.answers:
            joint[place[person.truth], place[answer]] += 1 / len(person.answers)
    return joint / len(people)


def _shared(people: Sequence[Answered]) -> list[list[Answered]]:
    """People whose low-resolution picture is the same, where there are several."""
    groups: dict[Hashable, list[Answered]] = defaultdict(list)
    for person in people:
        if person.low_res is not None:
            groups[person.low_res].append(person)
    return [group for group in groups.values() if len(group) > 1]


def _conditional_gap(shared: list[list[Answered]], categories: tuple[str, ...]) -> float | None:
    """Mean distance between answers and truths within each low-resolution picture."""
    if not shared:
        return None
    joints = [_joint(group, categories) for group in shared]
    return float(np.mean([np.abs(j.sum(0) - j.sum(1)).sum() / 2 for j in joints]))
