"""What runs in each of several worker processes."""

from __future__ import annotations

from dataclasses import replace

import torch

from pulse.batch.batch_size import measure_batch_size
from pulse.candidates import Candidate, Job
from pulse.memory import keep_freed_memory
from pulse.pool import SearchPool
from pulse.posterior_pool import PosteriorPool, pool_for
from pulse.pretrained import Pretrained, choose_device
from pulse.search.bank import Bank
from pulse.settings import UpscaleSettings


class SearchWorker:
    """A generator on a device, and a pool of its own; `begin` comes before all else."""

    generator: Pretrained

    def __init__(self) -> None:
        self.pool: SearchPool | PosteriorPool | None = None
        self.numbers: dict[int, int] = {}  # id of a job to the driver's number of it

    def begin(
        self, generator: Pretrained, settings: UpscaleSettings, device: str, threads: int,
        batch_size: int | None, most: int,
    ) -> int:  # fmt: skip
        """Take a device and get ready with a batch size, or measure it; returns it.

        What fails here is told with its cause, as what fails in a constructor is not.

        Args:
            generator: on the CPU.
            settings: of the method.
            device: as `choose_device` takes it, among those that Ray lets this process see.
            threads: for computing on the CPU.
            batch_size: searches at a time; None to measure.
            most: searches at a time that there is work for.

        Raises:
            DeviceError: if there is no such device.
        """
        keep_freed_memory()
        torch.set_num_threads(threads)
        generator = generator.to(choose_device(device))
        # drawn here if it has to be: the driver may have no device that is fit for it
        wants_bank = settings.search.method != "descent" and generator.bank is None
        self.generator = generator.with_bank() if wants_bank else generator
        size = batch_size or measure_batch_size(self.generator, settings.search, most)
        self.pool = pool_for(self.generator, settings, size)
        return size

    def bank(self) -> Bank | None:
        """What the search starts from, for the other workers."""
        return self.generator.bank

    def advance(self, jobs: list[tuple[int, Job]]) -> list[tuple[int, Candidate]]:
        """Take more jobs, and search until one at least has its answer."""
        assert self.pool is not None
        self.numbers |= {id(job): number for number, job in jobs}
        self.pool.add(job for _, job in jobs)
        return [
            (self.numbers.pop(id(job)), _packed(candidate))
            for job, candidate in self.pool.advance()
        ]


def _packed(candidate: Candidate) -> Candidate:
    """The candidate with its image in the 8 bits that it has, to travel light."""
    return replace(candidate, image=candidate.image.mul(255).round().to(torch.uint8))
