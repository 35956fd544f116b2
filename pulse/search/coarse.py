"""A coarse generator: the lower blocks, and a small network for all that comes after them.

Most of the work of a large StyleGAN is done at sizes far above those of a low-resolution face. The
features of the block of `COARSE_PX` pixels and the styles of the later layers tell nearly all that
those layers would draw at that size; a small head, trained once for each generator on its own
samples, says what. Partial colours alone do not: upper layers change colours everywhere.

A search first looks for its target on the coarse generator, many times cheaper than on the whole
one, and goes on from there. What it finds in the end is always drawn and judged by the whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pulse.downscale import Downscale
from pulse.generators.base import Generator
from pulse.generators.ops import convolve_pixels
from pulse.search.bank import Bank
from pulse.search.latent import LatentPrior
from pulse.search.mixing import Mixing
from pulse.search.precision import feature_dtype
from pulse.search.slots import search_together
from pulse.search.start import Start, stack
from pulse.settings import KernelName, SearchSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

COARSE_PX = 32  # of the block that is the last; larger low-resolution faces do without it
STEPS = 12  # on the coarse generator
TIGHTER = 0.3  # its tolerance, as a share of the search's: the head adds an error of its own
WIDTH, CONVS, STYLE_WIDTH = 64, 2, 16
SCATTER = 0.6  # at most, of the styles of a sample's layers around its own: searches leave it too
BATCH, EPOCHS, STEP_SIZE, WEIGHT_DECAY = 50, 60, 1e-3, 0.05
# Of the whole generator: at 128 px what is above the cut costs as much as what is below. Larger
# ones were not at hand, but each of their blocks adds about as much as one of 64 px.
PAYS_FROM_PX = 256
SMALLEST_COARSE = 100  # samples; fewer teach a head nothing
HELD_OUT = 0.1  # share of the samples that judge the head
LARGEST_ERROR = 0.1  # of a head that is of use, as a share of what the pictures vary


class CoarseHead(nn.Module):
    """Features (B, C, s, s) and styles (B, K, D) of the layers above to pictures (B, 3, s, s).

    What its layers but the last give is modulated: scaled and shifted by what the styles say.

    Args:
        channels: C.
        layers: K.
        w_dim: D.
        width: channels of its layers.
        style_width: numbers that it makes of the style of a layer.
    """

    scale: Tensor
    style_mean: Tensor
    style_scale: Tensor

    def __init__(
        self, channels: int, layers: int, w_dim: int,
        width: int = WIDTH, style_width: int = STYLE_WIDTH,
    ) -> None:  # fmt: skip
        super().__init__()
        self.register_buffer("scale", torch.ones(channels, 1, 1))
        self.register_buffer("style_mean", torch.zeros(w_dim))
        self.register_buffer("style_scale", torch.ones(w_dim))
        self.styles = nn.Parameter(torch.randn(layers, w_dim, style_width) / w_dim**0.5)
        self.first = nn.Linear(channels, width)
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(CONVS))
        self.modulations = nn.ModuleList(
            nn.Linear(layers * style_width, 2 * width) for _ in range(1 + CONVS)
        )
        self.last = nn.Linear(width, 3)
        self.shortcut = nn.Linear(channels, 3)
        for layer in (*self.modulations, self.shortcut):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor, ws: Tensor) -> Tensor:
        """The pictures, nominally in [-1, 1]."""
        styles = torch.einsum(
            "bkd,kde->bke", (ws - self.style_mean) / self.style_scale, self.styles
        )
        features = features / self.scale.to(features.dtype)
        first, *others = (
            modulation(styles.flatten(1))[:, :, None, None] for modulation in self.modulations
        )
        x = _modulated(_of_pixels(self.first, features), first)
        for conv, modulation in zip(self.convs, others, strict=True):
            x = x + _modulated(conv(x), modulation)
        return _of_pixels(self.last, x) + _of_pixels(self.shortcut, features)

    @cached_property
    def digest(self) -> str:
        """Tells this head from others: the beginning of a SHA-256 of what is kept of it."""
        kept = hashlib.sha256()
        for tensor in self.state_dict().values():
            kept.update(tensor.half().cpu().contiguous().numpy().tobytes())
        return kept.hexdigest()[:16]

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> CoarseHead:
        """A frozen head of tensors; its sizes are inferred from their shapes.

        Raises:
            ValueError: if they are not those of a head.
        """
        try:
            layers, w_dim, style_width = state["styles"].shape
            width, channels = state["first.weight"].shape
            head = cls(channels, layers, w_dim, width, style_width)
            head.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        except (KeyError, RuntimeError, ValueError) as error:
            raise ValueError(f"got tensors of no coarse head: {error}") from error
        return head.requires_grad_(False)


def _of_pixels(layer: nn.Linear, x: Tensor) -> Tensor:
    """Map the channels of x (B, I, H, W) to (B, O, H, W).

    As a matrix: a CPU rounds convolutions of 1x1 by its number of threads.
    """
    y = convolve_pixels(x, layer.weight.expand(len(x), -1, -1))
    return y + layer.bias[:, None, None].to(y.dtype)


def _modulated(x: Tensor, modulation: Tensor) -> Tensor:
    """Features (B, C, H, W) by a modulation (B, 2 C, 1, 1), through a leaky ReLU."""
    scale, shift = modulation.to(x.dtype).chunk(2, 1)
    return F.leaky_relu(torch.addcmul(shift, x, 1 + scale), 0.2)


class CoarseSynthesis(nn.Module):
    """The lower blocks of a generator and the head, as a synthesis network.

    Args:
        G: the generator, left as it is.
        head: its coarse head, on its device.
    """

    def __init__(self, G: Generator, head: CoarseHead) -> None:
        super().__init__()
        self.G, self.head = G, head

    def forward(self, ws: Tensor, noise_maps: Sequence[Tensor]) -> Tensor:
        """Draw (B, 3, s, s) in about [-1, 1], s = COARSE_PX, from ws (B, L, D)."""
        features = self.G.features(ws, noise_maps, COARSE_PX)
        return self.head(features, ws[:, -self.head.styles.shape[0] :])


class CoarseGenerator(Generator):
    """A generator of `COARSE_PX` pixels that takes the styles of another, and its first noise maps.

    Args:
        G: the other.
        head: its coarse head, on its device.
    """

    def __init__(self, G: Generator, head: CoarseHead) -> None:
        super().__init__()
        self.architecture, self.constants = G.architecture, G.constants
        self.z_dim, self.w_dim, self.num_ws = G.z_dim, G.w_dim, G.num_ws
        self.resolution, self.noise_sizes = COARSE_PX, lower_noise_sizes(G)
        self.mapping = G.mapping
        self.synthesis = CoarseSynthesis(G, head)

    @classmethod
    def from_state_dict(cls, *_: object) -> CoarseGenerator:
        """It has no weights file of its own."""
        raise TypeError("a coarse generator is made of another generator and a head")


def lower_noise_sizes(G: Generator) -> tuple[int, ...]:
    """Pixels a side of the noise maps that blocks up to `COARSE_PX` take."""
    return tuple(size for size in G.noise_sizes if size <= COARSE_PX)


def can_be_coarse(G: Generator) -> bool:
    """Whether a generator has a block of `COARSE_PX` pixels, and others above it."""
    return G.layers_above(COARSE_PX) > 0


@dataclass(frozen=True)
class Samples:
    """What a coarse head is trained on.

    Attributes:
        features: (N, C, s, s) of the block of s = COARSE_PX pixels, in bfloat16.
        ws: (N, K, D) styles of the layers above.
        pictures: (N, 3, s, s) what the whole generator draws, downscaled, in [-1, 1].
    """

    features: Tensor
    ws: Tensor
    pictures: Tensor

    @classmethod
    def room(cls, count: int, like: Samples) -> Samples:
        """Room for some, of the shapes of others: features of a large generator take a gigabyte."""
        return cls(*(x.new_empty(count, *x.shape[1:]) for x in like.parts))

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Features, ws, pictures."""
        return self.features, self.ws, self.pictures

    def put(self, start: int, some: Samples) -> None:
        """Put some at the rows from `start` on."""
        for x, part in zip(self.parts, some.parts, strict=True):
            x[start : start + len(part)] = part

    def rows(self, rows: Tensor | slice) -> Samples:
        """Some of them."""
        return Samples(*(x[rows] for x in self.parts))


