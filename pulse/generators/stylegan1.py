"""StyleGAN1 (Karras et al. 2019), with the key names of PULSE's PyTorch weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pulse.generators.base import DEFAULTS, Generator
from pulse.generators.constants import Constants, given
from pulse.generators.ops import (
    LEAKY_SLOPE,
    Dense,
    StyleDense,
    block_sizes,
    doublings,
    filter_depthwise,
    indices_of,
    load_frozen,
    normalize_second_moment,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MAPPING_LR_MULTIPLIER = 0.01
CONV_GAIN = math.sqrt(2)
# From this size on the official networks upscale and convolve in one transposed convolution,
# whose kernel is the mirror image of the separate one's: trained weights know the difference.
FUSED_FROM_PX = 128


class MappingNetwork(nn.Module):
    """The mapping network: z (B, z_dim) to w (B, D)."""

    def __init__(
        self, z_dim: int, widths: Sequence[int], lr_multiplier: float, *, has_w_avg: bool
    ) -> None:
        super().__init__()
        if has_w_avg:
            self.register_buffer("w_avg", torch.empty(widths[-1]))
        self.num_layers = len(widths)
        sizes = [z_dim, *widths]
        for i in range(self.num_layers):
            layer = Dense(sizes[i], sizes[i + 1], gain=CONV_GAIN, lr_multiplier=lr_multiplier)
            self.add_module(f"dense{i}", layer)

    def forward(self, z: Tensor) -> Tensor:
        """Map z (B, z_dim) to w (B, D)."""
        x = normalize_second_moment(z)
        for i in range(self.num_layers):
            x = F.leaky_relu(self.get_submodule(f"dense{i}")(x), LEAKY_SLOPE)
        return x


class Conv(nn.Module):
    """A convolution with the equalised learning rate (Karras et al. 2018, section 4.1)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, gain: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.weight_gain = gain / math.sqrt(in_channels * kernel_size**2)
        self.padding = kernel_size // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, I, H, W) to (B, O, H, W)."""
        return F.conv2d(x, self.weight * self.weight_gain, self.bias, padding=self.padding)


class Blur(nn.Module):
    """The fixed low-pass filter after each upscaling."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.empty(1, 1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Blur x (B, C, H, W)."""
        return filter_depthwise(x, self.kernel[0, 0], padding=1)


class UpConv(Conv):
    """Nearest-neighbour upscaling, 3x3 convolution, blur, bias."""

    def __init__(self, in_channels: int, out_channels: int, *, is_fused: bool) -> None:
        super().__init__(in_channels, out_channels, 3, CONV_GAIN)
        self.intermediate = Blur()
        self.is_fused = is_fused

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, I, H, W) to (B, O, 2H, 2W)."""
        weight = self.weight * self.weight_gain  # (O, I, 3, 3)
        if self.is_fused:
            padded = F.pad(weight, (1, 1, 1, 1))
            spread = (
                padded[..., 1:, 1:] + padded[..., :-1, 1:]
                + padded[..., 1:, :-1] + padded[..., :-1, :-1]
            )  # (O, I, 4, 4)  # fmt: skip
            x = F.conv_transpose2d(x, spread.transpose(0, 1), stride=2, padding=1)
        else:
            x = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), weight, padding=1)
        return self.intermediate(x) + self.bias[:, None, None]


class NoiseInjection(nn.Module):
    """Noise with a learned strength for each channel; some files keep the map of training."""

    def __init__(self, channels: int, const_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels))
        if const_size:
            self.register_buffer("const", torch.empty(1, 1, const_size, const_size))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Add noise (B or 1, 1, H, W) to x (B, C, H, W)."""
        return x + self.weight[:, None, None] * noise


