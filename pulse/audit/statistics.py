"""Groups compared: means with intervals, and whether any difference is more than chance.

The unit is the person: all candidates of one person count as one value, their mean. Intervals are
percentile bootstraps over people (Efron & Tibshirani 1993, chapter 13), too narrow for a handful
of them. Whether groups differ is asked by permutation, all measures at once: Kruskal & Wallis'
statistic of each measure against the largest of all measures in permuted data (Westfall & Young
1993, maxT), which keeps the share of audits that cry wolf below the level whatever the measures'
correlation. Shifts are asked about in the same way by flipping their signs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

FEWEST_PEOPLE = 5  # below this, nothing is said of a group
RESAMPLES = 2000
PERMUTATIONS = 4999
# Of groups that differ, and again of shifts: 2 % in all, so that 5 % is kept with room to spare.
LEVEL = 0.01
COVERAGE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap interval.

    Attributes:
        mean: over people.
        low, high: ends of the interval of 95 %.
        people: how many.
    """

    mean: float
    low: float
    high: float
    people: int


def mean_interval(values: Array, rng: np.random.Generator) -> Interval | None:
    """The mean over people; None where they are too few for a statement.

    Args:
        values: (n,), one for each person; NaN where nothing could be measured.
        rng: for the resampling.
    """
    values = values[np.isfinite(values)]
    if len(values) < FEWEST_PEOPLE:
        return None
    means = _resampled_means(values, rng)
    low, high = _ends(means)
    return Interval(float(values.mean()), low, high, len(values))


def ratio_interval(worst: Array, best: Array, rng: np.random.Generator) -> Interval | None:
    """The ratio of two groups' means; None where people are too few or the best mean is 0."""
    worst, best = worst[np.isfinite(worst)], best[np.isfinite(best)]
    if min(len(worst), len(best)) < FEWEST_PEOPLE or best.mean() == 0:
        return None
    above, below = _resampled_means(worst, rng), _resampled_means(best, rng)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = above / below
    low, high = _ends(ratios[np.isfinite(ratios)])
    return Interval(float(worst.mean() / best.mean()), low, high, len(worst) + len(best))


def _resampled_means(values: Array, rng: np.random.Generator) -> Array:
    """(RESAMPLES,) means of as many people, drawn with replacement."""
    rows = rng.integers(0, len(values), (RESAMPLES, len(values)))
    means: Array = values[rows].mean(1)
    return means


def _ends(means: Array) -> tuple[float, float]:
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return float(low), float(high)


def group_differences(
    values: Array, groups: Labels, rng: np.random.Generator, permutations: int = PERMUTATIONS
) -> Array:
    """How likely chance alone is to make groups differ as much, for each measure.

    Args:
        values: (n, M), a row for each person; NaN where nothing could be measured.
        groups: (n,) each person's group, from 0.
        rng: for the permutations.
        permutations: of people over groups.

    Returns:
        (M,) p-values, corrected for the number of measures. 1 where fewer than two groups have
        enough people; groups with too few are left out.
    """
    counts = np.bincount(groups)
    kept = counts[groups] >= FEWEST_PEOPLE
    values, groups = values[kept], groups[kept]
    if len(np.unique(groups)) < 2:
        return np.ones(values.shape[1])
    ranks = _standard_ranks(values)  # (n, M)
    members = (groups[:, None] == np.unique(groups)).astype(float)  # (n, K)
    observed = _between(ranks, members[None])[0]  # (M,)
    order = rng.permuted(np.tile(np.arange(len(groups)), (permutations, 1)), axis=1)
    largest = np.concatenate(
        [_between(ranks, members[rows]).max(1) for rows in np.array_split(order, 10)]
    )  # (P,)
    return _share_at_least(largest, observed)


def shifts_from_zero(values: Array, rng: np.random.Generator, flips: int = PERMUTATIONS) -> Array:
    """How likely chance alone is to move people's values as far from 0, for each measure.

    Args:
        values: (n, M) signed shifts; NaN where nothing could be measured.
        rng: for the flips of signs.
        flips: how many.

    Returns:
        (M,) p-values, corrected for the number of measures; 1 where people are too few.
    """
    values = values[np.isfinite(values).all(1)]
    n, measures = values.shape
    if n < FEWEST_PEOPLE:
        return np.ones(measures)
    scale = np.sqrt(np.square(values).sum(0))  # the same for all flips
    scale[scale == 0] = np.inf
    signs = rng.choice((-1.0, 1.0), (flips, n))
    largest = np.abs(signs @ values / scale).max(1)
    return _share_at_least(largest, np.abs(values.sum(0) / scale))


def _share_at_least(largest: Array, observed: Array) -> Array:
    """p-values that count the observed data as one of the permutations (Phipson & Smyth 2010)."""
    # equal sums may differ in their last digits
    reached = largest[:, None] >= observed - 1e-9 * np.abs(observed)
    shares: Array = (reached.sum(0) + 1) / (len(largest) + 1)
    return shares


def _standard_ranks(values: Array) -> Array:
    """(n, M) ranks with mean 0 and mean square 1; ties share theirs; NaN takes the middle."""
    ranks = np.zeros_like(values)
    for m, column in enumerate(values.T):
        known = np.isfinite(column)
        _, places, counts = np.unique(column[known], return_inverse=True, return_counts=True)
        middle = np.cumsum(counts) - (counts + 1) / 2
        ranks[known, m] = middle[places] - middle[places].mean() if known.any() else 0
    deviation = np.sqrt(np.square(ranks).mean(0))
    ranks[:, deviation > 0] /= deviation[deviation > 0]
    return ranks


def _between(ranks: Array, members: Array) -> Array:
    """Kruskal & Wallis' statistic of each measure, up to a factor that no permutation changes.

    Args:
        ranks: (n, M), standardised.
        members: (P, n, K) who is in which group.

    Returns:
        (P, M).
    """
    sums = np.einsum("pnk,nm->pkm", members, ranks, optimize=True)
    statistic: Array = (np.square(sums) / members.sum(1)[:, :, None]).sum(1)
    return statistic


def index_of(names: Sequence[str]) -> tuple[tuple[str, ...], Labels]:
    """The distinct names in order, and each name's place among them."""
    distinct = tuple(sorted(set(names)))
    places = {name: i for i, name in enumerate(distinct)}
    return distinct, np.array([places[name] for name in names], dtype=np.int64)
