"""The colours of the disagreement map: one scale for every picture, so that they compare."""

from __future__ import annotations

# A dark-to-bright scale of even lightness steps ("inferno", van der Walt & Smith 2015).
SCALE = (
    (0, 0, 4), (27, 12, 65), (74, 12, 107), (120, 28, 109), (165, 44, 96),
    (207, 68, 70), (237, 105, 37), (251, 155, 6), (247, 209, 61), (252, 255, 164),
)  # fmt: skip
SCALE_TOP = 0.2  # standard deviation drawn brightest; fixed, so that pictures can be compared
TOP_IN_WORDS = f"{SCALE_TOP * 255:.0f} of 255"