@torch.no_grad()
def draw_coarse_samples(
    G: Generator, prior: LatentPrior, samples: int, rng: torch.Generator,
    on_progress: Callable[[int, int], None] | None = None,
) -> Samples:  # fmt: skip
    """Draw faces with styles that scatter over the layers, as those of a search do.

    Args:
        G: the generator.
        prior: its Gaussianised styles, on its device.
        samples: how many.
        rng: on the CPU.
        on_progress: called with the samples drawn so far and the samples in all.

    Raises:
        ValueError: if the generator has no block to be cut at.
    """
    if not can_be_coarse(G):
        raise ValueError(f"got a {G.architecture} of {G.resolution} px, expected blocks above 32")
    A = Downscale((G.resolution, G.resolution), (COARSE_PX, COARSE_PX), device=G.device)
    dtype, drawn = feature_dtype("auto", G.device), None
    for start in range(0, samples, G.at_once):
        n = min(G.at_once, samples - start)
        z = torch.randn(n, G.z_dim, generator=rng).to(G.device)
        scatter = SCATTER * torch.rand(n, 1, 1, generator=rng)
        e = scatter * torch.randn(n, G.num_ws, G.w_dim, generator=rng)
        ws = prior.to_w(prior.from_w(G.mapping(z))[:, None] + e.to(G.device))
        noise_maps = [
            torch.randn(n, 1, size, size, generator=rng).to(G.device) for size in G.noise_sizes
        ]
        with torch.autocast(G.device.type, dtype, enabled=dtype != torch.float32):
            features = G.features(ws, noise_maps, COARSE_PX).bfloat16()
            x = G.render(ws, noise_maps)
        some = Samples(features, ws[:, -G.layers_above(COARSE_PX) :], 2 * A(x) - 1)
        drawn = drawn or Samples.room(samples, some)
        drawn.put(start, some)
        if on_progress:
            on_progress(start + n, samples)
    assert drawn is not None
    return drawn


