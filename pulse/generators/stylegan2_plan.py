"""What the tensors of a StyleGAN2 tell of its blocks; see `stylegan2`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor


@dataclass(frozen=True)
class BlockPlan:
    """What the tensors of one block tell.

    Attributes:
        size: pixels a side.
        in_channels: channels of the block before; 0 for the first, which starts from a constant.
        channels: channels it gives.
        taps: sizes of the resampling filters of the block and of its convolutions.
        has_noise: whether its convolutions take noise maps.
        clamp: where its activations are cut off; inf for nowhere.
        has_shortcut: whether its features are added to those that it took.
        has_torgb: whether it draws.
    """

    size: int
    in_channels: int
    channels: int
    taps: tuple[int, ...]
    has_noise: bool
    clamp: float
    has_shortcut: bool
    has_torgb: bool

    @property
    def num_noise_maps(self) -> int:
        """How many noise maps it takes, one for each convolution."""
        return (len(self.taps) - 1) * self.has_noise


def filter_taps(state: Mapping[str, Tensor], key: str) -> int:
    """The size of a stored resampling filter.

    Raises:
        ValueError: if there is none, or it is no square of two or more.
    """
    if key not in state:
        raise ValueError(f"no key {key}")
    shape = tuple(state[key].shape)
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] < 2:
        raise ValueError(f"{key} has shape {shape}, expected a square of 2 or more")
    return shape[0]


def plan_blocks(
    state: Mapping[str, Tensor], sizes: Sequence[int], clamp: float = math.inf
) -> list[BlockPlan]:
    """Read the plans of the blocks of these sizes from the names and shapes of the tensors.

    Raises:
        ValueError: if a filter is missing or odd, or the network draws other than 3 channels.
    """
    colours = state[f"synthesis.b{sizes[-1]}.torgb.weight"].shape[0]
    if colours != 3:
        raise ValueError(f"synthesis.b{sizes[-1]} draws {colours} channels, expected 3")
    channels = [state[f"synthesis.b{size}.conv1.weight"].shape[0] for size in sizes]
    is_skip = "synthesis.b4.torgb.weight" in state
    is_resnet = "synthesis.b8.skip.weight" in state
    return [
        BlockPlan(
            size=size,
            in_channels=before,
            channels=here,
            taps=tuple(
                filter_taps(state, f"synthesis.b{size}.{module}resample_filter")
                for module in (("", "conv0.", "conv1.") if size > 4 else ("", "conv1."))
            ),
            has_noise="synthesis.b4.conv1.noise_strength" in state,
            clamp=clamp,
            has_shortcut=is_resnet and size > 4,
            has_torgb=is_skip or size == sizes[-1],
        )
        for size, before, here in zip(sizes, [0, *channels[:-1]], channels, strict=True)
    ]
