"""What a training can be told; each number has one default."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

RESOLUTIONS = (16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class NetworkSettings:
    """Sizes of the generator; they stay for the life of a run, but for the resolution.

    Attributes:
        resolution: pixels a side, a power of two.
        z_dim: size of the normal input.
        w_dim: size of a style.
        mapping_layers: dense layers from z to w.
        channel_base: channels at a size are this divided by the size...
        channel_max: ...and no more than this.
        encoder_px: pixels a side of what the encoder sees; 0 takes the resolution, 64 at most.
    """

    resolution: int = 128
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 4
    channel_base: int = 4096
    channel_max: int = 256
    encoder_px: int = 0

    def __post_init__(self) -> None:
        if self.resolution not in RESOLUTIONS:
            known = ", ".join(map(str, RESOLUTIONS))
            raise ValueError(f"the resolution is {self.resolution}, expected one of {known}")
        for name in ("z_dim", "w_dim", "mapping_layers", "channel_max"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if self.channel_base < self.resolution:
            raise ValueError(
                f"channel_base is {self.channel_base}, expected at least the resolution, "
                f"{self.resolution}"
            )

    @property
    def sizes(self) -> list[int]:
        """Pixels a side of the blocks: 4, 8, ... up to the resolution."""
        return [2**k for k in range(2, self.resolution.bit_length())]

    def channels(self, size: int) -> int:
        """Channels of the block of that size."""
        return min(self.channel_base // size, self.channel_max)


@dataclass(frozen=True)
class GuardSettings:
    """How far the watched numbers may drift in the adversarial phase before it is turned back.

    Attributes:
        reconstruction: a group's reconstruction loss, as a multiple of its lowest so far. The
            prototype's rose by 1.56 within 25,000 images while it collapsed.
        lightness: how much further, in units of L*, a quantile of the samples' lightness may be
            from the data's than at its nearest so far.
        patience: how often in a row a training is turned back before it is stopped.
    """

    reconstruction: float = 1.2
    lightness: float = 8.0
    patience: int = 5


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms that the generator is trained by.

    Attributes:
        l1: mean absolute difference of pixels, in [-1, 1].
        features: squared difference of unit-normalised features, summed over scales.
        outside: squared distance of pixels from [-1, 1], which colours blow up without.
        adversarial: of the discriminator's judgement of samples.
        reconstruction: of l1 and features beside it, which keeps every picture of the data
            within reach.
    """

    l1: float = 5.0
    features: float = 1.0
    outside: float = 1.0
    adversarial: float = 1.0
    reconstruction: float = 1.0


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    Attributes:
        network: sizes of the generator.
        batch_size: pictures of a step.
        reconstructed: share of a batch, besides, that the adversarial phase reconstructs.
        vae_images: images seen as a variational autoencoder, before the adversarial phase.
        kl_nats: where the divergence of a picture's latents from the prior is held.
        step_size: Adam's, for the generator and encoder.
        discriminator_step_size: Adam's, for the discriminator.
        mapping_rate: Adam's step size in the mapping network, as a multiple; with StyleGAN's
            multiplier of 0.01 on its weights alone it would not move in a short training.
        ema_images: half-life of the moving average of the weights.
        weights: of the losses.
        guard: of collapse.
        every: images between looks: checkpoint, metrics, sheet, guard.
        metric_samples: samples that a Fréchet distance is computed from.
        keep: checkpoints in the history.
        mirror: whether pictures are mirrored at random.
        feature_px: pictures are brought to this size for the feature network; 0 takes the
            resolution, at least 64.
        seed: of everything random.
    """

    network: NetworkSettings = field(default_factory=NetworkSettings)
    batch_size: int = 32
    reconstructed: float = 0.25
    vae_images: int = 20_000
    kl_nats: float = 120.0
    step_size: float = 0.002
    discriminator_step_size: float = 0.002
    mapping_rate: float = 10.0
    ema_images: float = 4_000.0
    weights: LossWeights = field(default_factory=LossWeights)
    guard: GuardSettings = field(default_factory=GuardSettings)
    every: int = 5_000
    metric_samples: int = 2_000
    keep: int = 4
    mirror: bool = True
    feature_px: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "every", "metric_samples", "keep"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 2 or more")
        if self.vae_images < 1:
            raise ValueError(f"vae_images is {self.vae_images}, expected 1 or more")
        if not 0 < self.reconstructed <= 1:
            raise ValueError(f"reconstructed is {self.reconstructed}, expected a share, up to 1")
        if self.feature_px % 32:
            raise ValueError(f"feature_px is {self.feature_px}, expected a multiple of 32, or 0")
        for name in ("kl_nats", "step_size", "discriminator_step_size", "mapping_rate"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name} is {value}, expected a number above 0")

    @property
    def size_of_features(self) -> int:
        """Pixels a side of what the feature network sees."""
        return self.feature_px or max(64, self.network.resolution)

    @property
    def num_reconstructed(self) -> int:
        """Pictures that a step of the adversarial phase reconstructs."""
        return max(1, round(self.reconstructed * self.batch_size))

    def as_table(self) -> dict[str, Any]:
        """All of it as JSON takes it."""
        return asdict(self)

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> TrainingSettings:
        """From what `as_table` gave.

        Raises:
            ValueError: if a name is unknown or a value does not fit.
        """
        parts = {"network": NetworkSettings, "weights": LossWeights, "guard": GuardSettings}
        known = {field.name for field in fields(cls)}
        if unknown := set(table) - known:
            raise ValueError(f"the setting {min(unknown)}, expected {', '.join(sorted(known))}")
        try:
            values = {k: parts[k](**v) if k in parts else v for k, v in table.items()}
        except TypeError as error:
            raise ValueError(str(error)) from error
        return cls(**values)
