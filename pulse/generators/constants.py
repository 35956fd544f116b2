"""What a network was built with that none of its tensors tells."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

MOST = 1e6  # larger than any that makes sense


@dataclass(frozen=True)
class Constants:
    """Numbers that a file may state beside its tensors; None is what the published networks have.

    Attributes:
        conv_clamp: activations are cut off at this much above and below 0; inf cuts none.
        mapping_lr_multiplier: factor on the weights of the mapping network's layers.
        is_upscaling_fused: whether StyleGAN1 upscales and convolves in one transposed convolution,
            at every size (1) or none (0); None is from 128 px on.
        output_gain: factor on the colours of StyleGAN3.
        margin_px: samples around the picture in StyleGAN3.
        first_cutoff: highest frequency of StyleGAN3's input that is not faded, in cycles.
        oversampling: how much finer StyleGAN3 samples for its leaky ReLU.
    """

    conv_clamp: float | None = None
    mapping_lr_multiplier: float | None = None
    is_upscaling_fused: float | None = None
    output_gain: float | None = None
    margin_px: float | None = None
    first_cutoff: float | None = None
    oversampling: float | None = None

    def __post_init__(self) -> None:
        for name, value in self.stated().items():
            is_number = isinstance(value, int | float) and 0 <= value <= MOST
            if not is_number and not (name == "conv_clamp" and value == math.inf):
                raise ValueError(f"the constant {name} is {value!r:.50}, expected a number from 0")
        for name in ("margin_px", "oversampling"):
            value = getattr(self, name)
            if value is not None and (value != int(value) or value < (name == "oversampling")):
                raise ValueError(f"the constant {name} is {value!r:.50}, expected a whole number")

    def stated(self) -> dict[str, float]:
        """Those that are stated, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def of(cls, table: Mapping[str, float]) -> Constants:
        """The constants of a table by name.

        Raises:
            ValueError: if there are others in it, or one is no number.
        """
        if not isinstance(table, Mapping):
            raise ValueError("no table of constants")
        known = {field.name for field in fields(cls)}
        if unknown := [name for name in table if name not in known]:
            raise ValueError(
                f"the constant {unknown[0]!r:.50}, expected {', '.join(sorted(known))}"
            )
        return cls(**table)


def given(value: float | None, default: float) -> float:
    """A constant, or what the published networks have."""
    return default if value is None else value
