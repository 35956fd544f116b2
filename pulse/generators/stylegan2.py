"""StyleGAN2 (Karras et al. 2020), with the key names of stylegan2-ada-pytorch.

Modulation scales the activations before a convolution and demodulation scales them after it,
which equals scaling the weights (Karras et al. 2020, equations 1 and 3) and lets the whole batch
share one convolution.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pulse.generators.base import Generator
from pulse.generators.ops import (
    LEAKY_SLOPE,
    Dense,
    block_sizes,
    filter_depthwise,
    indices_of,
    load_frozen,
    normalize_second_moment,
    upsample_filtered,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAPPING_LR_MULTIPLIER = 0.01
ACTIVATION_GAIN = math.sqrt(2)


class MappingNetwork(nn.Module):
    """The mapping network: z (B, z_dim) to w (B, D) through equalised dense layers."""

    def __init__(self, z_dim: int, w_dim: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.num_layers = len(widths)
        sizes = [z_dim, *widths]
        for i in range(self.num_layers):
            layer = Dense(sizes[i], sizes[i + 1], lr_multiplier=MAPPING_LR_MULTIPLIER)
            self.add_module(f"fc{i}", layer)
        self.register_buffer("w_avg", torch.empty(w_dim))

    def forward(self, z: Tensor) -> Tensor:
        """Map z (B, z_dim) to w (B, D)."""
        x = normalize_second_moment(z)
        for i in range(self.num_layers):
            x = F.leaky_relu(self.get_submodule(f"fc{i}")(x), LEAKY_SLOPE) * ACTIVATION_GAIN
        return x


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, noise, bias and leaky ReLU; doubles the size if `up`."""

    resample_filter: Tensor
    noise_const: Tensor

    def __init__(self, in_channels: int, out_channels: int, w_dim: int, size: int, taps: int,
                 *, up: bool) -> None:  # fmt: skip
        super().__init__()
        self.up = up
        self.affine = Dense(w_dim, in_channels)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.noise_strength = nn.Parameter(torch.empty([]))
        self.register_buffer("noise_const", torch.empty(size, size))
        self.register_buffer("resample_filter", torch.empty(taps, taps))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        """Map x (B, I, H, W) with style w (B, D) to (B, O, H, W), or (B, O, 2H, 2W) if `up`."""
        styles = self.affine(w)  # (B, I)
        demodulation = self.demodulation(styles)  # (B, O)
        x = self.convolve(x * styles[:, :, None, None])
        x = x * demodulation[:, :, None, None] + noise * self.noise_strength
        x = x + self.bias[:, None, None]
        return F.leaky_relu(x, LEAKY_SLOPE) * ACTIVATION_GAIN

    def demodulation(self, styles: Tensor) -> Tensor:
        """What brings each output channel back to unit variance (equation 3): (B, O)."""
        squares = self.weight.square().sum((2, 3))  # (O, I)
        return (styles.square() @ squares.T + 1e-8).rsqrt()

    def convolve(self, x: Tensor) -> Tensor:
        """The convolution alone, shared by the batch."""
        if not self.up:
            return F.conv2d(x, self.weight, padding=1)
        x = F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2)  # (B, O, 2H + 1, 2W + 1)
        return filter_depthwise(x, 4 * self.resample_filter, padding=1)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to three channels, without demodulation."""

    def __init__(self, in_channels: int, w_dim: int) -> None:
        super().__init__()
        self.affine = Dense(w_dim, in_channels)
        self.weight = nn.Parameter(torch.empty(3, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.empty(3))
        self.weight_gain = 1 / math.sqrt(in_channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map x (B, I, H, W) with style w (B, D) to (B, 3, H, W)."""
        styles = self.affine(w) * self.weight_gain  # (B, I)
        # three outputs: cheaper to scale the few weights than all activations
        weight = self.weight[None, :, :, 0, 0] * styles[:, None, :]  # (B, 3, I)
        rgb = weight @ x.flatten(2)  # (B, 3, HW)
        return rgb.unflatten(2, x.shape[2:]) + self.bias[:, None, None]


