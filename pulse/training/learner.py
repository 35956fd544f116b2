"""All that a training changes: networks, their average, optimizers, and where it stands."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pulse.generators.stylegan2 import RunBlock, StyleGAN2
from pulse.search.precision import feature_dtype
from pulse.training.compiling import compiled
from pulse.training.discriminator import Discriminator
from pulse.training.features import FeatureNetwork
from pulse.training.networks import Encoder, grown_state, new_state, trainable
from pulse.training.randomness import draw_noise, stream
from pulse.training.settings import TrainingSettings

Phase = Literal["vae", "adversarial"]
BETAS = {"vae": (0.9, 0.99), "adversarial": (0.0, 0.99)}
FIRST_KL_WEIGHT = 1e-3
# Two gradients in bfloat16 that differ by rounding have a cosine above 0.999.
SAME_DIRECTION = 0.99


@dataclass
class Progress:
    """Where a training stands, as numbers.

    Attributes:
        images: seen so far.
        phase: which of the two it is in.
        kl_weight: of the divergence, as it was last adapted.
        adversarial: factor on the adversarial weight, which the guard lowers.
        mapping: factor on the mapping network's rate, which the guard lowers.
        attempt: how often it was turned back in all.
        in_a_row: how often since the last check that it passed.
        lowest: the lowest reconstruction loss of each group in this phase.
        nearest: the least distance of each quantile of lightness to the data's, likewise.
    """

    images: int = 0
    phase: Phase = "vae"
    kl_weight: float = FIRST_KL_WEIGHT
    adversarial: float = 1.0
    mapping: float = 1.0
    attempt: int = 0
    in_a_row: int = 0
    lowest: dict[str, float] = field(default_factory=dict)
    nearest: list[float] = field(default_factory=list)


def draw_by_blocks(
    G: StyleGAN2, blocks: Sequence[RunBlock], w: Tensor, noise_maps: Sequence[Tensor]
) -> Tensor:
    """Pictures (B, 3, R, R) from styles w (B, D), each block of the generator run as given."""
    return G.synthesis.by_blocks(blocks, G.broadcast(w), noise_maps).float()


class Learner:
    """A training between two steps.

    Attributes:
        settings: of the training.
        progress: where it stands.
        device: where it computes.
        G: the generator that is trained.
        ema: the moving average of its weights, which is exported.
        encoder: of the autoencoder; stands still in the adversarial phase, so that the latents
            keep the distribution that was whitened.
        discriminator: trained in the adversarial phase.
        features: the frozen eye.
    """

    def __init__(
        self, settings: TrainingSettings, features: FeatureNetwork, device: torch.device,
        *, progress: Progress | None = None, compile_: bool = False,
    ) -> None:  # fmt: skip
        self.settings = settings
        self.progress = progress or Progress()
        self.device = device
        self.compile_ = compile_
        self.features = features.to(device)
        rng = stream(settings.seed, "weights", 0)
        self.G = trainable(new_state(settings.network, rng)).to(device)
        self.ema = copy.deepcopy(self.G).requires_grad_(False)
        encoder, discriminator = Encoder(settings.network, rng), Discriminator(rng)
        last = torch.channels_last
        self.encoder = encoder.to(device).to(memory_format=last)
        self.discriminator = discriminator.to(device).to(memory_format=last)
        self._frozen_look = compiled(self.features.forward, is_wanted=compile_)
        self._bind()

    def _bind(self) -> None:
        """Set up what refers to the generator and the phase."""
        # compiled for a CPU in bfloat16, gradients are NaN and no faster (PyTorch 2.14, measured)
        is_wanted = self.compile_ and (self.device.type == "cuda" or not self._is_mixed())
        blocks = self.G.synthesis.blocks
        self._blocks = [compiled(block.forward, is_wanted=is_wanted) for block in blocks]
        is_vae = self.progress.phase == "vae"
        self.encoder.requires_grad_(is_vae)
        groups = [list(self.G.synthesis.parameters()), list(self.G.mapping.parameters())]
        groups += [list(self.encoder.parameters())] if is_vae else []
        betas = BETAS[self.progress.phase]
        self.optimizer = torch.optim.Adam(
            [{"params": group} for group in groups], betas=betas, fused=True
        )
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.heads.parameters(), lr=self.settings.discriminator_step_size,
            betas=BETAS["adversarial"], fused=True,
        )  # fmt: skip
        self.set_rates()

    def set_rates(self) -> None:
        """Give the optimizer the step sizes that settings and guard allow."""
        step_size = self.settings.step_size
        mapping = step_size * self.settings.mapping_rate * self.progress.mapping
        rates = (step_size, mapping, step_size)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=False):
            group["lr"] = rate

    def begin_adversarial(self) -> None:
        """Go over to the second phase; its optimizers begin anew."""
        self.progress.phase = "adversarial"
        self._bind()

    def grow(self, resolution: int) -> None:
        """Go over to a larger resolution; optimizers and the guard's marks begin anew.

        Raises:
            ValueError: if it is smaller than the resolution now.
        """
        if resolution < self.settings.network.resolution:
            raise ValueError(
                f"the resolution is {resolution}, expected {self.settings.network.resolution}, "
                "that of the run so far, or more"
            )
        network = replace(self.settings.network, resolution=resolution, encoder_px=self.encoder.px)
        self.settings = replace(self.settings, network=network)
        rng = stream(self.settings.seed, "growth", self.progress.images)
        self.G = trainable(grown_state(self.G.state_dict(), network, rng)).to(self.device)
        new = {k: v for k, v in self.G.state_dict().items() if k not in self.ema.state_dict()}
        self.ema = trainable(self.ema.state_dict() | new).to(self.device).requires_grad_(False)
        self.progress.lowest, self.progress.nearest = {}, []
        self._bind()

    def check_compiled(self) -> str | None:
        """Why the compiled blocks cannot be trusted, in words; None where they can, or are none.

        The gradient of one batch is compared with that of the blocks as they are; where it is
        another, they are used as they are from here on.
        """
        eager = [block.forward for block in self.G.synthesis.blocks]
        if self._blocks == eager:
            return None
        a, b = self._gradient_through(eager), self._gradient_through(self._blocks)
        likeness = float(F.cosine_similarity(a, b, dim=0))
        if likeness > SAME_DIRECTION:
            return None
        self._blocks = eager
        return f"compiled blocks give another gradient, of cosine {likeness:.3g} with the true one"

    def _gradient_through(self, blocks: Sequence[RunBlock]) -> Tensor:
        """The gradient of all weights, flat, of a loss of one batch as the phase has them."""
        settings = self.settings
        B = settings.batch_size
        B += settings.num_reconstructed if self.progress.phase == "adversarial" else 0
        rng = stream(settings.seed, "check", 0)
        w = self.G.mapping(torch.randn(B, self.G.z_dim, generator=rng).to(self.device))
        noise_maps = draw_noise(self.G.noise_sizes, B, rng, self.device)
        with self.autocast():
            x = draw_by_blocks(self.G, blocks, w, noise_maps)
        wanted = torch.randn(x.shape, generator=rng).to(self.device)
        parameters = list(self.G.parameters())
        gradients = torch.autograd.grad((x - wanted).square().mean(), parameters)
        return torch.cat([gradient.flatten() for gradient in gradients])

    def autocast(self) -> torch.autocast:
        """Features in bfloat16 where the device is faster with it."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._is_mixed())

    def _is_mixed(self) -> bool:
        if self.device.type == "cuda":
            return torch.cuda.is_bf16_supported()
        return feature_dtype("auto", self.device) == torch.bfloat16

    def stream(self, purpose: str) -> torch.Generator:
        """The random stream for a purpose at this place of the training."""
        progress = self.progress
        return stream(self.settings.seed, purpose, progress.images, progress.attempt)

    def draw(self, w: Tensor, noise_maps: Sequence[Tensor]) -> Tensor:
        """Pictures (B, 3, R, R) in about [-1, 1] from styles w (B, D), with a gradient.

        What the generator's synthesis network does, through compiled blocks where there are some.
        """
        return draw_by_blocks(self.G, self._blocks, w, noise_maps)

    def look(self, x: Tensor) -> list[Tensor]:
        """Features of pictures x (B, 3, R, R) at four scales, with a gradient."""
        # the compiled gradient of depthwise convolutions is slower than eager
        return self.features(self._sized(x))

    @torch.no_grad()
    def frozen_look(self, x: Tensor) -> list[Tensor]:
        """The same features without a gradient."""
        return self._frozen_look(self._sized(x))

    def _sized(self, x: Tensor) -> Tensor:
        size = self.settings.size_of_features
        if x.shape[-1] != size:
            x = F.interpolate(x, size=(size, size), mode="bilinear", antialias=x.shape[-1] > size)
        return x.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def average(self, images: int) -> None:
        """Move the average towards the weights; fast at first, as Karras et al. (2020) do."""
        half_life = min(self.settings.ema_images, 0.05 * self.progress.images + 1e-8)
        weight = 1 - 0.5 ** (images / half_life)
        pairs = zip(self.ema.parameters(), self.G.parameters(), strict=True)
        averages, weights = map(list, zip(*pairs, strict=True))
        torch._foreach_lerp_(averages, weights, weight)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What a checkpoint holds, by name."""
        return {
            "G": self.G, "ema": self.ema, "encoder": self.encoder,
            "discriminator": self.discriminator,
        }  # fmt: skip

    @property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Whose moments a checkpoint holds, by name."""
        return {"adam": self.optimizer, "adam_d": self.discriminator_optimizer}

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of networks and optimizers under one roof."""
        found = {
            f"{name}/{key}": tensor
            for name, module in self.modules.items()
            for key, tensor in module.state_dict().items()
        }
        for name, optimizer in self.optimizers.items():
            for index, moments in optimizer.state_dict()["state"].items():
                found |= {f"{name}/{index}/{key}": value for key, value in moments.items()}
        return found

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what `tensors` gave.

        Raises:
            RuntimeError, KeyError, ValueError: if the tensors are of another network.
        """
        tables: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            owner, key = name.split("/", 1)
            tables.setdefault(owner, {})[key] = tensor
        for name, module in self.modules.items():
            module.load_state_dict(tables[name])
        for name, optimizer in self.optimizers.items():
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            moments: dict[int, dict[str, Tensor]] = {}
            for key, tensor in tables.get(name, {}).items():
                index, kind = key.split("/")
                like = parameters[int(index)] if tensor.ndim else tensor
                # the fused optimizer takes moments to lie in memory as their parameters do
                moment = torch.empty_like(like, requires_grad=False).copy_(tensor)
                moments.setdefault(int(index), {})[kind] = moment
            optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
        self.set_rates()

    def numbers(self) -> dict[str, Any]:
        """Settings and progress as JSON takes them."""
        return {"settings": self.settings.as_table(), "progress": asdict(self.progress)}
