"""Whether ranks are uniform, and pictures of how they are not.

Two statistics for each quantity, each with a p-value by simulation: chi-square over bins, and the
largest distance of the empirical distribution from the uniform one, in standard deviations, which
is what a simultaneous band about it allows (Säilynoja, Bürkner & Vehtari 2022).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pulse.errors import PulseError

SIMULATIONS = 10_000
MOST_BINS = 8
LEVEL = 0.05  # of all quantities together

Ranks = NDArray[np.int64]


@dataclass(frozen=True)
class Uniformity:
    """How uniform the ranks of one quantity are.

    Attributes:
        quantity: its name.
        draws: how many ranks there are.
        mean: of the ranks, as a share of the largest; 0.5 where they are uniform.
        chi_square: p-value.
        band: p-value of the largest distance of the distributions.
        passes: whether both are above the level, corrected for all quantities and both tests.
        luck: standard errors by which the true faces alone are off (`luck`); None where unknown.
    """

    quantity: str
    draws: int
    mean: float
    chi_square: float
    band: float
    passes: bool
    luck: float | None = None


def bins_of(answers: int) -> int:
    """The largest number of equal bins, up to `MOST_BINS`, for ranks 0 to `answers`."""
    return max(n for n in range(1, MOST_BINS + 1) if (answers + 1) % n == 0)


def chi_squares(ranks: Ranks, answers: int) -> NDArray[np.float64]:
    """Pearson's statistic of rows of ranks (S, N): (S,)."""
    bins = bins_of(answers)
    which = ranks * bins // (answers + 1)
    counts = np.stack([(which == i).sum(1) for i in range(bins)], 1)
    expected = ranks.shape[1] / bins
    return ((counts - expected) ** 2 / expected).sum(1)


def distances(ranks: Ranks, answers: int) -> NDArray[np.float64]:
    """The largest distance of the distributions of rows (S, N), in standard deviations: (S,)."""
    cuts = np.arange(answers)  # at the last one both distributions are 1
    share = (cuts + 1) / (answers + 1)
    below = np.stack([(ranks <= cut).mean(1) for cut in cuts], 1)
    deviation = np.sqrt(share * (1 - share) / ranks.shape[1])
    return (np.abs(below - share) / deviation).max(1)


def uniformity_of(
    ranks: Mapping[str, Sequence[int]], answers: int, luck: Mapping[str, float] | None = None
) -> list[Uniformity]:
    """Test the ranks of every quantity.

    Args:
        ranks: of each quantity, 0 to `answers`.
        answers: L.
        luck: of those quantities where it is known.
    """
    draws = len(next(iter(ranks.values())))
    by_chance = _by_chance(draws, answers)
    level = LEVEL / (2 * len(ranks))  # Bonferroni
    rows = []
    for name, values in ranks.items():
        row = np.asarray(values)[None]
        p = _p_value(chi_squares(row, answers)[0], by_chance[0])
        p_band = _p_value(distances(row, answers)[0], by_chance[1])
        mean = float(row.mean()) / answers
        passes = min(p, p_band) > level
        rows.append(Uniformity(name, draws, mean, p, p_band, passes, (luck or {}).get(name)))
    return rows


@functools.cache
def _by_chance(draws: int, answers: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both statistics of many rows of uniform ranks."""
    uniform = np.random.default_rng(0).integers(0, answers + 1, (SIMULATIONS, draws))
    return chi_squares(uniform, answers), distances(uniform, answers)


def _p_value(seen: float, by_chance: NDArray[np.float64]) -> float:
    """The share of what chance gives that is as large as what was seen."""
    return float((1 + (by_chance >= seen - 1e-9).sum()) / (1 + len(by_chance)))


def draw_ranks(ranks: Mapping[str, Sequence[int]], answers: int, path: Path) -> None:
    """Draw a histogram for each quantity, with the band that holds 99 % of uniform bins.

    Raises:
        PulseError: if Matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise PulseError("plots need Matplotlib: pip install 'pulse[audit]'")
    from matplotlib.figure import Figure

    columns = 5
    lines = -(-len(ranks) // columns)
    figure = Figure(figsize=(2.0 * columns, 1.5 * lines), dpi=100, layout="constrained")
    bins = bins_of(answers)
    for i, (name, values) in enumerate(ranks.items(), start=1):
        axes = figure.add_subplot(lines, columns, i)
        expected = len(values) / bins
        spread = 2.58 * (expected * (1 - 1 / bins)) ** 0.5
        axes.axhspan(expected - spread, expected + spread, color="0.88", linewidth=0)
        axes.axhline(expected, color="0.5", linewidth=0.8)
        axes.hist(values, bins=bins, range=(-0.5, answers + 0.5), color="#35608d", rwidth=0.9)
        axes.set_title(name, fontsize=8)
        axes.tick_params(labelsize=6)
        axes.set_ylim(0, max(axes.get_ylim()[1], expected + 2 * spread))
    figure.savefig(path, metadata={"Software": None})
