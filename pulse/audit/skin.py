"""The tone of skin, measured from pixels in windows on cheeks and forehead.

The individual typology angle (Chardon et al. 1991) orders skin by how light it is against how
yellow, in CIELAB (D65): ITA = arctan((L* - 50) / b*) in degrees. A photograph's light and camera
move it by many degrees, so that the tone of one picture says little; the shift between a picture
and another that claims to show the same face in the same light says more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pulse.errors import PulseError

Array = NDArray[np.float64]

# From the lightest, with the angle in degrees from which each begins (Chardon et al. 1991; the
# darkest split off by Del Bino & Bernerd 2013).
ITA_CLASSES = (
    ("very light", 55.0), ("light", 41.0), ("intermediate", 28.0), ("tan", 10.0),
    ("brown", -30.0), ("dark", -math.inf),
)  # fmt: skip
ITA_NAMES = tuple(name for name, _ in ITA_CLASSES)

# The ten tones of the Monk Skin Tone Scale (Monk 2022), sRGB as published.
MONK_SCALE = (
    "#f6ede4", "#f3e7db", "#f7ead0", "#eadaba", "#d7bd96",
    "#a07e56", "#825c43", "#604134", "#3a312a", "#292420",
)  # fmt: skip
MONK_NAMES = tuple(f"Monk {k}" for k in range(1, 11))

# Where the windows are: means of landmarks of the iBUG 68-point marking, as (weight, points).
LEFT_CHEEK, RIGHT_CHEEK = (2, 41, 48), (14, 46, 54)  # jaw, lower lid, corner of the mouth
BROWS, NOSE = (21, 22), (33,)
FOREHEAD_RISE = 0.45  # above the brows, of the way from the nose to the brows
WINDOW = 0.13  # half a window's side, of the distance between the eyes
EYES = (slice(36, 42), slice(42, 48))


@dataclass(frozen=True)
class Tone:
    """The tone of the skin of one picture.

    Attributes:
        lightness: L* in [0, 100].
        ita_deg: individual typology angle in degrees.
        monk: 1 for the lightest to 10: the nearest tone of the Monk scale.
    """

    lightness: float
    ita_deg: float
    monk: int

    @property
    def ita_class(self) -> str:
        """The name of the angle's class."""
        return next(name for name, least in ITA_CLASSES if self.ita_deg > least)


def skin_windows(landmarks: Array) -> list[tuple[int, int, int, int]]:
    """Squares on both cheeks and the forehead: left, top, right, bottom in px.

    Args:
        landmarks: (68, 2) x, y in px.
    """
    left_eye, right_eye = (landmarks[eye].mean(0) for eye in EYES)
    half = max(1.0, WINDOW * float(np.linalg.norm(right_eye - left_eye)))
    brows, nose = landmarks[list(BROWS)].mean(0), landmarks[list(NOSE)].mean(0)
    centres = [landmarks[list(points)].mean(0) for points in (LEFT_CHEEK, RIGHT_CHEEK)]
    centres.append(brows + FOREHEAD_RISE * (brows - nose))
    return [
        (round(x - half), round(y - half), round(x + half), round(y + half)) for x, y in centres
    ]


def skin_tone(image: Image.Image, windows: Sequence[tuple[int, int, int, int]]) -> Tone:
    """Measure the tone of skin.

    The median over the windows' pixels is taken for each of L*, a* and b*, so that hair or shine in
    a part of a window does not count.

    Args:
        image: RGB.
        windows: from `skin_windows`; parts beyond the picture are left out.

    Raises:
        PulseError: if scikit-image is not installed.
    """
    pixels = np.asarray(image)
    parts = [pixels[max(0, t) : max(0, b), max(0, l) : max(0, r)] for l, t, r, b in windows]  # noqa: E741
    lab = colours().rgb2lab(np.concatenate([part.reshape(-1, 3) for part in parts])[None])[0]
    L, a, b = (float(value) for value in np.median(lab, axis=0))
    return Tone(L, ita_of(L, b), _nearest_monk((L, a, b)))


def ita_of(L: float, b: float) -> float:
    """The individual typology angle in degrees, from L* and b*."""
    return math.degrees(math.atan2(L - 50, b))


def _nearest_monk(lab: tuple[float, float, float]) -> int:
    """The tone of the Monk scale that looks nearest (CIEDE2000)."""
    tones = [[int(tone[i : i + 2], 16) for i in (1, 3, 5)] for tone in MONK_SCALE]
    scale = colours().rgb2lab(np.array([tones], np.uint8))[0]  # (10, 3)
    return int(colours().deltaE_ciede2000(scale, np.array([lab])).argmin()) + 1


def colours() -> Any:  # noqa: ANN401 (a module)
    """skimage.color.

    Raises:
        PulseError: if it is not installed.
    """
    try:
        from skimage import color
    except ImportError as error:
        raise PulseError(
            "measuring colours needs scikit-image, which is not installed; run: "
            "pip install 'pulse[audit]'"
        ) from error
    return color