def fit_coarse_head(
    samples: Samples, rng: torch.Generator, epochs: int = EPOCHS,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[CoarseHead, float]:  # fmt: skip
    """Train a head to the least mean squared error.

    Args:
        samples: of the generator; the last tenth is held out.
        rng: chooses the batches, on the CPU.
        epochs: how often each sample is seen, on one cycle of step sizes.
        on_progress: called with the epochs so far and the epochs in all.

    Returns:
        The head, frozen, and its error on samples that it has not seen, as a share of what their
        pictures vary.
    """
    held_out = max(2, round(HELD_OUT * len(samples.ws)))
    seen = len(samples.ws) - held_out
    with torch.random.fork_rng(devices=[]):  # the layers' first values come from the global stream
        torch.default_generator.manual_seed(0)
        head = CoarseHead(samples.features.shape[1], *samples.ws.shape[1:])
    head.to(samples.ws.device).to(memory_format=torch.channels_last)
    first = samples.rows(slice(0, 64))
    head.scale.copy_(first.features.float().square().mean((0, 2, 3))[:, None, None].sqrt() + 1e-6)
    head.style_mean.copy_(first.ws.mean((0, 1)))
    head.style_scale.copy_(first.ws.std((0, 1)) + 1e-6)
    batches = -(-seen // BATCH)
    optimizer = torch.optim.AdamW(
        head.parameters(), STEP_SIZE, betas=(0.9, 0.99), weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, STEP_SIZE, epochs * batches)
    for epoch in range(epochs):
        order = torch.randperm(seen, generator=rng).to(samples.ws.device)
        for i in range(0, seen, BATCH):
            loss = _errors(head, samples.rows(order[i : i + BATCH])).mean()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
        if on_progress:
            on_progress(epoch + 1, epochs)
    head.requires_grad_(False)
    judged = samples.rows(slice(seen, None))
    error = torch.cat([_errors(head, judged.rows(slice(i, i + BATCH)))
                       for i in range(0, len(judged.ws), BATCH)])  # fmt: skip
    return head, (error.mean() / judged.pictures.var(0).mean()).item()


def _errors(head: CoarseHead, samples: Samples) -> Tensor:
    """Mean squared error of each picture (B,)."""
    device = samples.ws.device
    dtype = feature_dtype("auto", device)
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        got = head(samples.features.to(dtype), samples.ws)
    return (got.float() - samples.pictures).square().mean((1, 2, 3))


class CoarseStart:
    """Searches on the coarse generator, whose ends are where searches begin.

    Args:
        G: the whole generator.
        head: its coarse head, on its device.
        prior: its Gaussianised styles.
        settings: of the search.
        bank: samples of the whole generator.
        kernel: of the downscale operator.
    """

    def __init__(
        self, G: Generator, head: CoarseHead, prior: LatentPrior, settings: SearchSettings,
        bank: Bank, kernel: KernelName,
    ) -> None:  # fmt: skip
        coarse = replace(settings, steps=STEPS, tolerance=TIGHTER * settings.tolerance)
        # a few at a time, whatever the size of the batch: what a start becomes must not depend on
        # it, and of one row alone a CPU rounds by its threads
        slots = 2 if G.device.type == "cpu" else 8
        self.search = Mixing(CoarseGenerator(G, head), prior, coarse, slots, bank)
        self.kernel: KernelName = kernel

    def improved(self, starts: Sequence[Start], targets: Sequence[Tensor]) -> list[Start]:
        """Starts nearer to their targets.

        Args:
            starts: B = 1 each, on the CPU.
            targets: (3, h, w) each, in [0, 1]; a start with one of more than `COARSE_PX` a side
                stays as it is.
        """
        better = list(starts)
        sizes = [(target.shape[1], target.shape[2]) for target in targets]
        for size in dict.fromkeys(size for size in sizes if max(size) <= COARSE_PX):
            A = Downscale((COARSE_PX, COARSE_PX), size, self.kernel, self.search.G.device)
            of_size = [i for i, other in enumerate(sizes) if other == size]
            for k in range(0, len(of_size), self.search.slots):
                some = of_size[k : k + self.search.slots]
                target = torch.stack([targets[i] for i in some])
                ends = self._search(A, target, [starts[i] for i in some])
                for i, end in zip(some, ends, strict=True):
                    better[i] = end
        return better

    def _search(self, A: Downscale, target: Tensor, starts: Sequence[Start]) -> list[Start]:
        """Where searches on the coarse generator end: B = 1 each, on the CPU."""
        maps = len(self.search.G.noise_sizes)
        lower = [Start(start.v, start.noise_maps[:maps]) for start in starts]
        found = search_together(self.search, A, target, stack(lower))
        ends = Start(found.v, found.noise_maps).to(torch.device("cpu"))
        return [
            Start(end.v, [*end.noise_maps, *start.noise_maps[maps:]])
            for end, start in ((ends.rows(i, i + 1), start) for i, start in enumerate(starts))
        ]
