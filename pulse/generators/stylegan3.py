"""StyleGAN3 (Karras et al. 2021), configurations T and R, with the key names of NVIDIA's code.

Features are samples of a continuous signal: each layer has a sampling rate, in samples across the
picture, and a margin around the picture. The name of a layer holds its size, from which its rate
follows; up- and downsampling factors follow from the rates, and the crop from the sizes.

As in stylegan2.py the modulation scales activations, not weights.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pulse.generators.base import DEFAULTS, Generator
from pulse.generators.constants import Constants, given
from pulse.generators.filters import CLAMP, FilteredLeakyReLU
from pulse.generators.mapping import MAPPING_LR_MULTIPLIER, MappingNetwork
from pulse.generators.ops import (
    StyleDense,
    at_least_single,
    convolve_pixels,
    load_frozen,
    times_rows,
    without_autocast,
)
from pulse.generators.stylegan3_plan import LayerPlan, plan_layers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Constants of the published networks that no tensor tells; a file may state others.
FIRST_CUTOFF = 2.0
OUTPUT_GAIN = 0.25


class FourierInput(nn.Module):
    """Plane waves, turned and shifted by the first style, then mixed (section 3, E and H)."""

    transform: Tensor
    freqs: Tensor
    phases: Tensor

    def __init__(
        self, channels: int, w_dim: int, size: int, rate: int, cutoff: float = FIRST_CUTOFF
    ) -> None:
        super().__init__()
        self.size = size
        self.rate = rate
        self.cutoff = cutoff
        self.affine = StyleDense(w_dim, 4)
        self.weight = nn.Parameter(torch.empty(channels, channels))
        self.weight_gain = 1 / math.sqrt(channels)
        self.register_buffer("transform", torch.empty(3, 3))
        self.register_buffer("freqs", torch.empty(channels, 2))
        self.register_buffer("phases", torch.empty(channels))

    def forward(self, w: Tensor) -> Tensor:
        """Draw the first features (B, C, size, size) for style w (B, D)."""
        pose = self.pose(w)  # (B, 2, 3)
        freqs = self.freqs @ pose[:, :, :2]  # (B, C, 2), cycles across the picture
        phases = self.phases + (self.freqs @ pose[:, :, 2:]).squeeze(2)  # (B, C), cycles
        centres = torch.arange(self.size, device=w.device, dtype=freqs.dtype) + 0.5
        centres = (centres - self.size / 2) / self.rate  # (size,), 0 at the picture's middle
        along_x = freqs[:, :, :1] * centres + phases[:, :, None]  # (B, C, W)
        along_y = freqs[:, :, 1:] * centres  # (B, C, H)
        cycles = along_x[:, :, None, :] + along_y[:, :, :, None]  # (B, C, H, W)
        waves = torch.sin(2 * math.pi * cycles) * self.amplitudes(freqs)[:, :, None, None]
        return F.conv2d(waves, (self.weight * self.weight_gain)[:, :, None, None])

    def pose(self, w: Tensor) -> Tensor:
        """The rotation and translation of the picture plane for style w (B, D): (B, 2, 3)."""
        t = self.affine(w)  # (B, 4): cosine, sine, shift right, shift down
        t = t / t[:, :2].norm(dim=1, keepdim=True)
        cos, sin, dx, dy = t.unbind(1)
        shifted = torch.stack([-cos * dx + sin * dy, -sin * dx - cos * dy], dim=1)
        columns = [torch.stack([cos, sin], dim=1), torch.stack([-sin, cos], dim=1), shifted]
        pose = torch.stack(columns, dim=2)  # (B, 2, 3)
        last_row = pose.new_tensor([0, 0, 1]).expand(pose.shape[0], 1, 3)
        return (torch.cat([pose, last_row], dim=1) @ self.transform)[:, :2]

    def amplitudes(self, freqs: Tensor) -> Tensor:
        """Fade out waves (B, C, 2) that the transform made too fine for the rate: (B, C)."""
        excess = freqs.norm(dim=2) - self.cutoff
        return (1 - excess / (self.rate / 2 - self.cutoff)).clamp(0, 1)


class SynthesisLayer(nn.Module):
    """Modulated convolution and a leaky ReLU between up- and downsampling (section 3, F and R)."""

    magnitude_ema: Tensor
    up_filter: Tensor
    down_filter: Tensor

    def __init__(self, plan: LayerPlan, w_dim: int, clamp: float = CLAMP) -> None:
        super().__init__()
        self.clamp = clamp
        k = plan.kernel_size
        self.affine = StyleDense(w_dim, plan.in_channels)
        self.weight = nn.Parameter(torch.empty(plan.out_channels, plan.in_channels, k, k))
        self.bias = nn.Parameter(torch.empty(plan.out_channels))
        self.register_buffer("magnitude_ema", torch.empty([]))
        self.register_buffer("up_filter", torch.empty(plan.up_shape))
        self.register_buffer("down_filter", torch.empty(plan.down_shape))
        self.up = plan.up
        self.down = plan.down
        self.crop = plan.crop

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map x (B, I, in_size, in_size) with style w (B, D) to (B, O, out_size, out_size)."""
        x = self.convolve(x, self.affine(w))
        x = x + self.bias[:, None, None].to(x.dtype)
        filters = self.up_filter.to(x.dtype), self.down_filter.to(x.dtype)
        with without_autocast(x):
            return FilteredLeakyReLU.apply(x, *filters, self.up, self.down, self.crop, self.clamp)

    def convolve(self, x: Tensor, styles: Tensor) -> Tensor:
        """Modulate x (B, I, H, W) by styles (B, I), convolve, demodulate: (B, O, H + k - 1, ...).

        Weights and styles are brought to a mean square of 1 first, which demodulation undoes:
        it keeps half precision in range.
        """
        with without_autocast(x):
            weight, styles = at_least_single(self.weight), at_least_single(styles)
            weight = weight * weight.square().mean((1, 2, 3), keepdim=True).rsqrt()
            styles = styles * styles.square().mean(1, keepdim=True).rsqrt()
            squares = weight.square().sum((2, 3))  # (O, I)
            demodulation = (times_rows(styles.square(), squares) + 1e-8).rsqrt()  # (B, O)
            scale = styles * at_least_single(self.magnitude_ema).rsqrt()
        x = x * scale[:, :, None, None].to(x.dtype)
        x = F.conv2d(x, weight.to(x.dtype), padding=weight.shape[-1] - 1)
        return x * demodulation[:, :, None, None].to(x.dtype)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to three channels, without demodulation or filters."""

    magnitude_ema: Tensor

    def __init__(self, in_channels: int, w_dim: int, clamp: float = CLAMP) -> None:
        super().__init__()
        self.clamp = clamp
        self.affine = StyleDense(w_dim, in_channels)
        self.weight = nn.Parameter(torch.empty(3, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.empty(3))
        self.register_buffer("magnitude_ema", torch.empty([]))
        self.weight_gain = 1 / math.sqrt(in_channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map x (B, I, H, W) with style w (B, D) to (B, 3, H, W)."""
        styles = self.affine(w) * self.weight_gain * self.magnitude_ema.rsqrt()  # (B, I)
        weight = self.weight[None, :, :, 0, 0] * styles[:, None, :]  # (B, 3, I)
        rgb = convolve_pixels(x, weight)  # (B, 3, H, W)
        return (rgb + self.bias[:, None, None]).clamp(-self.clamp, self.clamp)


