"""Simulation-based calibration (Talts et al. 2018): do the answers come in proportion?

A face is drawn from the prior, reduced to few pixels with noise of a known sigma, and answered L
times. Where the answers are draws of the posterior, the true face is one more such draw: the rank
of any quantity of it among those of the answers is uniform on 0, ..., L (theorem 1).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pulse.audit.luck import fit_guess
from pulse.audit.quantities import QUANTITIES, quantities_of
from pulse.candidates import Job
from pulse.downscale import Downscale
from pulse.errors import PulseError
from pulse.faces.prepare import Face
from pulse.files import write_text_atomically
from pulse.pool import SearchPool
from pulse.pretrained import Pretrained
from pulse.search.posterior import Sampler
from pulse.search.rng import rng_for
from pulse.search.sampling import SamplerSettings
from pulse.search.surrogate import model_of
from pulse.search.together import Together, drawn_of_prior, sample_face
from pulse.settings import MethodName, SearchSettings, UpscaleSettings

PROJECTIONS = 2
LEAST_LUCK = 20  # draws that a mean is taken of
TUNED_ON = 700  # faces of each seed, the first, that the sampler may have been tuned with
SAMPLER = SamplerSettings()  # as `pulse upscale` has it


@dataclass(frozen=True, kw_only=True)
class CalibrationSettings:
    """What is drawn.

    Attributes:
        method: whose answers are ranked.
        draws: faces of the prior, after those that the sampler was tuned with.
        answers: L, for each of them.
        low_res: pixels a side.
        sigma: standard deviation of the noise, pixels in [0, 1].
        seed: any whole number.
    """

    method: MethodName = "posterior"
    draws: int = 200
    answers: int = 31
    low_res: int = 16
    sigma: float
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draws < 1 or self.answers < 1 or not self.sigma > 0:
            raise ValueError(f"got {self}, expected draws, answers and sigma above 0")

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"calibration-{self.method}-{self.low_res}px"

    @property
    def numbers(self) -> range:
        """Of the draws: `TUNED_ON` and one is the first."""
        return range(TUNED_ON + 1, TUNED_ON + 1 + self.draws)


@dataclass(frozen=True)
class Truth:
    """A face of the prior: z (1, z_dim), noise (1, Q), its picture, and what is seen of it (P,)."""

    z: Tensor
    noise: Tensor
    image: Tensor
    y: Tensor


class Calibration:
    """The study of one method at one size.

    Args:
        generator: from `load_generator`, with bank, and with head for the method "posterior".
        settings: what is drawn.
    """

    def __init__(self, generator: Pretrained, settings: CalibrationSettings) -> None:
        self.generator, self.settings = generator, settings
        G = self.generator.network
        size = (settings.low_res, settings.low_res)
        self.A = Downscale((G.resolution, G.resolution), size, device=G.device)
        self.together = Together(G, 2 * G.at_once)
        self.model = None
        if settings.method == "posterior":
            if generator.bank is None or generator.head is None:
                raise PulseError(f"'{generator.name}' has no mapping network to sample faces from")
            self.model = model_of(G, generator.prior, generator.bank, generator.head, size)
        rng = torch.Generator().manual_seed(settings.seed)
        self.directions = torch.randn(PROJECTIONS, G.z_dim, generator=rng)

    def ranks(
        self, folder: Path, on_draw: Callable[[int], None] = lambda _done: None
    ) -> list[dict[str, Any]]:
        """Rank every draw; those that the folder has already are read.

        Args:
            folder: for the file of the study.
            on_draw: called with the draws that are ranked.

        Raises:
            PulseError: if the folder's draws are other ones, or cannot be written.
        """
        path = folder / f"{self.settings.name}.json"
        rows = _earlier(path, self.settings)
        for number in self.settings.numbers[len(rows) :]:
            rows.append(self.rank(number))
            content = {"settings": asdict(self.settings), "rows": rows}
            write_text_atomically(path, json.dumps(content) + "\n")
            on_draw(len(rows))
        return rows[: self.settings.draws]

    def rank(self, number: int) -> dict[str, Any]:
        """The ranks of one draw of the prior, 0 to L each, and how the sampler fared."""
        truth, rng = self._truth(number)
        answer = self._sampled if self.model is not None else self._searched
        values, told = answer(truth, rng)
        ranks = {}
        for name, (true, others) in values.items():
            # values that are equal are put in a random order
            ties = torch.rand(len(others) + 1, generator=rng)
            is_below = (others < true) | ((others == true) & (ties[1:] < ties[0]))
            ranks[name] = int(is_below.sum())
        return {"draw": number, "ranks": ranks, "told": told}

    def luck(self) -> dict[str, float]:
        """By how many standard errors the true faces are off; empty where they are few."""
        if self.settings.draws < LEAST_LUCK:
            return {}
        truths = [self._truth(number)[0] for number in self.settings.numbers]
        read = [torch.cat(list(quantities_of(truth.image.cpu()).values())) for truth in truths]
        rng = rng_for(self.settings.seed, "guess", 1, 1)  # of other faces
        guess = fit_guess(self.together, self.A, self.settings.sigma, rng)
        off = guess.off_by(torch.stack([truth.y.cpu() for truth in truths]), torch.stack(read))
        return dict(zip(QUANTITIES, off.tolist(), strict=True))

    def _truth(self, number: int) -> tuple[Truth, torch.Generator]:
        """One draw of the prior, and its stream for what follows."""
        rng = rng_for(self.settings.seed, "calibration", 1, number)
        z, noise = drawn_of_prior(self.generator.network, 1, rng)
        image = self.together.draw(z, noise)
        low_res = self.A(image).flatten()
        y = low_res + self.settings.sigma * torch.randn(len(low_res), generator=rng).to(low_res)
        return Truth(z, noise, image, y), rng

    def _sampled(
        self, truth: Truth, rng: torch.Generator
    ) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, Any]]:
        """Quantities of the truth and of samples of the posterior."""
        assert self.model is not None
        L = self.settings.answers
        sampler = Sampler(self.model, truth.y, self.settings.sigma, rng, SAMPLER, samples=L)
        found = sample_face(self.together, sampler.run(), self.A)
        images = self.together.draw(found.z, found.noise)
        z = torch.cat([truth.z, found.z])
        return self._values(truth, images, z.cpu()), asdict(found.diagnostics)

    def _searched(
        self, truth: Truth, rng: torch.Generator
    ) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, Any]]:
        """Quantities of the truth and of what a search finds, the latent that of the mean style."""
        search = SearchSettings(method=self.settings.method)
        settings = UpscaleSettings(seed=self.settings.seed, search=search)
        face = Face(
            low_res=truth.y.view(3, *self.A.out_size).cpu(), number=1, count=1, aligned=None,
            picture=f"calibration-{rng.initial_seed()}", quad=None, notes=(), warnings=(),
        )  # fmt: skip
        L = self.settings.answers
        pool = SearchPool(self.generator, settings, min(self.together.batch_size, L))
        pool.add(Job(face, number) for number in range(1, L + 1))
        found = []
        while len(pool):
            found += [candidate for _, candidate in pool.advance()]
        G, prior = self.generator.network, self.generator.prior
        w = torch.stack([candidate.latent.mean(0) for candidate in found]).to(G.device)
        w = torch.cat([G.mapping(truth.z), w])
        images = torch.stack([candidate.image for candidate in found])
        told = {"within": sum(candidate.met_tolerance for candidate in found)}
        return self._values(truth, images, prior.from_w(w).cpu()), told

    def _values(
        self, truth: Truth, images: Tensor, latents: Tensor
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Every quantity of the truth and of the answers.

        Args:
            truth: the face.
            images: (L, 3, H, W) the answers.
            latents: (1 + L, D) of the truth and of them.
        """
        together = torch.cat([truth.image.cpu(), images.cpu()])
        values = quantities_of(together)
        low_res = self.A(together.to(truth.y.device)).flatten(1)
        values["log likelihood"] = -(low_res - truth.y).square().sum(1).cpu()
        for i, direction in enumerate(self.directions, start=1):
            values[f"projection {i}"] = latents @ direction
        return {name: (value[0], value[1:]) for name, value in values.items()}


def _earlier(path: Path, settings: CalibrationSettings) -> list[dict[str, Any]]:
    """The draws that a file has.

    Raises:
        PulseError: if they are other ones than are asked for, or the file is damaged.
    """
    if not path.exists():
        return []
    try:
        content = json.loads(path.read_text())
        of = CalibrationSettings(**content["settings"])
        rows: list[dict[str, Any]] = content["rows"]
        first = rows[0]["draw"] if rows else settings.numbers[0]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PulseError(f"cannot read {path}: {error}; move it away") from error
    if replace(of, draws=settings.draws) != settings:
        raise PulseError(f"{path} is of other settings; move it away, or choose another folder")
    if first != settings.numbers[0]:
        raise PulseError(
            f"{path} begins with draw {first}, but the sampler was tuned with the first "
            f"{TUNED_ON}; move it away, or choose another folder"
        )
    return rows
