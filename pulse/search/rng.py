"""Randomness that belongs to the job, not to the process or the batch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Stream:
    """Random numbers for the rows of tensors, drawn on the CPU.

    Attributes:
        rngs: one for all rows, or one for each few of them: these rows then get the same numbers
            however many others there are.
        rows: that each has; 0 for all.
    """

    rngs: tuple[torch.Generator, ...]
    rows: int = 0

    @property
    def first(self) -> torch.Generator:
        """The stream of what concerns all rows."""
        return self.rngs[0]

    def parted(self, rows: int, parts: int) -> Stream:
        """Streams that follow from this one, each for some rows."""
        seeds = torch.randint(2**62, (parts,), generator=self.first).tolist()
        return Stream(tuple(torch.Generator().manual_seed(seed) for seed in seeds), rows)

    def normal(self, *shape: int, device: torch.device) -> Tensor:
        """Standard normal numbers, on a device."""
        parts = self._parts(shape[0])
        return torch.cat([torch.randn(n, *shape[1:], generator=rng) for rng, n in parts]).to(device)

    def uniform(self, count: int, device: torch.device) -> Tensor:
        """Numbers in [0, 1), on a device: (count,) float64."""
        parts = self._parts(count)
        numbers = [torch.rand(n, generator=rng, dtype=torch.float64) for rng, n in parts]
        return torch.cat(numbers).to(device)

    def _parts(self, count: int) -> list[tuple[torch.Generator, int]]:
        """Who draws for how many of the rows."""
        rows = self.rows or count
        sizes = [min(rows, count - start) for start in range(0, count, rows)]
        return list(zip(self.rngs[: len(sizes)], sizes, strict=True))
