"""A small network that stands in for a generator at low resolution.

It maps a style to the low-resolution picture that the generator would draw from it, a few thousand
times faster and not quite right. It is trained on the generator's own samples. The sampler
(`posterior`) explores with it and corrects with the generator.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pulse.downscale import Downscale
from pulse.generators.base import Generator
from pulse.search.bank import Bank
from pulse.search.latent import LatentPrior
from pulse.search.precision import feature_dtype
from pulse.search.sampling import Model
from pulse.search.threads import one_thread
from pulse.search.whitening import resized
from pulse.shapes import check_shape

HEAD_PX = 16  # the largest low-resolution pictures that it knows
WIDTH, BLOCKS = 768, 3  # 5.5 MB in half precision
BATCH, STEP_SIZE = 4096, 2e-3  # of the training
SPREAD = 0.2  # share of a residual's variance that is taken to be alike in all directions


class Head(nn.Module):
    """Gaussianised styles v (B, D) to low-resolution pictures (B, 3, s, s), s = HEAD_PX.

    Args:
        w_dim: D.
        width: of the layers between.
        blocks: residual layers between the first and the last.
    """

    def __init__(self, w_dim: int, width: int = WIDTH, blocks: int = BLOCKS) -> None:
        super().__init__()
        self.first = nn.Linear(w_dim, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.last = nn.Linear(width, 3 * HEAD_PX**2)

    def features(self, v: Tensor) -> Tensor:
        """What the last layer takes: (B, width)."""
        x = F.silu(self.first(v))
        for block in self.blocks:
            x = x + F.silu(block(x))
        return x

    def forward(self, v: Tensor) -> Tensor:
        """What the generator would draw, downscaled by the bicubic operator."""
        return self.last(self.features(v)).unflatten(1, (3, HEAD_PX, HEAD_PX))  # (B, 3, s, s)

    @classmethod
    def from_state_dict(cls, state: dict[str, Tensor]) -> Head:
        """A frozen head of tensors; its sizes are inferred from their shapes.

        Raises:
            ValueError: if they are not those of a head.
        """
        try:
            width, w_dim = state["first.weight"].shape
            head = cls(w_dim, width, sum(name.startswith("blocks.") for name in state) // 2)
            head.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        except (KeyError, RuntimeError) as error:
            raise ValueError(f"got tensors of no head: {error}") from error
        return head.requires_grad_(False)


@torch.no_grad()
def draw_samples(
    G: Generator, prior: LatentPrior, samples: int, rng: torch.Generator,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Draw styles and low-resolution pictures from the prior.

    Args:
        G: the generator.
        prior: its Gaussianised styles.
        samples: how many.
        rng: on the generator's device.
        on_progress: called with the samples drawn so far and the samples in all.

    Returns:
        v (N, D) and pictures (N, 3, s, s), both in half precision, on the generator's device.
    """
    A = Downscale((G.resolution, G.resolution), (HEAD_PX, HEAD_PX), device=G.device)
    v, pictures = [], []
    for start in range(0, samples, G.at_once):
        n = min(G.at_once, samples - start)
        w = G.mapping(torch.randn(n, G.z_dim, generator=rng, device=G.device))
        noise_maps = [
            torch.randn(n, 1, size, size, generator=rng, device=G.device) for size in G.noise_sizes
        ]
        with torch.autocast(G.device.type, torch.bfloat16):
            x = G.render(G.broadcast(w), noise_maps)
        v.append(prior.from_w(w).half())
        pictures.append(A(x.float().clamp(0, 1)).half())
        if on_progress:
            on_progress(start + n, samples)
    return torch.cat(v), torch.cat(pictures)


def fit_head(
    v: Tensor, pictures: Tensor, rng: torch.Generator, steps: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> Head:  # fmt: skip
    """Train a head to the least mean squared error.

    Args:
        v: (N, D) Gaussianised styles.
        pictures: (N, 3, s, s) what the generator draws from them, downscaled.
        rng: chooses the batches, on their device.
        steps: of Adam, on one cycle of step sizes.
        on_progress: called with the steps so far and the steps in all.
    """
    check_shape("pictures", pictures, len(v), 3, HEAD_PX, HEAD_PX)
    with torch.random.fork_rng(devices=[]):  # the layers' first values come from the global stream
        torch.default_generator.manual_seed(0)
        head = Head(v.shape[1]).to(v.device)
    with torch.no_grad():
        head.last.weight.mul_(0.2)
        head.last.bias.copy_(pictures[:10_000].float().mean(0).flatten())
    optimizer = torch.optim.AdamW(head.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, STEP_SIZE, steps)
    for step in range(steps):
        rows = torch.randint(len(v), (BATCH,), generator=rng, device=v.device)
        with torch.autocast(v.device.type, torch.bfloat16):
            got = head(v[rows].float())
        loss = (got.float() - pictures[rows].float()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if on_progress:
            on_progress(step + 1, steps)
    return head.requires_grad_(False)


def model_of(
    G: Generator, prior: LatentPrior, bank: Bank, head: Head, size: tuple[int, int]
) -> Model:
    """What the sampler has to know of a generator at one size of low-resolution pictures.

    Args:
        G: the generator.
        prior: its Gaussianised styles, on its device.
        bank: samples of it, which tell how wrong the head is.
        head: its head, on its device.
        size: (h, w), none above `HEAD_PX`.
    """
    if max(size) > HEAD_PX:
        raise ValueError(f"got size {size}, expected at most {HEAD_PX} pixels a side")
    values = 3 * HEAD_PX**2
    down = torch.eye(values)  # (values, P)
    if size != (HEAD_PX, HEAD_PX):
        pictures = down.view(values, 3, HEAD_PX, HEAD_PX)
        down = Downscale((HEAD_PX, HEAD_PX), size)(pictures).flatten(1)
    with torch.no_grad():
        seen = head(bank.v.to(G.device)).flatten(1).cpu() @ down
    error = resized(bank.pictures, size).flatten(1) - seen
    covariance = error.T @ error / len(error)
    # fewer samples than values: their covariance alone would call most directions free of error
    alike = SPREAD * covariance.diagonal().mean() * torch.eye(len(covariance))
    with one_thread():
        variances, axes = torch.linalg.eigh((1 - SPREAD) * covariance + alike)
    turned = (down @ axes).T.to(G.device)  # the last layer gives pictures along the axes at once
    weight, bias = turned @ head.last.weight, turned @ head.last.bias

    # bfloat16 changes the pictures by 0.001, a tenth of the head's error: it sees what is left of
    # them without the bias, along most axes little
    dtype = feature_dtype("auto", G.device)
    features, weight = copy.deepcopy(head).to(dtype).features, weight.to(dtype)

    def surrogate(z: Tensor) -> Tensor:
        with torch.autocast(G.device.type, dtype, enabled=dtype != torch.float32):
            w = G.mapping(z)
        v = prior.from_w(w.float())
        return F.linear(features(v.to(dtype)), weight).float() + bias

    noise_values = sum(noise_px**2 for noise_px in G.noise_sizes)
    return Model(surrogate, axes.to(G.device), variances.to(G.device), G.z_dim, noise_values)
