"""Collapse, watched: what every group's pictures cost, and how light the samples' skin is.

In the prototype's adversarial phase everything looked better for 35,000 images; then the
reconstruction loss rose by half within 25,000 more, and the dark-skinned faces among fixed samples
turned light. Minorities vanish first, so they are looked at one by one, and from the start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pulse.training.data import Pictures
from pulse.training.learner import Learner, Progress
from pulse.training.phases import reconstruction_of_each
from pulse.training.randomness import stream
from pulse.training.settings import GuardSettings

FIXED_OF_A_GROUP = 16
FIXED_SAMPLES = 128
BATCH = 32
QUANTILES = (0.1, 0.5, 0.9)
# Of an aligned face, as shares of the side: cheeks and nose, below the eyes and above the mouth.
SKIN_ROWS, SKIN_COLUMNS = (0.52, 0.66), (0.34, 0.66)
STEP_DOWN = 0.5


@dataclass(frozen=True)
class Look:
    """What the guard looks at.

    Attributes:
        reconstruction: loss of each group's fixed pictures.
        lightness: quantiles of the lightness of fixed samples, L* in [0, 100].
        data_lightness: those of the data, groups in balance.
    """

    reconstruction: dict[str, float]
    lightness: list[float]
    data_lightness: list[float]

    @property
    def distances(self) -> list[float]:
        """How far each quantile is from the data's."""
        pairs = zip(self.lightness, self.data_lightness, strict=True)
        return [abs(a - b) for a, b in pairs]


@torch.no_grad()
def look_at(learner: Learner, pictures: Pictures) -> Look:
    """Look at fixed pictures and samples through the trained weights; their average lags behind."""
    places = pictures.fixed(FIXED_OF_A_GROUP)
    starts = range(0, len(places), BATCH)
    losses = torch.cat([_losses_of(learner, pictures, places[i : i + BATCH], i) for i in starts])
    groups = [pictures.groups[place] for place in places]
    by_group = {
        group: float(losses[[i for i, g in enumerate(groups) if g == group]].mean())
        for group in pictures.members
    }
    rng = stream(learner.settings.seed, "fixed samples", 0)
    z = torch.randn(FIXED_SAMPLES, learner.G.z_dim, generator=rng).to(learner.device)
    noise = learner.G.zero_noise()
    with learner.autocast():
        samples = [
            learner.G.synthesis(learner.G.broadcast(learner.G.mapping(some)), noise).float()
            for some in torch.split(z, BATCH)
        ]
    data = torch.cat([lightness(pictures.take(few)) for few in _balanced(pictures)])
    return Look(by_group, quantiles(torch.cat([lightness(x) for x in samples])), quantiles(data))


def _losses_of(learner: Learner, pictures: Pictures, places: Sequence[int], first: int) -> Tensor:
    """The reconstruction losses (B,) of some of the fixed pictures, with fixed draws."""
    rng = stream(learner.settings.seed, "fixed pictures", first)
    x = pictures.take(places).to(learner.device)
    eps = torch.randn(len(x), learner.G.z_dim, generator=rng).to(learner.device)
    with learner.autocast():
        mean, log_variance = learner.encoder(x)
        z = learner.encoder.latents(mean, log_variance, eps)
        w = learner.G.mapping(z)
        drawn = learner.G.synthesis(learner.G.broadcast(w), learner.G.zero_noise()).float()
        seen, wanted = learner.look(drawn), learner.look(x)
        return reconstruction_of_each(drawn, x, seen, wanted, learner.settings.weights).cpu()


def _balanced(pictures: Pictures) -> list[list[int]]:
    """Places of as many pictures of each group as the smallest has, up to 256."""
    smallest = min(256, *(len(places) for places in pictures.members.values()), 256)
    places = pictures.fixed(smallest)
    return [places[i : i + 256] for i in range(0, len(places), 256)]


def lightness(x: Tensor) -> Tensor:
    """The median lightness of the skin of aligned faces x (B, 3, R, R) in [-1, 1]: L* (B,).

    CIE 1976 L* of sRGB; the median passes over nostrils, glasses and lights. Of pictures that are
    no faces it is the lightness of the middle.
    """
    size = x.shape[-1]
    top, bottom = (round(share * size) for share in SKIN_ROWS)
    left, right = (round(share * size) for share in SKIN_COLUMNS)
    srgb = (x[:, :, top:bottom, left:right].float() / 2 + 0.5).clamp(0, 1)
    linear = torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    y = (linear * linear.new_tensor([0.2126, 0.7152, 0.0722])[:, None, None]).sum(1)
    y = y.flatten(1).median(1).values
    return torch.where(y > (6 / 29) ** 3, 116 * y ** (1 / 3) - 16, y * (29 / 3) ** 3).cpu()


def quantiles(values: Tensor) -> list[float]:
    """The 10th, 50th and 90th percentile."""
    return values.quantile(torch.tensor(QUANTILES)).tolist()


def drifts(look: Look, progress: Progress, bounds: GuardSettings) -> list[str]:
    """What has drifted beyond the bounds since its best, in words; empty where all is well."""
    found = [
        f"reconstruction of {group} {loss:.3g}, {loss / progress.lowest[group]:.2f} of its lowest, "
        f"bound {bounds.reconstruction:g}"
        for group, loss in look.reconstruction.items()
        if loss > bounds.reconstruction * progress.lowest.get(group, loss)
    ]
    nearest = progress.nearest or look.distances
    for q, distance, least in zip(QUANTILES, look.distances, nearest, strict=True):
        if distance > least + bounds.lightness:
            found.append(
                f"lightness at {q:.0%} of samples {distance:.1f} from the data's, was {least:.1f}, "
                f"bound {bounds.lightness:g} more"
            )
    return found


def note_best(look: Look, progress: Progress) -> None:
    """Remember the best of each watched number."""
    for group, loss in look.reconstruction.items():
        progress.lowest[group] = min(loss, progress.lowest.get(group, loss))
    nearest = progress.nearest or look.distances
    progress.nearest = [min(pair) for pair in zip(nearest, look.distances, strict=True)]
    progress.in_a_row = 0


def lowered(drifted: Sequence[str], progress: Progress) -> str:
    """Lower what made it drift, and say so: the first time the adversarial weight, then both.

    Reconstruction is lost where the discriminator pulls harder than it; the samples' distribution
    moves with the mapping network.
    """
    is_reconstruction = any(text.startswith("reconstruction") for text in drifted)
    is_lightness = any(text.startswith("lightness") for text in drifted)
    said = []
    if is_reconstruction:
        progress.adversarial *= STEP_DOWN
        said.append(f"the adversarial weight is {progress.adversarial:g} of what it was set to")
    if is_lightness or progress.in_a_row > 0:
        progress.mapping *= STEP_DOWN
        said.append(f"the mapping network's rate is {progress.mapping:g} of what it was set to")
    return " and ".join(said)


def as_record(look: Look) -> Mapping[str, object]:
    """A look for the log."""
    return {
        "reconstruction": {g: round(v, 4) for g, v in look.reconstruction.items()},
        "lightness": [round(v, 2) for v in look.lightness],
        "data_lightness": [round(v, 2) for v in look.data_lightness],
    }
