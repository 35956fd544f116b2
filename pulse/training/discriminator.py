"""The projected discriminator (Sauer et al. 2021): small heads on mixed, frozen features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pulse.training.features import TAP_CHANNELS
from pulse.training.networks import initialize

MIXED_CHANNELS = (64, 64, 128, 256)
HEAD_CHANNELS = (64, 128, 128, 256)
HALVINGS = (2, 1, 0, 0)  # so that the heads judge about as many places at each scale
TAP_DEVIATIONS = (11.0, 7.0, 4.0, 1.7)  # of the features of photographs and noise alike
SLOPE = 0.2


class Mixing(nn.Module):
    """Random convolutions that mix features across channels and scales; never trained (3.2)."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.across_channels = nn.ModuleList(
            nn.Conv2d(i, o, 1) for i, o in zip(TAP_CHANNELS, MIXED_CHANNELS, strict=True)
        )
        self.across_scales = nn.ModuleList(
            nn.Conv2d(i, o, 3, padding=1)
            for i, o in zip(MIXED_CHANNELS[1:], MIXED_CHANNELS[:-1], strict=True)
        )
        initialize(self, rng, gain=1.0)
        self.requires_grad_(False)

    def forward(self, taps: Sequence[Tensor]) -> list[Tensor]:
        """Features at four scales, fine to coarse, to as many; each knows of the coarser ones."""
        mixed: list[Tensor] = []
        for i in reversed(range(len(taps))):
            x = self.across_channels[i](taps[i] / TAP_DEVIATIONS[i])
            if mixed:
                coarser = self.across_scales[i](mixed[0])
                x = (x + F.interpolate(coarser, size=x.shape[2:], mode="bilinear")) * 0.5**0.5
            mixed.insert(0, x)
        return mixed


class NormalizedConv(nn.Conv2d):
    """A convolution whose matrix has the largest singular value 1 (Miyato et al. 2018)."""

    direction: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1
    ) -> None:
        padding = (kernel_size - 1) // 2
        super().__init__(in_channels, out_channels, kernel_size, stride, padding)
        self.register_buffer("direction", torch.ones(out_channels))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the name of the class above)
        """Map (B, I, H, W) to (B, O, ...); in training the direction is followed by one step."""
        matrix = self.weight.flatten(1)  # (O, I k k)
        with torch.no_grad(), torch.autocast(matrix.device.type, enabled=False):
            right = F.normalize(matrix.T @ self.direction, dim=0)
            left = F.normalize(matrix @ right, dim=0)
            if self.training:
                self.direction.copy_(left)
        with torch.autocast(matrix.device.type, enabled=False):
            largest = left @ (matrix @ right)
            weight = self.weight / largest
        return self._conv_forward(input, weight, self.bias)


class Head(nn.Module):
    """Judges the places of one scale: normalised convolutions down to one number for each."""

    def __init__(self, in_channels: int, channels: int, halvings: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(halvings):
            layers += [NormalizedConv(in_channels, channels, 4, 2), nn.LeakyReLU(SLOPE)]
            in_channels = channels
        layers += [NormalizedConv(in_channels, channels, 3), nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers, NormalizedConv(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, places)."""
        return self.layers(x).flatten(1).float()


class Discriminator(nn.Module):
    """One head for each scale; only the heads are trained."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.mixing = Mixing(rng)
        shapes = zip(MIXED_CHANNELS, HEAD_CHANNELS, HALVINGS, strict=True)
        self.heads = nn.ModuleList(Head(*shape) for shape in shapes)
        initialize(self.heads, rng)

    def forward(self, mixed: Sequence[Tensor]) -> list[Tensor]:
        """The heads' numbers (B, places) for mixed features: high for what looks real."""
        return [head(x) for head, x in zip(self.heads, mixed, strict=True)]


def discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """The hinge loss (Lim & Ye 2017), a sum over the heads."""
    losses = [F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(losses).sum()


def generator_loss(fake: Sequence[Tensor]) -> Tensor:
    """What the generator lowers by looking real, a mean over the heads."""
    return -torch.stack([f.mean() for f in fake]).mean()
