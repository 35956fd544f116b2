"""What the names and shapes of StyleGAN3's tensors tell of its layers: rates, factors and crops."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from pulse.generators.base import DEFAULTS
from pulse.generators.constants import Constants, given

# Of the published networks; a file may state others.
MARGIN_PX = 10
OVERSAMPLING = 2

LAYER_KEY = re.compile(r"synthesis\.(L(\d+)_(\d+)_(\d+))\.weight")


@dataclass(frozen=True)
class LayerPlan:
    """What the tensors and names of one layer tell.

    Attributes:
        name: `L{index}_{size}_{channels}`.
        in_channels: channels it takes.
        out_channels: channels it gives.
        kernel_size: pixels a side of its convolution.
        in_size: pixels a side of what it takes.
        out_size: pixels a side of what it gives.
        in_rate: sampling rate of what it takes.
        out_rate: sampling rate of what it gives.
        up_shape: shape of its upsampling filter; empty for the last layer, which has none.
        down_shape: shape of its downsampling filter, likewise.
        oversampling: how much finer the nonlinearity is sampled than the finer of both rates.
    """

    name: str
    in_channels: int
    out_channels: int
    kernel_size: int
    in_size: int
    out_size: int
    in_rate: int
    out_rate: int
    up_shape: tuple[int, ...]
    down_shape: tuple[int, ...]
    oversampling: int = OVERSAMPLING

    @property
    def up(self) -> int:
        """Factor from the input's rate to the rate at which the nonlinearity is applied."""
        return self.oversampling * max(self.in_rate, self.out_rate) // self.in_rate

    @property
    def down(self) -> int:
        """Factor from there to the output's rate."""
        return self.oversampling * max(self.in_rate, self.out_rate) // self.out_rate

    @property
    def crop(self) -> int:
        """Samples to cut from each side after upsampling so that the output has its size.

        Raises:
            ValueError: if no crop gives that size.
        """
        conv_size = self.in_size + self.kernel_size - 1
        upsampled = (conv_size - 1) * self.up + self.up_shape[-1]
        needed = (self.out_size - 1) * self.down + self.down_shape[-1]
        if upsampled < needed or (upsampled - needed) % 2:
            raise ValueError(
                f"{self.name} has {upsampled} samples a side before its last filter, "
                f"expected {needed} or an even number more"
            )
        return (upsampled - needed) // 2


def sampling_rates(names: Sequence[str], margin_px: int = MARGIN_PX) -> list[int]:
    """The sampling rates of layers from their sizes: powers of two, with a margin around.

    The last two layers have the size of the picture, and the rate that it needs.

    Raises:
        ValueError: if a size fits neither.
    """
    sizes = [int(name.split("_")[1]) for name in names]
    finest = 1 << (sizes[-1] - 1).bit_length()
    rates = [size - 2 * margin_px for size in sizes[:-2]]
    for name, size, rate in zip(names, sizes, rates, strict=False):
        if rate < 1 or rate & (rate - 1) or rate > finest:
            raise ValueError(
                f"{name} is {size} px a side, expected "
                f"a power of two up to {finest} with {margin_px} px more on each side"
            )
    if sizes[-2] != sizes[-1]:
        raise ValueError(f"{names[-2]} is {sizes[-2]} px a side, expected {sizes[-1]}")
    return [*rates, finest, finest]


def layer_names(state: Mapping[str, Tensor]) -> list[str]:
    """The names L0_..., L1_..., ... in order.

    Raises:
        ValueError: if there are fewer than two, or one is missing or double.
    """
    found = [match for key in state if (match := LAYER_KEY.fullmatch(key))]
    found.sort(key=lambda match: int(match[2]))
    names = [match[1] for match in found]
    if len(names) < 2 or [int(match[2]) for match in found] != list(range(len(found))):
        raise ValueError(f"got the layers {names}, expected synthesis.L0_..., L1_... and so on")
    return names


def plan_layers(state: Mapping[str, Tensor], constants: Constants = DEFAULTS) -> list[LayerPlan]:
    """Read every layer's plan from the names and shapes of the tensors.

    Raises:
        ValueError: naming the layer or key that does not fit.
    """
    names = layer_names(state)
    sizes = [int(name.split("_")[1]) for name in names]
    rates = sampling_rates(names, int(given(constants.margin_px, MARGIN_PX)))
    oversampling = int(given(constants.oversampling, OVERSAMPLING))
    plans = []
    for i, name in enumerate(names):
        out_channels, in_channels, kernel_size = state[f"synthesis.{name}.weight"].shape[:3]
        before = max(i - 1, 0)  # the input of L0 has the size and rate of its output
        is_last = i == len(names) - 1
        plan = LayerPlan(
            name=name, in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size,
            in_size=sizes[before], out_size=sizes[i], in_rate=rates[before], out_rate=rates[i],
            up_shape=() if is_last else filter_shape(state, name, "up_filter"),
            down_shape=() if is_last else filter_shape(state, name, "down_filter"),
            oversampling=oversampling,
        )  # fmt: skip
        plans.append(plan)
    if plans[-1].out_channels != 3:
        raise ValueError(f"{names[-1]} draws {plans[-1].out_channels} channels, expected 3")
    return plans


def filter_shape(state: Mapping[str, Tensor], name: str, kind: str) -> tuple[int, ...]:
    """The shape of a stored filter: (taps,) if separable, (taps, taps) if radial.

    Raises:
        ValueError: if there is none, or it is neither.
    """
    key = f"synthesis.{name}.{kind}"
    if key not in state:
        raise ValueError(f"no key {key}")
    shape = tuple(state[key].shape)
    if len(shape) not in (1, 2) or len(set(shape)) != 1:
        raise ValueError(f"{key} has shape {shape}, expected (taps,) or (taps, taps)")
    return shape
