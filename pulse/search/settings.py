"""Every choice of the search, with its unit and its one default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

NoiseMode = Literal["fixed", "zero", "trainable"]
NOISE_MODES: tuple[NoiseMode, ...] = get_args(NoiseMode)

StartName = Literal["independent", "shared"]
STARTS: tuple[StartName, ...] = get_args(StartName)


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms that are added up for each picture.

    Attributes:
        l2: weight of the mean squared error in the downscaled space.
        l1: weight of ten times the mean absolute error there.
        geocross: weight of the spread of the style vectors on the sphere.
    """

    l2: float = 100.0
    l1: float = 0.0
    geocross: float = 0.05

    def __post_init__(self) -> None:
        if min(self.l2, self.l1, self.geocross) < 0 or self.l2 + self.l1 == 0:
            raise ValueError(f"got loss weights {self}, expected none below 0 and l2 or l1 above 0")


@dataclass(frozen=True)
class SearchSettings:
    """Settings of the descent (Menon et al. 2020, section 3).

    Attributes:
        steps: descent steps at most.
        step_size: the largest step of Adam, in units of the Gaussianised latent.
        tolerance: accepted mean squared error in the downscaled space, pixels in [0, 1]; 1e-3 is
            30 dB, about 8 grey levels of 255.
        loss: weights of the terms.
        noise: network noise "fixed" at its random start, all "zero", or "trainable" for the first
            maps.
        trainable_noise_maps: how many of the first noise maps the search moves.
        last_noise_map_is_zero: whether the finest map, which only adds grain, is left out.
        tile_latent: one style vector for all layers (W) instead of one for each (W+).
        start: whether the layers' style vectors begin "independent" or as one "shared" vector.
        stop_at_tolerance: whether a picture that has met the tolerance is finished.
        clamp_misfit: whether misfit below the tolerance costs nothing, as in the published loss.
    """

    steps: int = 100
    step_size: float = 0.4
    tolerance: float = 1e-3
    loss: LossWeights = LossWeights()
    noise: NoiseMode = "trainable"
    trainable_noise_maps: int = 5
    last_noise_map_is_zero: bool = True
    tile_latent: bool = False
    start: StartName = "shared"
    stop_at_tolerance: bool = True
    clamp_misfit: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"got steps {self.steps}, expected 1 or more")
        if not self.step_size > 0:
            raise ValueError(f"got step_size {self.step_size}, expected more than 0")
        if not self.tolerance >= 0:
            raise ValueError(f"got tolerance {self.tolerance}, expected 0 or more")
        if self.noise not in NOISE_MODES:
            raise ValueError(f"got noise {self.noise!r}, expected one of {', '.join(NOISE_MODES)}")
        if self.start not in STARTS:
            raise ValueError(f"got start {self.start!r}, expected one of {', '.join(STARTS)}")


PUBLISHED = SearchSettings(
    tolerance=2e-3, start="independent", stop_at_tolerance=False, clamp_misfit=True
)
"""The settings of the published search, step for step (Menon et al. 2020, section 4)."""
