"""Any format to safetensors: one file that loads in a moment and can hold no code."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save

from pulse.checkpoints.containers import read_container
from pulse.checkpoints.load import Loaded, build
from pulse.errors import WeightsError
from pulse.files import make_folder, printable_path, write_bytes_atomically
from pulse.generators.base import Generator

DENSE = torch.contiguous_format


def convert(loaded: Loaded, target: Path, licence: str | None, *, overwrite: bool) -> None:
    """Write a generator as safetensors, read it back and compare.

    Every tensor must come back the same, and one picture drawn by both must be the same.

    Args:
        loaded: from `load_network`.
        target: the file to write; its suffix must be .safetensors.
        licence: of the weights, where known.
        overwrite: whether a file that is there is replaced.

    Raises:
        WeightsError: if the target is there or has another suffix, or the copy differs.
        PulseError: if it cannot be written.
    """
    name = printable_path(target)
    if target.suffix != ".safetensors":
        raise WeightsError(f"{name} must end in .safetensors, the format that is written")
    if target.exists() and not overwrite:
        raise WeightsError(f"{name} is there already; choose another name, or --overwrite")
    metadata = {
        "architecture": loaded.network.architecture,
        "source_format": loaded.format,
        "source_sha256": loaded.sha256,
    }
    metadata |= {"licence": licence} if licence else {}
    if stated := loaded.network.constants.stated():
        metadata["constants"] = json.dumps(stated)
    # copies: safetensors takes no tensors that share memory
    state = {k: v.clone(memory_format=DENSE) for k, v in loaded.network.state_dict().items()}
    make_folder(target.parent)
    write_bytes_atomically(target, save(state, metadata))
    _compare(loaded.network, target)


def _compare(network: Generator, target: Path) -> None:
    """Raise unless the file holds the very generator; a file that does not is removed."""
    container = read_container(target)
    tensors = container.tensors
    _, copy = build(tensors, target, container.constants)
    original = network.state_dict()
    differing = [key for key, tensor in original.items() if not torch.equal(tensor, tensors[key])]
    rng = torch.Generator().manual_seed(0)
    ws = torch.randn(1, network.num_ws, network.w_dim, generator=rng)
    with torch.no_grad():
        pictures = [G.render(ws, G.stored_noise()) for G in (network, copy)]
    if differing or not torch.equal(*pictures):
        target.unlink()
        what = f"the tensors {', '.join(differing[:3])}" if differing else "the picture it draws"
        raise WeightsError(
            f"{printable_path(target)} did not come back as written: {what} differ; it was "
            "removed, so check the disk and try again"
        )
