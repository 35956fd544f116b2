"""One entry: a generator's name or any weights file in, the generator out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

from pulse.checkpoints.catalog import CatalogEntry, find_entry, unknown_name_text
from pulse.checkpoints.containers import Container, read_container
from pulse.checkpoints.formats import Format, detect
from pulse.checkpoints.store import compare, is_present, path_of, sha256_of
from pulse.errors import WeightsError
from pulse.files import cache_dir, printable, printable_path
from pulse.generators.base import DEFAULTS, Generator
from pulse.generators.constants import Constants
from pulse.generators.ops import indices_of
from pulse.settings import EMBEDDED

EMBEDDED_SHA256 = "999955ade9b5252861f052a6d7209ca632365878e55e8c7f365cef3d22950ecd"
MEAN_STYLE_SAMPLES = 10_000


@dataclass(frozen=True)
class Loaded:
    """A generator and where it came from.

    Attributes:
        network: the generator, on the CPU.
        name: the name in the catalogue, or the file's name without its suffix.
        paths: the files read, the first the one asked for.
        sha256: of the file, hexadecimal; of several, the hash of their hashes.
        format: name of the format.
        metadata: what the file says about itself, such as its licence.
        gaussian_fit: mean and std (D,) of the Gaussianised styles, where PULSE's file of this
            name lies beside the weights.
    """

    network: Generator
    name: str
    paths: tuple[Path, ...]
    sha256: str
    format: str
    metadata: Mapping[str, str]
    gaussian_fit: tuple[Tensor, Tensor] | None


def load_network(source: str | Path = EMBEDDED) -> Loaded:
    """Load a generator: by its name in the catalogue, or from a file of any known format.

    Of PULSE's own files either `synthesis.pt` or `mapping.pt` is given; the other one, and
    `gaussian_fit.pt`, are looked for beside it.

    Raises:
        WeightsError: if the file is missing, damaged, altered, hostile or not a generator.
    """
    path = find_file(source)
    container = read_container(path)
    beside = _read_beside(container)
    paths = (path, *(other.path for other in beside))
    digests = [sha256_of(each) for each in paths]
    sha256 = hash_of(digests)
    if (entry := _entry_of(source)) is not None:
        compare(entry, cache_dir() / "weights", digests[0])
    if source == EMBEDDED and sha256 != EMBEDDED_SHA256:
        raise WeightsError(
            f"the embedded generator {path} has SHA-256 {sha256}, expected {EMBEDDED_SHA256}: "
            "the file was altered; install PULSE again"
        )
    tensors = dict(container.tensors)
    fit = None
    for other in beside:
        if {"mean", "std"} <= set(other.tensors):
            fit = other.tensors["mean"].flatten(), other.tensors["std"].flatten()
        else:
            tensors |= other.tensors
    if "dense0.weight" in tensors and "blocks.4x4.const" not in tensors:
        raise WeightsError(
            f"{printable_path(path)} is PULSE's mapping network alone; put its synthesis.pt beside "
            "it, the same name with 'synthesis' for 'mapping'"
        )
    format_, network = build(tensors, path, container.constants)
    if fit is not None:
        _check_fit(fit, network.w_dim, path)
    name = path.stem if find_entry(str(source)) is None else str(source)
    return Loaded(network, name, paths, sha256, format_.name, container.metadata, fit)


def _check_fit(fit: tuple[Tensor, Tensor], w_dim: int, path: Path) -> None:
    """Raise WeightsError unless mean and std are those of styles of this size."""
    mean, std = fit
    fits = mean.shape == std.shape == (w_dim,)
    if not fits or not (mean.isfinite().all() and std.isfinite().all() and (std > 0).all()):
        raise WeightsError(
            f"the gaussian_fit.pt beside {printable_path(path)} is not of this generator: it has "
            f"{mean.numel()} means and {std.numel()} deviations, expected {w_dim} of each, finite "
            "and above 0; remove it, and a prior is fitted anew"
        )


def find_file(source: str | Path) -> Path:
    """The file that a name of the catalogue or a path stands for.

    Raises:
        WeightsError: if it is a name whose file is not here yet.
    """
    if source == EMBEDDED:
        return embedded_path()
    entry = _entry_of(source)
    if entry is None:
        if isinstance(source, str) and _looks_like_a_name(source) and not Path(source).exists():
            raise WeightsError(f"there is no file {source!r}, and {unknown_name_text(source)}")
        return Path(source)
    folder = cache_dir() / "weights"
    if not is_present(entry, folder):
        how = (
            f"run: pulse weights get {entry.name}"
            if entry.address
            else f"{entry.by_hand}, and put it at {path_of(entry, folder)}"
        )
        raise WeightsError(f"the weights of '{entry.name}' are not here yet; {how}")
    return path_of(entry, folder)


def _entry_of(source: str | Path) -> CatalogEntry | None:
    """The row of a name in the catalogue, but for the embedded generator; None for a path."""
    return None if isinstance(source, Path) or source == EMBEDDED else find_entry(source)


def _looks_like_a_name(source: str) -> bool:
    """Whether it can be no path of a weights file, which has a folder or a suffix."""
    return bool(source) and not set(source) & set("./\\")


def embedded_path() -> Path:
    """Where the embedded generator is: in the installed package, else in the repository."""
    installed = Path(str(files("pulse"))) / "weights" / f"{EMBEDDED}.safetensors"
    in_repository = Path(__file__).parents[2] / "weights" / installed.name
    return installed if installed.exists() else in_repository


def build(
    tensors: Mapping[str, Tensor], path: Path, constants: Constants = DEFAULTS
) -> tuple[Format, Generator]:
    """Build the generator whose format the keys show; `path` is for messages.

    Args:
        tensors: all of the file's.
        path: of the file.
        constants: what the file states that no tensor tells.

    Raises:
        WeightsError: naming the nearest format, and the keys or the shape that do not fit.
    """
    name = printable_path(path)
    try:
        format_, inner = detect(tensors)
    except ValueError as error:
        raise WeightsError(f"{name} is no generator that PULSE can load: {error}") from error
    try:
        network = _build(format_, format_.to_ours(inner), constants)
    except KeyError as error:
        raise WeightsError(
            f"{name} looks like {format_.name}, but has no key {error.args[0]}; the file is "
            "incomplete or of another variant"
        ) from error
    except (ValueError, IndexError, RuntimeError) as error:
        raise WeightsError(
            f"{name} looks like {format_.name}, but does not fit it: "
            f"{printable(str(error), longest=500)}"
        ) from error
    return format_, network


def _build(format_: Format, state: dict[str, Tensor], constants: Constants) -> Generator:
    """Build a generator; a mean style that the file leaves out is found by sampling."""
    has_mean = "mapping.w_avg" in state or "mapping.fc0.weight" not in state
    if not has_mean:  # rosinality's training files
        last = max(indices_of(state, "mapping.fc", ".weight"))
        w_dim = state[f"mapping.fc{last}.weight"].shape[0]
        state = state | {"mapping.w_avg": torch.zeros(w_dim)}
    # transposed and flipped views would be slow in every step of a search
    state = {key: tensor.contiguous() for key, tensor in state.items()}
    network = format_.architecture.from_state_dict(state, constants)
    if not has_mean:
        network.w_avg.copy_(_mean_style(network))
    return network


def _mean_style(network: Generator) -> Tensor:
    """The mean style (D,) over z and, where there are classes, over them."""
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(MEAN_STYLE_SAMPLES, network.z_dim, generator=rng)
    if not network.num_classes:
        return network.mapping(z).mean(0)
    label = torch.eye(network.num_classes)[torch.arange(len(z)) % network.num_classes]
    return network.mapping(z, label).mean(0)


def hash_of(digests: Sequence[str]) -> str:
    """The hash of one file, or the SHA-256 of the hashes of several."""
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _read_beside(container: Container) -> list[Container]:
    """PULSE's other files, where one of its pair was given."""
    keys = set(container.tensors)
    if "blocks.4x4.const" in keys:
        part, others = "synthesis", ("mapping", "gaussian_fit")
    elif "dense0.weight" in keys:
        part, others = "mapping", ("synthesis", "gaussian_fit")
    else:
        return []
    return [read_container(path) for path in _siblings(container.path, part, others)]


def _siblings(path: Path, part: str, others: tuple[str, ...]) -> Iterator[Path]:
    """Files beside one of PULSE's, named like it but for the part."""
    for other in others:
        sibling = path.with_name(path.name.replace(part, other))
        if part in path.name and sibling.exists():
            yield sibling