class SynthesisNetwork(nn.Module):
    """The Fourier input, layers L0, L1, ... and the colours last."""

    def __init__(
        self, plans: Sequence[LayerPlan], w_dim: int, constants: Constants = DEFAULTS
    ) -> None:
        super().__init__()
        clamp = given(constants.conv_clamp, CLAMP)
        self.output_gain = given(constants.output_gain, OUTPUT_GAIN)
        *hidden, last = plans
        first = plans[0]
        cutoff = given(constants.first_cutoff, FIRST_CUTOFF)
        self.input = FourierInput(first.in_channels, w_dim, first.in_size, first.in_rate, cutoff)
        for plan in hidden:
            self.add_module(plan.name, SynthesisLayer(plan, w_dim, clamp))
        self.add_module(last.name, ToRGB(last.in_channels, w_dim, clamp))
        self.layer_names = [plan.name for plan in plans]

    def forward(self, ws: Tensor, noise_maps: Sequence[Tensor] = ()) -> Tensor:  # noqa: ARG002
        """Draw (B, 3, H, W) in about [-1, 1] from ws (B, L, D); there are no noise maps."""
        with without_autocast(ws):
            x = self.input(ws[:, 0])
        if x.device.type == "cpu":  # depthwise filters are several times faster there this way
            x = x.contiguous(memory_format=torch.channels_last)
        for i, name in enumerate(self.layer_names, start=1):
            x = self.get_submodule(name)(x, ws[:, i])
        return x * self.output_gain


class StyleGAN3(Generator):
    """StyleGAN3 in configuration T or R; every size is read from names and shapes."""

    architecture = "stylegan3"
    mapping: MappingNetwork
    synthesis: SynthesisNetwork

    def __init__(self, state: Mapping[str, Tensor], constants: Constants = DEFAULTS) -> None:
        super().__init__()
        self.constants = constants
        plans = plan_layers(state, constants)
        lr_multiplier = given(constants.mapping_lr_multiplier, MAPPING_LR_MULTIPLIER)
        self.mapping = MappingNetwork(state, lr_multiplier)
        self.z_dim = self.mapping.z_dim
        self.w_dim = self.mapping.w_dim
        self.num_classes = self.mapping.num_classes
        self.num_ws = len(plans) + 1  # one more for the input
        self.resolution = plans[-1].out_size
        self.noise_sizes = ()
        self.synthesis = SynthesisNetwork(plans, self.w_dim, constants)

    @classmethod
    def from_state_dict(
        cls, state: Mapping[str, Tensor], constants: Constants = DEFAULTS
    ) -> StyleGAN3:
        """Build from the state dict of a stylegan3 generator (`G_ema`).

        Raises:
            ValueError: naming the keys, the layer or the shape that do not fit.
        """
        with torch.device("meta"):
            G = cls(state, constants)
        load_frozen(G, state)
        return G

    @property
    def w_avg(self) -> Tensor:
        """The mean style (D,)."""
        return self.mapping.get_buffer("w_avg")
