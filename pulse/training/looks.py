"""What is looked at every so many images: measures against the data, and a sheet of samples."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pulse.files import write_bytes_atomically
from pulse.images import to_image
from pulse.training.data import Pictures
from pulse.training.features import pooled
from pulse.training.learner import Learner
from pulse.training.metrics import frechet_distance, nearest, nearness, recall_by_group
from pulse.training.randomness import draw_noise, stream

BATCH = 32
COLUMNS = 8
SAMPLE_ROWS = 4


@dataclass(frozen=True)
class Measures:
    """How near samples of the averaged weights are to the data.

    Attributes:
        frechet: Fréchet distance in the space of the features.
        recall: of each group, a share.
        nearness: see `pulse.training.metrics.nearness`.
    """

    frechet: float
    recall: dict[str, float]
    nearness: float

    def as_record(self) -> dict[str, object]:
        """For the log and the model card."""
        return {
            "frechet_distance": round(self.frechet, 3),
            "recall": {group: round(value, 3) for group, value in self.recall.items()},
            "nearness": round(self.nearness, 3),
        }


class Looks:
    """Measures and sheets of one training.

    Args:
        pictures: the data, whose features are computed once for each resolution.
    """

    def __init__(self, learner: Learner, pictures: Pictures) -> None:
        self.pictures = pictures
        places = range(len(pictures))
        batches = [list(places[i : i + BATCH]) for i in range(0, len(places), BATCH)]
        with learner.autocast():
            real = [
                pooled(learner.frozen_look(pictures.take(batch).to(learner.device))).cpu()
                for batch in batches
            ]
        self.real = torch.cat(real)  # (N, 320)

    @torch.no_grad()
    def samples(self, learner: Learner, count: int) -> Tensor:
        """Samples (count, 3, R, R) of the averaged weights, the same latents every time."""
        rng = stream(learner.settings.seed, "measured samples", 0)
        G, drawn = learner.ema, []
        for start in range(0, count, BATCH):
            B = min(BATCH, count - start)
            z = torch.randn(B, G.z_dim, generator=rng).to(learner.device)
            noise_maps = draw_noise(G.noise_sizes, B, rng, learner.device)
            with learner.autocast():
                drawn.append(G.synthesis(G.broadcast(G.mapping(z)), noise_maps).float().cpu())
        return torch.cat(drawn)

    def features_of(self, learner: Learner, x: Tensor) -> Tensor:
        """Averaged deepest features (N, 320) of pictures x (N, 3, R, R), rounded to 8 bits."""
        x = x.clamp(-1, 1).add(1).mul(127.5).round().div(127.5).sub(1)
        with learner.autocast():
            batches = [x[i : i + BATCH].to(learner.device) for i in range(0, len(x), BATCH)]
            return torch.cat([pooled(learner.frozen_look(batch)).cpu() for batch in batches])

    def measure(self, learner: Learner) -> Measures:
        """Measure samples against the data."""
        drawn = self.features_of(learner, self.samples(learner, learner.settings.metric_samples))
        return Measures(
            frechet_distance(drawn, self.real),
            recall_by_group(self.real, drawn, self.pictures.members),
            nearness(drawn, self.real),
        )

    @torch.no_grad()
    def sheet(self, learner: Learner) -> Tensor:
        """Samples; pictures of the data above what the encoder makes of them; nearest neighbours.

        Returns:
            (3, H, W) in [-1, 1]: four rows of samples, a row of pictures and their
            reconstructions, and a row of samples above their nearest pictures of the data.
        """
        samples = self.samples(learner, COLUMNS * SAMPLE_ROWS)
        places = self.pictures.fixed(COLUMNS)
        places = places[:: max(1, len(places) // COLUMNS)][:COLUMNS]
        x = self.pictures.take(places)
        with learner.autocast():
            G = learner.ema
            mean, log_variance = learner.encoder(x.to(learner.device))
            # drawn, not their means, which are short and would be stretched by the mapping network
            rng = stream(learner.settings.seed, "reconstructed", 0)
            eps = torch.randn(mean.shape, generator=rng).to(learner.device)
            z = learner.encoder.latents(mean, log_variance, eps)
            again = G.synthesis(G.broadcast(G.mapping(z)), G.zero_noise()).float().cpu()
        first = samples[:COLUMNS]
        _, neighbours = nearest(self.features_of(learner, first), self.real)
        rows = [samples[i : i + COLUMNS] for i in range(0, len(samples), COLUMNS)]
        rows += [x, again, first, self.pictures.take(neighbours.tolist())]
        return torch.cat([torch.cat(list(_filled(row)), dim=2) for row in rows], dim=1)


def _filled(row: Tensor) -> Tensor:
    """A row with black pictures at its end where the data have too few."""
    missing = COLUMNS - len(row)
    return row if not missing else torch.cat([row, row.new_full((missing, *row.shape[1:]), -1)])


def write_sheet(path: Path, sheet: Tensor) -> None:
    """Write a sheet (3, H, W) in [-1, 1] as a PNG.

    Raises:
        PulseError: if it cannot be written.
    """
    data = io.BytesIO()
    to_image((sheet.clamp(-1, 1) + 1) / 2).save(data, "PNG")
    write_bytes_atomically(path, data.getvalue())
