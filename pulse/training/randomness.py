"""Random streams that follow from where a training is, so that nothing has to be remembered.

A training that was cut goes on with the streams it would have had, whatever was drawn between.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def stream(seed: int, purpose: str, images: int, attempt: int = 0) -> torch.Generator:
    """The random stream for one purpose at one place of a training, on the CPU.

    Args:
        seed: the user's.
        purpose: what is drawn.
        images: images seen so far.
        attempt: how often the training was turned back, so that it does not do the same again.
    """
    place = f"{seed}/{purpose}/{images}/{attempt}".encode()
    digest = hashlib.sha256(place).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def draw_noise(
    sizes: Sequence[int], batch: int, rng: torch.Generator, device: torch.device
) -> list[Tensor]:
    """Noise maps (B, 1, size, size) from the standard normal distribution."""
    return [torch.randn(batch, 1, s, s, generator=rng).to(device) for s in sizes]