class SynthesisBlock(nn.Module):
    """One resolution: two styled convolutions (one at 4x4) and the picture so far."""

    resample_filter: Tensor

    def __init__(self, size: int, in_channels: int, channels: int, w_dim: int, taps: int) -> None:
        super().__init__()
        self.is_first = in_channels == 0
        if self.is_first:
            self.const = nn.Parameter(torch.empty(channels, size, size))
        else:
            self.conv0 = StyledConv(in_channels, channels, w_dim, size, taps, up=True)
        self.conv1 = StyledConv(channels, channels, w_dim, size, taps, up=False)
        self.torgb = ToRGB(channels, w_dim)
        self.register_buffer("resample_filter", torch.empty(taps, taps))

    @property
    def convs(self) -> list[StyledConv]:
        """The styled convolutions in order."""
        return [self.conv1] if self.is_first else [self.conv0, self.conv1]

    def forward(
        self, x: Tensor | None, rgb: Tensor | None, ws: Tensor, noise_maps: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Map features and picture to those of twice the size.

        Args:
            x: (B, I, H, W), or None at the first block.
            rgb: (B, 3, H, W), or None at the first block.
            ws: (B, convolutions + 1, D), the last for the colours.
            noise_maps: one for each convolution.
        """
        if x is None:
            x = self.const.expand(ws.shape[0], -1, -1, -1)
        for i, conv in enumerate(self.convs):
            x = conv(x, ws[:, i], noise_maps[i])
        y = self.torgb(x, ws[:, len(self.convs)])
        return x, y if rgb is None else upsample_filtered(rgb, self.resample_filter) + y


class SynthesisNetwork(nn.Module):
    """Blocks b4, b8, ... up to the resolution."""

    def __init__(
        self, sizes: Sequence[int], channels: Sequence[int], w_dim: int, taps: int
    ) -> None:
        super().__init__()
        for i, size in enumerate(sizes):
            in_channels = 0 if i == 0 else channels[i - 1]
            self.add_module(f"b{size}", SynthesisBlock(size, in_channels, channels[i], w_dim, taps))

    @property
    def blocks(self) -> list[SynthesisBlock]:
        """The blocks from 4x4 up."""
        return [block for block in self.children() if isinstance(block, SynthesisBlock)]

    def forward(self, ws: Tensor, noise_maps: Sequence[Tensor]) -> Tensor:
        """Draw (B, 3, H, W) in about [-1, 1] from ws (B, L, D) and one noise map a convolution."""
        x: Tensor | None = None
        rgb: Tensor | None = None
        i = 0  # convolutions so far; a block's colours share a style with the next block's conv0
        for block in self.blocks:
            n = len(block.convs)
            x, rgb = block(x, rgb, ws[:, i : i + n + 1], noise_maps[i : i + n])
            i += n
        assert rgb is not None
        return rgb


class StyleGAN2(Generator):
    """StyleGAN2 with skip connections; every size is read from the tensors."""

    architecture = "stylegan2"
    synthesis: SynthesisNetwork

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        sizes = block_sizes(state, "synthesis.b{}.conv1.weight")
        if not sizes or "mapping.fc0.weight" not in state:
            raise ValueError("no keys synthesis.b4.conv1.weight and mapping.fc0.weight")
        self.resolution = sizes[-1]
        self.num_ws = 2 * len(sizes)
        self.z_dim = state["mapping.fc0.weight"].shape[1]
        self.w_dim = state["synthesis.b4.conv1.affine.weight"].shape[1]
        self.noise_sizes = (4, *(size for size in sizes[1:] for _ in range(2)))
        widths = [
            state[f"mapping.fc{i}.weight"].shape[0]
            for i in indices_of(state, "mapping.fc", ".weight")
        ]
        self.mapping = MappingNetwork(self.z_dim, self.w_dim, widths)
        channels = [state[f"synthesis.b{size}.conv1.weight"].shape[0] for size in sizes]
        taps = state["synthesis.b4.resample_filter"].shape[0]
        self.synthesis = SynthesisNetwork(sizes, channels, self.w_dim, taps)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> StyleGAN2:
        """Build from the state dict of a stylegan2-ada-pytorch generator (`G_ema`).

        Raises:
            ValueError: naming the keys or the shape that do not fit.
        """
        with torch.device("meta"):
            G = cls(state)
        load_frozen(G, state)
        return G

    @property
    def w_avg(self) -> Tensor:
        """The mean style (D,)."""
        return self.mapping.get_buffer("w_avg")

    def stored_noise(self) -> list[Tensor]:
        """The noise maps that were fixed in training, (1, 1, size, size) each."""
        convs = [conv for block in self.synthesis.blocks for conv in block.convs]
        return [conv.noise_const[None, None] for conv in convs]
