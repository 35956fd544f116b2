"""StyleGAN2 (Karras et al. 2020), with the key names of stylegan2-ada-pytorch.

All three architectures of the paper's figure 7: "skip" adds up a picture from every block,
"resnet" adds up features, "orig" does neither. The keys tell which it is.

Modulation scales the activations before a convolution and demodulation scales them after it,
which equals scaling the weights (Karras et al. 2020, equations 1 and 3) and lets the whole batch
share one convolution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pulse.generators.base import DEFAULTS, Generator
from pulse.generators.constants import Constants, given
from pulse.generators.mapping import MAPPING_LR_MULTIPLIER, MappingNetwork
from pulse.generators.ops import (
    LEAKY_SLOPE,
    Kept,
    StyleDense,
    at_least_single,
    block_sizes,
    convolve_pixels,
    doublings,
    feature_dtype,
    filter_depthwise,
    is_half,
    load_frozen,
    memory_format,
    times_rows,
    upsample_filtered,
    without_autocast,
)
from pulse.generators.stylegan2_plan import BlockPlan, plan_blocks

if TYPE_CHECKING:
    from collections.abc import Mapping

RunBlock = Callable[..., tuple[Tensor, Tensor | None]]  # as a `SynthesisBlock` is called

ACTIVATION_GAIN = math.sqrt(2)
RESIDUAL_GAIN = math.sqrt(1 / 2)  # a sum of two signals of unit variance has unit variance


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, noise, bias and leaky ReLU; doubles the size if `up`."""

    resample_filter: Tensor
    noise_const: Tensor

    def __init__(self, in_channels: int, out_channels: int, w_dim: int, size: int, taps: int,
                 *, up: bool, has_noise: bool = True, clamp: float = math.inf) -> None:  # fmt: skip
        super().__init__()
        self.up = up
        self.clamp = clamp
        self.has_noise = has_noise
        self.affine = StyleDense(w_dim, in_channels)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.kept = Kept()
        if has_noise:
            self.noise_strength = nn.Parameter(torch.empty([]))
            self.register_buffer("noise_const", torch.empty(size, size))
        self.register_buffer("resample_filter", torch.empty(taps, taps))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        """Map x (B, I, H, W) with style w (B, D) to (B, O, H, W), or (B, O, 2H, 2W) if `up`."""
        styles: Tensor = self.affine(w)  # (B, I)
        if is_half(x):
            styles = in_range(styles)
        weight, squares, bias = self.weights_for(x)
        # the gain of the activation is taken before it, where it costs no pass over the features
        gain = demodulation(styles, squares) * ACTIVATION_GAIN  # (B, O)
        x = self.convolve(x * styles[:, :, None, None].to(x.dtype), weight)
        x = torch.addcmul(bias, x, gain[:, :, None, None].to(x.dtype))
        if noise is not None:
            x = x.add_((noise * (self.noise_strength * ACTIVATION_GAIN)).to(x.dtype))
        return clamped(F.leaky_relu_(x, LEAKY_SLOPE), self.clamp)

    def weights_for(self, x: Tensor) -> tuple[Tensor, ...]:
        """Weight and bias as features like x meet them, and what demodulation needs of the weight.

        Returns:
            weight (O, I, 3, 3), or (I, O, 3, 3) if `up`, the sums of its squares over the kernel
            (O, I), and the bias (O, 1, 1) with the activation's gain.
        """
        dtype, half = feature_dtype(x), is_half(x)
        order = memory_format(x) if self.up else None

        def make() -> tuple[Tensor, ...]:
            with without_autocast(x):
                weight, squares = made_weight(self.weight, dtype, is_in_range=half)
            if order is not None:  # that of the features: it would be copied in every pass
                weight = weight.transpose(0, 1).contiguous(memory_format=order)
            bias = (self.bias * ACTIVATION_GAIN).to(dtype)
            return weight, squares, bias[:, None, None]

        return self.kept.of((self.weight, self.bias), (dtype, half, order), make)

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """The convolution alone, shared by the batch."""
        if not self.up:
            return F.conv2d(x, weight, padding=1)
        x = F.conv_transpose2d(x, weight, stride=2)  # (B, O, 2H + 1, 2W + 1)
        taps = self.resample_filter.shape[0]
        x = filter_depthwise(x, 4 * self.resample_filter, padding=(taps - 1) // 2)
        return x if taps % 2 == 0 else x[..., :-1, :-1]  # no odd filter has its centre between


def demodulation(styles: Tensor, squares: Tensor) -> Tensor:
    """What brings each output channel back to unit variance (equation 3): (B, O).

    Args:
        styles: (B, I).
        squares: (O, I) sums of the weight's squares.
    """
    with without_autocast(styles):
        return (times_rows(at_least_single(styles).square(), squares) + 1e-8).rsqrt()


def in_range(styles: Tensor) -> Tensor:
    """Styles (B, I) that half precision has room for: the largest becomes 1.

    Demodulation undoes it.
    """
    styles = at_least_single(styles)
    tiny = torch.finfo(torch.float32).tiny  # all may be 0
    return styles / styles.abs().amax(1, keepdim=True).clamp(min=tiny)


def in_range_weight(weight: Tensor) -> Tensor:
    """A weight (O, I, k, k) whose sums of I k k features half precision has room for.

    No output sums up to more than sqrt(I k k); demodulation undoes it.
    """
    weight = at_least_single(weight)
    largest = weight.abs().amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    return weight / (largest * math.sqrt(weight[0].numel()))


def made_weight(weight: Tensor, dtype: torch.dtype, *, is_in_range: bool) -> tuple[Tensor, Tensor]:
    """A weight (O, I, k, k) in the precision of features, and (O, I) sums of its squares."""
    weight = in_range_weight(weight) if is_in_range else weight
    return weight.to(dtype), at_least_single(weight).square().sum((2, 3))


def clamped(x: Tensor, clamp: float) -> Tensor:
    """Cut off what is further than `clamp` from 0, as networks trained in half precision do."""
    return x if clamp == math.inf else x.clamp(-clamp, clamp)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to three channels, without demodulation."""

    def __init__(self, in_channels: int, w_dim: int, clamp: float = math.inf) -> None:
        super().__init__()
        self.clamp = clamp
        self.affine = StyleDense(w_dim, in_channels)
        self.weight = nn.Parameter(torch.empty(3, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.empty(3))
        self.weight_gain = 1 / math.sqrt(in_channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map x (B, I, H, W) with style w (B, D) to (B, 3, H, W)."""
        styles = self.affine(w) * self.weight_gain  # (B, I)
        # three outputs: cheaper to scale the few weights than all activations
        weight = self.weight[None, :, :, 0, 0] * styles[:, None, :]  # (B, 3, I)
        rgb = convolve_pixels(x, weight).to(w.dtype)  # (B, 3, H, W); colours are summed in single
        return clamped(rgb + self.bias[:, None, None], self.clamp)


class Shortcut(nn.Module):
    """The shortcut of a residual block: 1x1 convolution without bias, and double the size."""

    resample_filter: Tensor

    def __init__(self, in_channels: int, out_channels: int, taps: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 1, 1))
        self.register_buffer("resample_filter", torch.empty(taps, taps))
        self.weight_gain = 1 / math.sqrt(in_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, I, H, W) to (B, O, 2H, 2W)."""
        x = F.conv2d(x, self.weight * self.weight_gain)
        return upsample_filtered(x, self.resample_filter)


class SynthesisBlock(nn.Module):
    """One resolution: two styled convolutions (one at 4x4), and perhaps a shortcut and colours."""

    resample_filter: Tensor

    def __init__(self, plan: BlockPlan, w_dim: int) -> None:
        super().__init__()
        self.plan = plan
        size, channels, taps = plan.size, plan.channels, plan.taps[0]
        noise, clamp = plan.has_noise, plan.clamp
        if plan.in_channels == 0:
            self.const = nn.Parameter(torch.empty(channels, size, size))
        else:
            self.conv0 = StyledConv(plan.in_channels, channels, w_dim, size, plan.taps[1],
                                    up=True, has_noise=noise, clamp=clamp)  # fmt: skip
        self.conv1 = StyledConv(channels, channels, w_dim, size, plan.taps[-1],
                                up=False, has_noise=noise, clamp=clamp)  # fmt: skip
        if plan.has_torgb:
            self.torgb = ToRGB(channels, w_dim, clamp)
        if plan.has_shortcut:
            self.skip = Shortcut(plan.in_channels, channels, taps)
        self.register_buffer("resample_filter", torch.empty(taps, taps))

    @property
    def convs(self) -> list[StyledConv]:
        """The styled convolutions in order."""
        return [self.conv1] if self.plan.in_channels == 0 else [self.conv0, self.conv1]

    def forward(
        self,
        x: Tensor | None,
        rgb: Tensor | None,
        ws: Sequence[Tensor],
        noise_maps: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor | None]:
        """Map features and picture to those of twice the size.

        Args:
            x: (B, I, H, W), or None at the first block.
            rgb: (B, 3, H, W), or None where no block has drawn yet.
            ws: (B, D) for each convolution, and one for the colours.
            noise_maps: one for each convolution, or none.
        """
        if x is None:
            x = self.const.expand(len(ws[0]), -1, -1, -1)
        shortcut = self.skip(x) if self.plan.has_shortcut else None
        for i, conv in enumerate(self.convs):
            x = conv(x, ws[i], noise_maps[i] if noise_maps else None)
        if shortcut is not None:
            x = (x + shortcut) * RESIDUAL_GAIN
        if rgb is not None:
            with without_autocast(rgb):
                rgb = upsample_filtered(rgb, self.resample_filter)
        if self.plan.has_torgb:
            y = self.torgb(x, ws[len(self.convs)])
            rgb = y if rgb is None else rgb + y
        return x, rgb


class SynthesisNetwork(nn.Module):
    """Blocks b4, b8, ... up to the resolution."""

    def __init__(self, plans: Sequence[BlockPlan], w_dim: int) -> None:
        super().__init__()
        for plan in plans:
            self.add_module(f"b{plan.size}", SynthesisBlock(plan, w_dim))

    @property
    def blocks(self) -> list[SynthesisBlock]:
        """The blocks from 4x4 up."""
        return [block for block in self.children() if isinstance(block, SynthesisBlock)]

    def forward(self, ws: Tensor, noise_maps: Sequence[Tensor]) -> Tensor:
        """Draw (B, 3, H, W) in about [-1, 1] from ws (B, L, D) and one noise map a convolution."""
        return self.by_blocks(self.blocks, ws, noise_maps)

    def by_blocks(
        self, runs: Sequence[RunBlock], ws: Tensor, noise_maps: Sequence[Tensor]
    ) -> Tensor:
        """The same, each block run as given: by itself, or by what it was compiled to."""
        colours = None
        for _, rgb in self.after_blocks(runs, ws, noise_maps):
            colours = rgb
        assert colours is not None
        return colours

    def after_blocks(
        self, runs: Sequence[RunBlock], ws: Tensor, noise_maps: Sequence[Tensor]
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The features and the colours, if any yet, that each block hands on, in order."""
        x: Tensor | None = None
        rgb: Tensor | None = None
        of_layers = ws.unbind(1)  # at once: each indexing would have a gradient of the size of all
        i = 0  # convolutions so far; a block's colours share a style with the next block's conv0
        for block, run in zip(self.blocks, runs, strict=True):
            n = len(block.convs)
            x, rgb = run(x, rgb, of_layers[i : i + n + 1], noise_maps[i : i + n])
            yield x, rgb
            i += n


