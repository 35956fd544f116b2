"""What is fitted to a generator once, and kept in the cache: prior, bank of samples, heads."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from pulse.checkpoints.load import Loaded
from pulse.errors import PulseError, WeightsError
from pulse.files import cache_dir, make_folder, write_bytes_atomically
from pulse.generators.base import Generator
from pulse.search.bank import Bank, fit_bank
from pulse.search.coarse import (
    EPOCHS,
    LARGEST_ERROR,
    CoarseHead,
    can_be_coarse,
    draw_coarse_samples,
    fit_coarse_head,
)
from pulse.search.latent import LatentPrior, fit_prior
from pulse.search.surrogate import Head, draw_samples, fit_head

OnProgress = Callable[[int, int], None]
BANK_SAMPLES = 250  # seconds on the embedded generator; more make hardly a difference
BANK_TENSORS = ("v", "pictures", "changes")
SMALLEST_BANK = 20  # fewer tell nothing of what a generator draws
HEAD_SUFFIX = ".head.safetensors"  # beside the weights
HEAD_SAMPLES, HEAD_STEPS = 50_000, 5000  # some 20 minutes on two cores, a minute on a GPU


def prior_of(
    loaded: Loaded,
    on_progress: OnProgress | None = None,
    samples: int = 100_000,
    *,
    again: bool = False,
) -> LatentPrior:
    """The prior of a generator: from beside it, from the cache, or fitted now and kept.

    Args:
        loaded: from `load_network`, its class chosen.
        on_progress: called with the samples drawn so far and the samples in all.
        samples: how many to fit it with.
        again: whether it is fitted even if the cache has it.

    Raises:
        WeightsError: if there is neither a mapping network nor a fit beside the weights.
    """
    network = loaded.network
    if loaded.gaussian_fit is not None:
        return LatentPrior(*(tensor.float() for tensor in loaded.gaussian_fit))
    if not network.has_mapping:
        raise WeightsError(
            f"{loaded.paths[0]} holds a synthesis network only; put PULSE's mapping.pt or "
            "gaussian_fit.pt beside it, or give weights with a mapping network"
        )
    path = _cached(network, loaded.sha256, "priors")
    tensors = None if again else _read_cache(path, ("mean", "std", "covariance"), network.w_dim)
    if tensors is not None:
        return LatentPrior(**tensors)
    prior = fit_prior(network.mapping, network.z_dim, samples, on_progress=on_progress)
    assert prior.covariance is not None
    _keep(path, {"mean": prior.mean, "std": prior.std, "covariance": prior.covariance})
    return prior


def bank_of(
    network: Generator,
    sha256: str,
    prior: LatentPrior,
    samples: int | None = None,
    on_progress: OnProgress | None = None,
    *,
    again: bool = False,
) -> Bank | None:
    """The bank of a generator: from the cache, or drawn now and kept.

    Args:
        network: the generator, its class chosen.
        sha256: of its weights file.
        prior: its Gaussianised styles, on the device of the network.
        samples: how many to draw; None for as many as the cache has, or `BANK_SAMPLES`.
        on_progress: called with the samples drawn so far and the samples in all.
        again: whether it is drawn even if the cache has it.

    Returns:
        The bank; None without a mapping network to draw from.
    """
    if not network.has_mapping:
        return None
    path = _cached(network, sha256, "banks")
    bank = None if again else _read_bank(path, network)
    if bank is not None and samples in (None, len(bank.v)):
        return bank
    bank = fit_bank(network, prior, samples or BANK_SAMPLES, on_progress=on_progress)
    tensors = {name: getattr(bank, name).half() for name in BANK_TENSORS}
    _keep(path, tensors)
    return _bank_from(tensors)  # as the next run will read it


def head_of(
    loaded: Loaded,
    prior: LatentPrior,
    samples: int | None = None,
    steps: int = HEAD_STEPS,
    on_progress: OnProgress | None = None,
    *,
    again: bool = False,
) -> Head | None:
    """The head of a generator: from beside it, from the cache, or trained now and kept.

    Args:
        loaded: from `load_network`, its class chosen.
        prior: its Gaussianised styles, on the device of the network.
        samples: how many to draw for the training; None for `HEAD_SAMPLES`.
        steps: of the training.
        on_progress: called with what is done so far and what there is to do.
        again: whether it is trained even if there is one.

    Returns:
        The head, on the device of the network; None without a mapping network to draw from.
    """
    network = loaded.network
    if not network.has_mapping:
        return None
    beside = loaded.paths[0].with_suffix(HEAD_SUFFIX)
    path = _cached(network, loaded.sha256, "heads")
    for place in () if again else (beside, path):
        head = _read_head(place, loaded)
        if head is not None:
            return head.to(network.device)
    rng = torch.Generator(network.device).manual_seed(3)
    drawn = draw_samples(network, prior, samples or HEAD_SAMPLES, rng, on_progress=on_progress)
    head = fit_head(*drawn, rng, steps, on_progress)
    _keep(path, {name: t.half().cpu().contiguous() for name, t in head.state_dict().items()},
          {"generator_sha256": loaded.sha256})  # fmt: skip
    return head


def fit_coarse(
    loaded: Loaded,
    prior: LatentPrior,
    samples: int,
    epochs: int = EPOCHS,
    on_progress: OnProgress | None = None,
) -> float:
    """Train the coarse head of a generator, and keep it in the cache if it is of use.

    Args:
        loaded: from `load_network`, its class chosen.
        prior: its Gaussianised styles, on the device of the network.
        samples: how many to draw for the training.
        epochs: of the training.
        on_progress: called with what is done so far and what there is to do.

    Returns:
        What the head misses on new samples, as a share of what their pictures vary. Above
        `LARGEST_ERROR` it is not kept; one of before then stays.

    Raises:
        WeightsError: if such a generator has no coarse one.
        PulseError: if the cache cannot be written.
    """
    check_coarse(loaded)
    network = loaded.network
    rng = torch.Generator().manual_seed(4)
    drawn = draw_coarse_samples(network, prior, samples, rng, on_progress=on_progress)
    head, error = fit_coarse_head(drawn, rng, epochs, on_progress)
    if error <= LARGEST_ERROR:
        path = _cached(network, loaded.sha256, "coarse")
        make_folder(path.parent)
        tensors = {n: t.half().cpu().contiguous() for n, t in head.state_dict().items()}
        write_bytes_atomically(path, save(tensors))
    return error


def check_coarse(loaded: Loaded) -> None:
    """See that a generator can have a coarse one.

    Raises:
        WeightsError: if it cannot.
    """
    if not loaded.network.has_mapping or not can_be_coarse(loaded.network):
        raise WeightsError(
            f"'{loaded.name}' has no coarse generator: --coarse takes StyleGAN 1 and 2 of 64 px or "
            "more, with a mapping network"
        )


def remove_coarse(loaded: Loaded) -> bool:
    """Remove the coarse head of a generator from the cache; whether there was one."""
    path = _cached(loaded.network, loaded.sha256, "coarse")
    was_there = path.exists()
    path.unlink(missing_ok=True)
    return was_there


def kept_coarse_head(network: Generator, sha256: str) -> CoarseHead | None:
    """The coarse head that the cache has for a generator, on its device; None where it has none."""
    try:
        head = CoarseHead.from_state_dict(load_file(_cached(network, sha256, "coarse")))
    except (OSError, SafetensorError, ValueError):
        return None
    return head.to(network.device).to(memory_format=torch.channels_last)


def _read_head(path: Path, loaded: Loaded) -> Head | None:
    """A head from a file; None where there is none, or one of another generator."""
    try:
        with safe_open(path, "pt") as file:
            of = (file.metadata() or {}).get("generator_sha256")
            head = Head.from_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, ValueError):
        return None
    fits = of == loaded.sha256 and head.first.in_features == loaded.network.w_dim
    return head if fits else None


def _cached(network: Generator, sha256: str, kind: str) -> Path:
    """Where the cache keeps what was fitted to these weights and this class."""
    chosen = network.chosen_class
    name = sha256 if chosen is None else f"{sha256}-class{chosen}"
    return cache_dir() / kind / f"{name}.safetensors"


def _read_cache(path: Path, names: tuple[str, ...], w_dim: int) -> dict[str, Tensor] | None:
    """Tensors from the cache; None where they are not there or damaged."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError):
        return None
    fits = set(tensors) == set(names) and all(len(t) == w_dim for t in tensors.values())
    return tensors if fits else None


def _read_bank(path: Path, network: Generator) -> Bank | None:
    """A bank from the cache; None where there is none, or one that does not fit."""
    try:
        bank = _bank_from(load_file(path))
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
    fits = bank.v.shape[1] == network.w_dim and len(bank.v) >= SMALLEST_BANK
    return bank if fits else None


def _bank_from(tensors: dict[str, Tensor]) -> Bank:
    return Bank(*(tensors[name].float() for name in BANK_TENSORS))


def _keep(path: Path, tensors: dict[str, Tensor], about: dict[str, str] | None = None) -> None:
    """Write to the cache; one that cannot be written costs seconds, not the pictures."""
    with suppress(PulseError):
        make_folder(path.parent)
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        write_bytes_atomically(path, save(contiguous, about))
