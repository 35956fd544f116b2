"""A generator ready to be searched: network, prior, and the device they are on."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pulse.checkpoints.load import Loaded, load_network
from pulse.errors import DeviceError, WeightsError
from pulse.fitted import OnProgress, bank_of, head_of, kept_coarse_head, prior_of
from pulse.generators.base import Generator
from pulse.search.bank import Bank
from pulse.search.coarse import CoarseHead
from pulse.search.latent import LatentPrior
from pulse.search.surrogate import Head
from pulse.settings import EMBEDDED, SearchSettings


@dataclass(frozen=True)
class Pretrained:
    """A generator ready to be searched.

    Attributes:
        network: the generator.
        prior: its Gaussianised styles.
        name: what to call it.
        sha256: of its weights file, hexadecimal.
        class_index: the class that it draws; None where it knows no classes.
        bank: samples of it, on the CPU; None where it has no mapping network, or none was asked
            for.
        head: what it draws at low resolution, about; None where none was asked for.
        coarse_head: what its lower blocks tell of that; None where none was trained.
    """

    network: Generator
    prior: LatentPrior
    name: str
    sha256: str
    class_index: int | None = None
    bank: Bank | None = None
    head: Head | None = None
    coarse_head: CoarseHead | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.network.device

    def to(self, device: torch.device) -> Pretrained:
        """The same generator on a device; one that is there already is not copied."""
        if device == self.device:
            return self
        network = copy.deepcopy(self.network).to(device)
        return replace(
            self, network=network, prior=self.prior.to(device),
            head=copy.deepcopy(self.head).to(device) if self.head else None,
            coarse_head=copy.deepcopy(self.coarse_head).to(device) if self.coarse_head else None,
        )  # fmt: skip

    def coarse_head_for(self, settings: SearchSettings) -> CoarseHead | None:
        """The coarse head that leads searches to where they begin; None where none does.

        With one style for all layers none does: it took as many steps afterwards.
        """
        is_led = settings.method == "mixing" and not settings.tile_latent
        return self.coarse_head if is_led else None

    def with_bank(self, on_progress: OnProgress | None = None) -> Pretrained:
        """The same generator with its bank; see `bank_of`."""
        bank = bank_of(self.network, self.sha256, self.prior, on_progress=on_progress)
        return replace(self, bank=bank)


def load_generator(
    source: str | Path = EMBEDDED,
    device: str = "auto",
    class_index: int | None = None,
    on_progress: OnProgress | None = None,
    on_bank: OnProgress | None = None,
    *,
    with_bank: bool = True,
    with_head: bool = False,
    on_head: OnProgress | None = None,
) -> Pretrained:
    """Load a generator, its prior and its bank of samples.

    Prior and bank are made with the mapping network when they are first needed and kept in the
    cache (`PULSE_HOME`, else the user's cache folder), under the hash of the weights; so is a
    coarse head, where `pulse weights fit --coarse` has trained one. For weights
    without a mapping network PULSE's `gaussian_fit.pt` is taken from beside them, and there is no
    bank.

    Args:
        source: a name of the catalogue, such as "portraits-128", or the path of a weights file.
        device: see `choose_device`.
        class_index: which class to draw, for generators that know several.
        on_progress: called with the samples drawn so far and the samples in all, if a prior has to
            be fitted.
        on_bank: the same for a bank that has to be drawn.
        with_bank: whether the bank is wanted; the methods "mixing" and "posterior" want it.
        with_head: whether the head is wanted; the method "posterior" wants it.
        on_head: called with what is done so far and what there is to do, if a head has to be
            trained.

    Raises:
        WeightsError: if the weights are missing, damaged or not a generator, or need a class.
        DeviceError: if there is no such device.
    """
    chosen = choose_device(device)
    loaded = load_network(source)
    choose_class(loaded, class_index)
    prior = prior_of(loaded, on_progress)
    # channels last: the convolutions run up to twice as fast on CPUs and tensor cores
    network = loaded.network.to(chosen).to(memory_format=torch.channels_last)
    prior = prior.to(chosen)
    head = (
        head_of(replace(loaded, network=network), prior, on_progress=on_head) if with_head else None
    )
    generator = Pretrained(
        network, prior, loaded.name, loaded.sha256, class_index, bank=None, head=head,
        coarse_head=kept_coarse_head(network, loaded.sha256),
    )  # fmt: skip
    return generator.with_bank(on_bank) if with_bank else generator


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


def choose_class(loaded: Loaded, class_index: int | None) -> None:
    """Choose the class to draw; exactly the generators that know classes need one.

    Raises:
        WeightsError: if a class is needed and missing, or there is no such class.
    """
    network, name = loaded.network, loaded.name
    if class_index is None:
        if network.num_classes:
            raise WeightsError(
                f"'{name}' draws {network.num_classes} classes; choose one with --class 0 to "
                f"--class {network.num_classes - 1}"
            )
        return
    try:
        network.choose_class(class_index)
    except ValueError as error:
        raise WeightsError(f"'{name}': {error}; see --class") from error
