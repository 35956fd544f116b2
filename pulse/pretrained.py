"""A generator ready to be searched: network, prior, and the device they are on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from pulse.checkpoints.load import load_network
from pulse.errors import DeviceError, PulseError
from pulse.files import cache_dir, write_bytes_atomically
from pulse.generators.base import Generator
from pulse.search.latent import LatentPrior, fit_prior
from pulse.settings import EMBEDDED


@dataclass(frozen=True)
class Pretrained:
    """A generator ready to be searched.

    Attributes:
        network: the generator.
        prior: its Gaussianised styles.
        name: what to call it.
        sha256: of its weights file, hexadecimal.
    """

    network: Generator
    prior: LatentPrior
    name: str
    sha256: str

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.network.device


def load_generator(source: str | Path = EMBEDDED, device: str = "auto") -> Pretrained:
    """Load a generator and its prior.

    The prior is fitted from the mapping network when it is first needed and kept in the cache
    (`PULSE_HOME`, else the user's cache folder), under the hash of the weights.

    Args:
        source: "portraits-128" for the embedded generator, or the path of a weights file.
        device: see `choose_device`.

    Raises:
        WeightsError: if the weights are missing, damaged or not a generator.
        DeviceError: if there is no such device.
    """
    chosen = choose_device(device)
    loaded = load_network(source)
    prior = _cached_prior(loaded.network, loaded.sha256)
    # channels last: the convolutions run up to twice as fast on CPUs and tensor cores
    network = loaded.network.to(chosen).to(memory_format=torch.channels_last)
    return Pretrained(network, prior.to(chosen), loaded.name, loaded.sha256)


def choose_device(name: str = "auto") -> torch.device:
    """Turn "auto", "cpu", "cuda", "cuda:1" or "mps" into a device that is there.

    "auto" takes the first CUDA device, else MPS, else the CPU.

    Raises:
        DeviceError: naming the devices that there are.
    """
    cuda = [f"cuda:{k}" for k in range(torch.cuda.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    present = [*cuda, *mps, "cpu"]
    if name == "auto":
        return torch.device(present[0])
    if name in present or (name == "cuda" and cuda):
        return torch.device(name)
    raise DeviceError(
        f"there is no device '{name}' here; --device takes auto, {', '.join(present)}"
    )


def _cached_prior(network: Generator, sha256: str) -> LatentPrior:
    path = cache_dir() / "priors" / f"{sha256}.safetensors"
    try:
        tensors = load_file(path)
        return LatentPrior(tensors["mean"], tensors["std"])
    except (OSError, SafetensorError, KeyError, ValueError):
        prior = fit_prior(network.mapping, network.z_dim)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomically(path, save({"mean": prior.mean, "std": prior.std}))
    except (OSError, PulseError):
        pass  # a cache that cannot be written costs seconds, not the pictures
    return prior
