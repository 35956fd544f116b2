"""Randomness that belongs to the job, not to the process or the batch."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def rng_for(seed: int, picture: str, face: int, candidate: int) -> torch.Generator:
    """The random stream of one candidate, the same on any device, alone or in a batch.

    It is drawn from on the CPU: the streams of other devices differ from model to model.

    Args:
        seed: the user's seed; 0 is a seed like any other.
        picture: what identifies the picture, such as a hash of its pixels.
        face: number of the face in the picture, from 1.
        candidate: number of the candidate, from 1.
    """
    job = f"{seed}/{picture}/{face}/{candidate}".encode()
    rng = torch.Generator(device="cpu")
    rng.manual_seed(int.from_bytes(hashlib.sha256(job).digest()[:8], "little") >> 1)
    return rng


def normal(rng: torch.Generator, *shape: int, device: torch.device) -> Tensor:
    """Standard normal numbers of a stream, on a device."""
    return torch.randn(*shape, generator=rng).to(device)


def uniform(rng: torch.Generator, count: int, device: torch.device) -> Tensor:
    """Numbers in [0, 1) of a stream, on a device: (count,) float64."""
    return torch.rand(count, generator=rng, dtype=torch.float64).to(device)