class StyleGAN2(Generator):
    """StyleGAN2; every size and the architecture are read from the tensors."""

    architecture = "stylegan2"
    mapping: MappingNetwork
    synthesis: SynthesisNetwork

    def __init__(self, state: Mapping[str, Tensor], constants: Constants = DEFAULTS) -> None:
        super().__init__()
        self.constants = constants
        sizes = block_sizes(state, "synthesis.b{}.conv1.weight")
        if not sizes or "mapping.fc0.weight" not in state:
            raise ValueError("no keys synthesis.b4.conv1.weight and mapping.fc0.weight")
        if f"synthesis.b{sizes[-1]}.torgb.weight" not in state:
            raise ValueError(f"no key synthesis.b{sizes[-1]}.torgb.weight")
        self.resolution = sizes[-1]
        self.num_ws = 2 * len(sizes)
        lr_multiplier = given(constants.mapping_lr_multiplier, MAPPING_LR_MULTIPLIER)
        self.mapping = MappingNetwork(state, lr_multiplier)
        self.z_dim = self.mapping.z_dim
        self.w_dim = self.mapping.w_dim
        self.num_classes = self.mapping.num_classes
        plans = plan_blocks(state, sizes, given(constants.conv_clamp, math.inf))
        self.noise_sizes = tuple(plan.size for plan in plans for _ in range(plan.num_noise_maps))
        self.synthesis = SynthesisNetwork(plans, self.w_dim)

    @classmethod
    def from_state_dict(
        cls, state: Mapping[str, Tensor], constants: Constants = DEFAULTS
    ) -> StyleGAN2:
        """Build from the state dict of a stylegan2-ada-pytorch generator (`G_ema`).

        Raises:
            ValueError: naming the keys or the shape that do not fit.
        """
        with torch.device("meta"):
            G = cls(state, constants)
        load_frozen(G, state)
        return G

    @property
    def w_avg(self) -> Tensor:
        """The mean style (D,)."""
        return self.mapping.get_buffer("w_avg")

    def stored_noise(self) -> list[Tensor]:
        """The noise maps that were fixed in training, (1, 1, size, size) each."""
        convs = [conv for block in self.synthesis.blocks for conv in block.convs]
        return [conv.noise_const[None, None] for conv in convs if conv.has_noise]

    def layers_above(self, px: int) -> int:
        """See `Generator.layers_above`; colours share a style with the next block's first layer."""
        blocks = doublings(px, self.resolution)
        return 2 * blocks + 1 if blocks else 0

    def features(self, ws: Tensor, noise_maps: Sequence[Tensor], px: int) -> Tensor:
        """See `Generator.features`; the last three channels are colours, where blocks draw them."""
        blocks = self.synthesis.blocks
        for x, rgb in self.synthesis.after_blocks(blocks, ws, noise_maps):
            if x.shape[-1] == px:
                return x if rgb is None else torch.cat([x, rgb.to(x.dtype)], 1)
        raise ValueError(f"got {px} pixels, but there is no block of that size")
