"""Plots of an audit, as SVG pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pulse.audit.skin import ITA_NAMES, MONK_SCALE
from pulse.errors import PulseError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLOTTED = ("within", "distance", "psnr_db", "lightness_shift")
INK, EVERYONE_INK = "#3b6ea5", "#b0562b"


def figure(*args: Any, **values: Any) -> Figure:  # noqa: ANN401 (matplotlib's own)
    """A matplotlib figure that needs no screen.

    Raises:
        PulseError: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PulseError(
            "plots need matplotlib, which is not installed; run: pip install 'pulse[audit]'"
        ) from error
    return Figure(*args, layout="constrained", **values)


def data_uri(drawn: Figure) -> str:
    """A figure as an address that holds it."""
    from matplotlib import rc_context

    data = io.BytesIO()
    # no dates and no random names: the same figures give the same bytes
    with rc_context({"svg.hashsalt": "pulse", "svg.fonttype": "none"}):
        drawn.savefig(data, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(data.getvalue()).decode()


def groups_plot(study: dict[str, Any]) -> str:
    """Means and intervals of the main measures, a line for each group."""
    groups = [*study["people"], "everyone"]
    drawn = figure(figsize=(9.5, 1.1 + 0.32 * len(groups)))
    for axes, name in zip(drawn.subplots(1, len(PLOTTED), sharey=True), PLOTTED, strict=True):
        measure = study["measures"][name]
        for y, group in enumerate(reversed(groups)):
            interval = measure["groups"][group]
            ink = EVERYONE_INK if group == "everyone" else INK
            if interval:
                axes.plot([interval["low"], interval["high"]], [y, y], color=ink, linewidth=2)
                axes.plot(interval["mean"], y, "o", color=ink)
        if measure["better"] == "zero":
            axes.axvline(0, color="grey", linewidth=0.7)
        axes.set_title(measure["words"], fontsize=8)
        axes.set_yticks(range(len(groups)), list(reversed(groups)), fontsize=8)
        axes.set_ylim(-0.6, len(groups) - 0.4)
        axes.tick_params(axis="x", labelsize=8)
    return data_uri(drawn)


def joint_plot(representation: dict[str, Any]) -> str:
    """What the answers show for each class of the truth, as shares of that class."""
    names, joint = representation["categories"], representation["joint"]
    drawn = figure(figsize=(1.8 + 0.6 * len(names), 1.4 + 0.45 * len(names)))
    axes = drawn.subplots()
    shares = [[v / sum(row) if sum(row) else 0 for v in row] for row in joint]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, row in enumerate(shares):
        for j, share in enumerate(row):
            axes.text(j, i, f"{share:.2f}", ha="center", va="center", fontsize=8,
                      color="white" if share > 0.6 else "black")  # fmt: skip
    labels = [
        f"{name} ({count})" for name, count in zip(names, representation["people"], strict=True)
    ]
    axes.set_xticks(range(len(names)), names, fontsize=8, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), labels, fontsize=8)
    axes.set_xlabel("answers", fontsize=8)
    axes.set_ylabel("photographs (people)", fontsize=8)
    return data_uri(drawn)


def alone_plot(alone: dict[str, Any]) -> str:
    """Tones of the generator's samples, and the recall of each group."""
    drawn = figure(figsize=(9.5, 2.6))
    ita, monk, recall = drawn.subplots(1, 3)
    ita.bar(range(len(ITA_NAMES)), [alone["ita_shares"][name] for name in ITA_NAMES], color=INK)
    ita.set_xticks(range(len(ITA_NAMES)), ITA_NAMES, fontsize=8, rotation=30, ha="right")
    ita.set_title("share of samples by ITA class", fontsize=8)
    monk.bar(range(1, 11), alone["monk_shares"], color=MONK_SCALE, edgecolor="grey", linewidth=0.4)
    monk.set_xticks(range(1, 11))
    monk.set_title("share of samples by Monk tone", fontsize=8)
    known = {group: interval for group, interval in alone["recall"].items() if interval}
    _bars(recall, list(known), list(known.values()))
    recall.set_title("recall of photographs", fontsize=8)
    for axes in (ita, monk, recall):
        axes.tick_params(labelsize=8)
    return data_uri(drawn)


def _bars(axes: Any, names: Sequence[str], intervals: Sequence[dict[str, float]]) -> None:  # noqa: ANN401
    """Means with whiskers."""
    for x, interval in enumerate(intervals):
        axes.bar(x, interval["mean"], color=INK)
        axes.plot([x, x], [interval["low"], interval["high"]], color="black", linewidth=1)
    axes.set_xticks(range(len(names)), names, fontsize=8, rotation=30, ha="right")
    axes.set_ylim(0, 1)