class StyleModulation(nn.Module):
    """Scale and shift of each channel from the style (the affine part of AdaIN)."""

    def __init__(self, channels: int, w_dim: int) -> None:
        super().__init__()
        self.lin = StyleDense(w_dim, 2 * channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Apply style w (B, D) to x (B, C, H, W)."""
        scale, shift = self.lin(w).unflatten(1, (2, -1)).unbind(1)  # (B, C) each
        return x * (scale + 1)[:, :, None, None] + shift[:, :, None, None]


class Epilogue(nn.Module):
    """What follows each convolution: noise, leaky ReLU, instance normalisation, style."""

    def __init__(self, channels: int, w_dim: int, const_size: int = 0) -> None:
        super().__init__()
        self.noise = NoiseInjection(channels, const_size)
        self.style_mod = StyleModulation(channels, w_dim)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        """Map x (B, C, H, W), w (B, D), noise (B or 1, 1, H, W) to (B, C, H, W)."""
        x = F.leaky_relu(self.noise(x, noise), LEAKY_SLOPE)
        return self.style_mod(F.instance_norm(x), w)


class InputBlock(nn.Module):
    """The learned constant at 4x4 and one convolution."""

    def __init__(self, channels: int, w_dim: int, const_size: int = 0) -> None:
        super().__init__()
        self.const = nn.Parameter(torch.empty(1, channels, 4, 4))
        self.bias = nn.Parameter(torch.empty(channels))
        self.epi1 = Epilogue(channels, w_dim, const_size)
        self.conv = Conv(channels, channels, 3, CONV_GAIN)
        self.epi2 = Epilogue(channels, w_dim, const_size)

    def forward(self, ws: Tensor, noise_maps: Sequence[Tensor]) -> Tensor:
        """Map ws (B, 2, D) and two noise maps to (B, C, 4, 4)."""
        x = (self.const + self.bias[:, None, None]).expand(ws.shape[0], -1, -1, -1)
        x = self.epi1(x, ws[:, 0], noise_maps[0])
        return self.epi2(self.conv(x), ws[:, 1], noise_maps[1])


class UpBlock(nn.Module):
    """One resolution: an upscaling convolution and a plain one."""

    def __init__(
        self, in_channels: int, channels: int, w_dim: int, const_size: int = 0, *, is_fused: bool
    ) -> None:
        super().__init__()
        self.conv0_up = UpConv(in_channels, channels, is_fused=is_fused)
        self.epi1 = Epilogue(channels, w_dim, const_size)
        self.conv1 = Conv(channels, channels, 3, CONV_GAIN)
        self.epi2 = Epilogue(channels, w_dim, const_size)

    def forward(self, x: Tensor, ws: Tensor, noise_maps: Sequence[Tensor]) -> Tensor:
        """Map x (B, I, H, W), ws (B, 2, D) and two noise maps to (B, C, 2H, 2W)."""
        x = self.epi1(self.conv0_up(x), ws[:, 0], noise_maps[0])
        return self.epi2(self.conv1(x), ws[:, 1], noise_maps[1])


class SynthesisNetwork(nn.Module):
    """Blocks of two convolutions each from 4x4 up to the resolution, then one 1x1 to colours."""

    def __init__(
        self,
        sizes: Sequence[int],
        channels: Sequence[int],
        w_dim: int,
        is_upscaling_fused: float | None = None,
        *,
        has_noise_const: bool = False,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict({"4x4": InputBlock(channels[0], w_dim, 4 * has_noise_const)})
        for i, size in enumerate(sizes[1:]):
            is_fused = bool(given(is_upscaling_fused, size >= FUSED_FROM_PX))
            self.blocks[f"{size}x{size}"] = UpBlock(
                channels[i], channels[i + 1], w_dim, size * has_noise_const, is_fused=is_fused
            )
        self.torgb = Conv(channels[-1], 3, 1, gain=1)

    def forward(self, ws: Tensor, noise_maps: Sequence[Tensor]) -> Tensor:
        """Draw (B, 3, H, W) in about [-1, 1] from ws (B, L, D) and two noise maps a block."""
        for x in self.after_blocks(ws, noise_maps):
            features = x  # one at a time: the next takes its place
        return self.torgb(features)

    def after_blocks(self, ws: Tensor, noise_maps: Sequence[Tensor]) -> Iterator[Tensor]:
        """The features (B, C, size, size) that each block hands on, in order."""
        first, *others = self.blocks.values()
        x = first(ws[:, :2], noise_maps[:2])
        yield x
        for i, block in enumerate(others, start=1):
            pair = slice(2 * i, 2 * i + 2)
            x = block(x, ws[:, pair], noise_maps[pair])
            yield x


class AbsentMapping(nn.Module):
    """Stands in for a mapping network that the weights do not hold."""

    def forward(self, z: Tensor) -> Tensor:
        """Raise ValueError: there is nothing to map z with."""
        raise ValueError(
            f"cannot map z {tuple(z.shape)}: these weights hold a synthesis network only"
        )


class StyleGAN1(Generator):
    """StyleGAN1; every size is read from the tensors.

    PULSE's `synthesis.pt` is of use without `mapping.pt`, so the mapping network may be absent.
    """

    architecture = "stylegan1"
    synthesis: SynthesisNetwork

    def __init__(self, state: Mapping[str, Tensor], constants: Constants = DEFAULTS) -> None:
        super().__init__()
        self.constants = constants
        style_key = "synthesis.blocks.{0}x{0}.epi1.style_mod.lin.weight"
        sizes = block_sizes(state, style_key)
        if not sizes:
            raise ValueError(f"no key {style_key.format(4)}")
        self.resolution = sizes[-1]
        self.num_ws = 2 * len(sizes)
        self.noise_sizes = tuple(size for size in sizes for _ in range(2))
        self.w_dim = state[style_key.format(4)].shape[1]
        dense = [
            state[f"mapping.dense{i}.weight"] for i in indices_of(state, "mapping.dense", ".weight")
        ]
        self.has_mapping = bool(dense)
        self.z_dim = dense[0].shape[1] if dense else self.w_dim
        widths = [weight.shape[0] for weight in dense]
        if widths and widths[-1] != self.w_dim:
            raise ValueError(
                f"the mapping network gives styles of {widths[-1]} numbers, but the synthesis "
                f"network takes {self.w_dim}: they are not of one generator"
            )
        has_w_avg = "mapping.w_avg" in state
        lr_multiplier = given(constants.mapping_lr_multiplier, MAPPING_LR_MULTIPLIER)
        self.mapping = (
            MappingNetwork(self.z_dim, widths, lr_multiplier, has_w_avg=has_w_avg)
            if dense
            else AbsentMapping()
        )
        channels = [state[style_key.format(size)].shape[0] // 2 for size in sizes]
        self.synthesis = SynthesisNetwork(
            sizes, channels, self.w_dim, constants.is_upscaling_fused,
            has_noise_const="synthesis.blocks.4x4.epi1.noise.const" in state,
        )  # fmt: skip

    @classmethod
    def from_state_dict(
        cls, state: Mapping[str, Tensor], constants: Constants = DEFAULTS
    ) -> StyleGAN1:
        """Build from PULSE's `synthesis.pt` and `mapping.pt`, their names under these prefixes.

        Raises:
            ValueError: naming the keys or the shape that do not fit.
        """
        with torch.device("meta"):
            G = cls(state, constants)
        load_frozen(G, state)
        return G

    @property
    def w_avg(self) -> Tensor:
        """The mean style (D,); zero where the weights hold none, as PULSE's do."""
        buffers = dict(self.mapping.named_buffers())
        return buffers.get("w_avg", super().w_avg)

    def stored_noise(self) -> list[Tensor]:
        """The noise maps that were fixed in training, (1, 1, size, size); zeros where none are."""
        kept = [v for k, v in self.synthesis.named_buffers() if k.endswith(".noise.const")]
        return kept or super().stored_noise()

    def layers_above(self, px: int) -> int:
        """See `Generator.layers_above`; two a block."""
        return 2 * doublings(px, self.resolution)

    def features(self, ws: Tensor, noise_maps: Sequence[Tensor], px: int) -> Tensor:
        """See `Generator.features`; colours are drawn by no block."""
        for x in self.synthesis.after_blocks(ws, noise_maps):
            if x.shape[-1] == px:
                return x
        raise ValueError(f"got {px} pixels, but there is no block of that size")
