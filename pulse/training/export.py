"""A trained generator as a weights file that `pulse upscale --generator` takes, with its card."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from pulse.errors import WeightsError
from pulse.files import make_folder, printable_path, write_bytes_atomically
from pulse.generators.stylegan2 import StyleGAN2
from pulse.training.learner import Learner
from pulse.training.randomness import stream

MEAN_STYLE_SAMPLES = 10_000
HALF_FROM = 256  # values; smaller tensors stay single, they weigh nothing


@dataclass(frozen=True)
class Card:
    """What the maker of a generator says about it.

    Attributes:
        data: where the pictures come from.
        licence: text or name of the licence of the weights.
    """

    data: str = "not stated"
    licence: str = "not stated"


def export(
    learner: Learner,
    target: Path,
    card: Card,
    measures: Mapping[str, object],
    *,
    half: bool = False,
) -> None:
    """Write the averaged weights as safetensors, with the model card in the metadata.

    Args:
        learner: the training.
        target: the file, which must end in .safetensors.
        card: what the maker says.
        measures: the last ones.
        half: whether larger tensors are stored in half precision, in half the room.

    Raises:
        WeightsError: for another suffix.
        PulseError: if it cannot be written.
    """
    if target.suffix != ".safetensors":
        raise WeightsError(
            f"{printable_path(target)} must end in .safetensors, the format that is written"
        )
    G = finished(learner)
    metadata = {
        "architecture": G.architecture,
        "name": target.stem,
        "resolution": str(G.resolution),
        "data": card.data,
        "licence": card.licence,
        "images_seen": str(learner.progress.images),
        "trained": date.today().isoformat(),
        "measures": json.dumps(measures),
    }
    state = {key: _stored(tensor, half) for key, tensor in G.state_dict().items()}
    make_folder(target.parent)
    write_bytes_atomically(target, save(state, metadata))


def finished(learner: Learner) -> StyleGAN2:
    """The averaged generator on the CPU, with the mean style that truncation pulls towards."""
    G = copy.deepcopy(learner.ema).cpu()
    rng = stream(learner.settings.seed, "mean style", 0)
    with torch.no_grad():
        z = torch.randn(MEAN_STYLE_SAMPLES, G.z_dim, generator=rng)
        G.w_avg.copy_(G.mapping(z).mean(0))
    return G


def _stored(tensor: Tensor, half: bool) -> Tensor:
    tensor = tensor.detach().clone(memory_format=torch.contiguous_format)
    return tensor.half() if half and tensor.numel() >= HALF_FROM else tensor
