"""A new generator, its growth to a larger resolution, and the encoder."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pulse.generators.mapping import MAPPING_LR_MULTIPLIER, MappingNetwork
from pulse.generators.ops import LEAKY_SLOPE
from pulse.generators.stylegan2 import ACTIVATION_GAIN, StyleGAN2
from pulse.training.settings import NetworkSettings

LOG_VARIANCE_RANGE = (-10.0, 4.0)
ENCODER_PX = 64
ENCODER_CHANNELS = {64: 32, 32: 64, 16: 128, 8: 256, 4: 256}  # by the size that is given


def new_state(settings: NetworkSettings, rng: torch.Generator) -> dict[str, Tensor]:
    """Tensors of an untrained StyleGAN2 with skip connections, as stylegan2-ada-pytorch begins."""
    state = {"mapping.w_avg": torch.zeros(settings.w_dim)}
    for i in range(settings.mapping_layers):
        in_features = settings.z_dim if i == 0 else settings.w_dim
        weight = torch.randn(settings.w_dim, in_features, generator=rng) / MAPPING_LR_MULTIPLIER
        state |= {
            f"mapping.fc{i}.weight": weight,
            f"mapping.fc{i}.bias": weight.new_zeros(len(weight)),
        }
    for size in settings.sizes:
        state |= _new_block(settings, size, rng)
    return state


def _new_block(settings: NetworkSettings, size: int, rng: torch.Generator) -> dict[str, Tensor]:
    """Tensors of the block of one size."""
    prefix = f"synthesis.b{size}"
    channels = settings.channels(size)
    row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    taps = row[:, None] * row
    state = {f"{prefix}.resample_filter": taps}

    def add_affine(name: str, in_channels: int) -> None:
        weight = torch.randn(in_channels, settings.w_dim, generator=rng)
        state.update(
            {f"{name}.affine.weight": weight, f"{name}.affine.bias": torch.ones(in_channels)}
        )

    def add_conv(name: str, in_channels: int) -> None:
        add_affine(name, in_channels)
        state.update({
            f"{name}.weight": torch.randn(channels, in_channels, 3, 3, generator=rng),
            f"{name}.bias": torch.zeros(channels),
            f"{name}.noise_strength": torch.zeros([]),
            f"{name}.noise_const": torch.randn(size, size, generator=rng),
            f"{name}.resample_filter": taps,
        })  # fmt: skip

    if size == 4:
        state[f"{prefix}.const"] = torch.randn(channels, 4, 4, generator=rng)
    else:
        add_conv(f"{prefix}.conv0", settings.channels(size // 2))
    add_conv(f"{prefix}.conv1", channels)
    add_affine(f"{prefix}.torgb", channels)
    state[f"{prefix}.torgb.weight"] = torch.randn(3, channels, 1, 1, generator=rng)
    state[f"{prefix}.torgb.bias"] = torch.zeros(3)
    return state


def grown_state(
    state: Mapping[str, Tensor], settings: NetworkSettings, rng: torch.Generator
) -> dict[str, Tensor]:
    """A generator's tensors with untrained blocks on top, up to the resolution of the settings.

    The new blocks draw nothing at first, so that the picture is the old one, enlarged.
    """
    grown = dict(state)
    for size in settings.sizes:
        if f"synthesis.b{size}.conv1.weight" not in state:
            grown |= _new_block(settings, size, rng)
            grown[f"synthesis.b{size}.torgb.weight"].zero_()
    return grown


def trainable(state: Mapping[str, Tensor]) -> StyleGAN2:
    """The generator of a state dict, to be trained."""
    G = StyleGAN2.from_state_dict({key: tensor.clone() for key, tensor in state.items()})
    return G.to(memory_format=torch.channels_last).requires_grad_()


def mapped(mapping: MappingNetwork, z: Tensor) -> Tensor:
    """Styles w (B, D) of z (B, z_dim) without bringing z to unit length first.

    The decoder of the autoencoder: lengths carry information there, and whitening can be absorbed
    exactly only where nothing stands between it and the first layer. For z of the prior the
    difference is small, their mean square is 1 within 1/sqrt(z_dim / 2).
    """
    for i in range(mapping.num_layers):
        z = F.leaky_relu(mapping.get_submodule(f"fc{i}")(z), LEAKY_SLOPE) * ACTIVATION_GAIN
    return z


class Encoder(nn.Module):
    """Pictures to a normal distribution over latents; small, and the same for every resolution.

    `center` and `whitening` map what the layers give to the generator's latents; they are the
    identity until the aggregate posterior is whitened.

    Attributes:
        z_dim: size of a latent.
    """

    center: Tensor
    whitening: Tensor

    def __init__(self, settings: NetworkSettings, rng: torch.Generator) -> None:
        super().__init__()
        self.z_dim = settings.z_dim
        self.px = settings.encoder_px or min(ENCODER_PX, settings.resolution)
        layers: list[nn.Module] = []
        channels = 3
        for size in (s for s in ENCODER_CHANNELS if s <= self.px):
            stride = 1 if size == self.px else 2
            wider = ENCODER_CHANNELS[size]
            layers += [nn.Conv2d(channels, wider, 3, stride, padding=1), nn.GroupNorm(8, wider)]
            layers += [nn.SiLU()]
            channels = wider
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(16 * channels, 2 * self.z_dim)
        self.register_buffer("center", torch.zeros(self.z_dim))
        self.register_buffer("whitening", torch.eye(self.z_dim))
        initialize(self, rng)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (B, z_dim), before whitening, for x (B, 3, H, W) in [-1, 1]."""
        if x.shape[-1] > self.px:
            x = F.avg_pool2d(x, x.shape[-1] // self.px)
        mean, log_variance = self.head(self.layers(x).flatten(1)).float().chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCE_RANGE)

    def latents(self, mean: Tensor, log_variance: Tensor, eps: Tensor) -> Tensor:
        """Latents z (B, z_dim) as the generator takes them, drawn with eps (B, z_dim) ~ N(0, I)."""
        z = mean + (log_variance / 2).exp() * eps
        return (z - self.center) @ self.whitening.T


def initialize(module: nn.Module, rng: torch.Generator, gain: float = 2.0**0.5) -> None:
    """Draw the weights of all convolutions and dense layers from a stream (He et al. 2015)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fan_in = layer.weight[0].numel()
            weight = torch.randn(layer.weight.shape, generator=rng) * gain / fan_in**0.5
            with torch.no_grad():
                layer.weight.copy_(weight)
                if layer.bias is not None:
                    layer.bias.zero_()
