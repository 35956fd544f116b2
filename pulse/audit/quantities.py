"""Numbers read off a face in fixed windows: skin, hair and background.

Windows are shares of the picture's height and width, for faces aligned as in FFHQ.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pulse.audit.skin import colours

Window = tuple[float, float, float, float]  # top, bottom, left, right
CHEEKS: tuple[Window, ...] = ((0.58, 0.68, 0.27, 0.38), (0.58, 0.68, 0.62, 0.73))
FOREHEAD: tuple[Window, ...] = ((0.27, 0.35, 0.40, 0.60),)
HAIR: tuple[Window, ...] = ((0.06, 0.14, 0.38, 0.62),)
BACKGROUND: tuple[Window, ...] = ((0.03, 0.25, 0.00, 0.10), (0.03, 0.25, 0.90, 1.00))


def lab_of(images: Tensor) -> Tensor:
    """CIELAB (D65) of pictures (N, 3, H, W) float in [0, 1]: the same shape.

    Raises:
        PulseError: if scikit-image is not installed.
    """
    lab = colours().rgb2lab(images.permute(0, 2, 3, 1).double().numpy())
    return torch.from_numpy(np.ascontiguousarray(lab)).permute(0, 3, 1, 2).float()


def mean_in(lab: Tensor, windows: tuple[Window, ...]) -> Tensor:
    """Mean of pictures (N, C, H, W) over windows: (N, C)."""
    H, W = lab.shape[2:]
    parts = [
        lab[:, :, round(top * H) : round(bottom * H), round(left * W) : round(right * W)]
        for top, bottom, left, right in windows
    ]
    return torch.stack([part.mean((2, 3)) for part in parts]).mean(0)


def ita_of(lab: Tensor) -> Tensor:
    """Individual typology angle, degrees, of colours (N, 3): arctan((L* - 50) / b*).

    Chardon, Cretois & Hourseau 1991; larger is lighter.
    """
    return torch.atan2(lab[:, 0] - 50, lab[:, 2]) * (180 / math.pi)


QUANTITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "cheek lightness": lambda lab: mean_in(lab, CHEEKS)[:, 0],
    "cheek ITA": lambda lab: ita_of(mean_in(lab, CHEEKS)),
    "forehead lightness": lambda lab: mean_in(lab, FOREHEAD)[:, 0],
    "forehead ITA": lambda lab: ita_of(mean_in(lab, FOREHEAD)),
    "hair lightness": lambda lab: mean_in(lab, HAIR)[:, 0],
    "background lightness": lambda lab: mean_in(lab, BACKGROUND)[:, 0],
    "left minus right": lambda lab: (
        mean_in(lab, ((0, 1, 0, 0.5),))[:, 0] - mean_in(lab, ((0, 1, 0.5, 1),))[:, 0]
    ),
}
"""What is read off pictures in CIELAB (N, 3, H, W): (N,) each."""


def quantities_of(images: Tensor) -> dict[str, Tensor]:
    """Every quantity of pictures (N, 3, H, W) float in [0, 1], on the CPU: (N,) each."""
    lab = lab_of(images)
    return {name: read(lab) for name, read in QUANTITIES.items()}
