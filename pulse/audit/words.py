"""Figures of an audit in words, for its page and its section of a model card."""

from __future__ import annotations

from typing import Any


def interval_words(interval: dict[str, float] | None, digits: int) -> str:
    """A mean and its interval, or that people are too few."""
    if interval is None:
        return "too few"
    mean, low, high = (f"{interval[key]:.{digits}f}" for key in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def representation_words(r: dict[str, Any]) -> str:
    """Jalal et al.'s four definitions in one line.

    Args:
        r: a `Representation` as in audit.json.
    """
    parity, conditional = r["demographic_parity_gap"], r["conditional_gap"]
    return ", ".join([
        "representation demographic parity gap "
        + ("too few people" if parity is None else f"{parity:.2f}"),
        f"proportional representation gap {r['proportional_gap']:.2f}",
        f"symmetric pairwise error {r['pairwise_gap']:.2f}",
        "conditional proportional representation "
        + (
            "not measurable (no two photographs share a low-resolution picture)"
            if conditional is None
            else f"gap {conditional:.2f} over {r['shared']} low-resolution pictures"
        ),
    ])  # fmt: skip
