"""What `pulse weights` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pulse.checkpoints.catalog import CATALOG, CatalogEntry, find_entry, unknown_name_text
from pulse.checkpoints.download import download
from pulse.checkpoints.load import Loaded, embedded_path, load_network
from pulse.checkpoints.store import is_present
from pulse.cli.bars import show_on
from pulse.errors import WeightsError
from pulse.files import cache_dir, printable, printable_path
from pulse.fitted import (
    SMALLEST_BANK,
    bank_of,
    check_coarse,
    fit_coarse,
    head_of,
    prior_of,
    remove_coarse,
)
from pulse.generators.base import Generator
from pulse.pretrained import choose_class, choose_device
from pulse.search.coarse import LARGEST_ERROR, PAYS_FROM_PX, SMALLEST_COARSE
from pulse.settings import EMBEDDED

# Fields of a model card as `scripts/train_generator.py` writes them, and how they are called.
CARD = {
    "data": "data", "images seen": "images_seen", "trained": "trained", "measures": "measures",
}  # fmt: skip
CARD_LENGTH = 1000
COLUMNS = ("name", "architecture", "resolution", "licence", "size", "present", "address")


def catalog_rows() -> list[dict[str, Any]]:
    """The catalogue, each row with whether its file is here."""
    folder = cache_dir() / "weights"
    return [
        asdict(entry)
        | {"present": entry.name == EMBEDDED or is_present(entry, folder), "size": _size(entry)}
        for entry in CATALOG
    ]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as columns of text."""
    cells = [COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    values = dict(row)
    values["present"] = "yes" if row["present"] else "no"
    values["licence"] += " (non-commercial)" if row["non_commercial"] else ""
    values["address"] = row["address"] or f"by hand: {row['by_hand']}"
    if row["name"] == EMBEDDED:
        values["address"] = "comes with PULSE"
    return tuple(str(values[column]) for column in COLUMNS)


def _size(entry: CatalogEntry) -> str:
    return "?" if entry.size_bytes is None else f"{entry.size_bytes / 1e6:.0f} MB"


def licence_of(source: str, loaded: Loaded) -> str | None:
    """The licence of weights, from the file or the catalogue; None if neither knows it."""
    entry = find_entry(source)
    return loaded.metadata.get("licence") or (entry.licence if entry else None)


def describe(source: str, loaded: Loaded) -> dict[str, Any]:
    """What a weights file is, in the order to print it."""
    network = loaded.network
    state = network.state_dict()
    return {
        "file": ", ".join(printable_path(path) for path in loaded.paths),
        "size": f"{sum(path.stat().st_size for path in loaded.paths):,} bytes",
        "format": loaded.format,
        "architecture": network.architecture,
        "resolution": network.resolution,
        "num_ws": network.num_ws,
        "w_dim": network.w_dim,
        "z_dim": network.z_dim,
        "classes": network.num_classes,
        "noise maps": len(network.noise_sizes),
        "mapping": "yes" if network.has_mapping else "no",
        "tensors": len(state),
        "values": sum(tensor.numel() for tensor in state.values()),
        "built with": _constants(network) or "nothing unusual stated",
        "licence": printable(licence_of(source, loaded) or "unknown; ask those who made it"),
        "converted from": _origin(loaded.metadata) or "nothing stated",
        "sha256": loaded.sha256,
        **_card(loaded.metadata),
    }


def _card(metadata: Mapping[str, str]) -> dict[str, str]:
    """What the maker of a generator and its training said about it; only what they said."""
    return {
        name: printable(metadata[key], longest=CARD_LENGTH)
        for name, key in CARD.items()
        if key in metadata
    }


def tensor_lines(network: Generator) -> list[str]:
    """Every tensor of a generator with its shape."""
    return [f"{name} {tuple(tensor.shape)}" for name, tensor in network.state_dict().items()]


def _constants(network: Generator) -> str:
    return ", ".join(f"{name}={value:g}" for name, value in network.constants.stated().items())


def _origin(metadata: Mapping[str, str]) -> str:
    """Where a converted file says that it comes from."""
    parts = (metadata.get("source_format"), metadata.get("source_sha256"))
    return printable(", ".join(part for part in parts if part), longest=200)


def download_entry(name: str) -> Path:
    """Download a generator of the catalogue, with a progress bar, and return its path.

    Raises:
        WeightsError: if there is no such name, or it cannot be downloaded.
    """
    if name == EMBEDDED:
        return embedded_path()
    entry = find_entry(name)
    if entry is None:
        raise WeightsError(unknown_name_text(name))
    with tqdm(unit="B", unit_scale=True, desc=name, disable=None) as bar:
        return download(entry, cache_dir() / "weights", show_on(bar))


def fit_and_tell(
    source: str, samples: int, bank: int, class_index: int | None,
    head: int = 0, steps: int = 0, coarse: int | None = None,
) -> str:  # fmt: skip
    """Fit the prior anew, draw the bank, train the heads, and say how it went."""
    if 0 < bank < SMALLEST_BANK:
        raise WeightsError(
            f"a bank of {bank} samples says too little: --bank takes {SMALLEST_BANK} or more, or 0"
        )
    if coarse and coarse < SMALLEST_COARSE:
        raise WeightsError(
            f"{coarse} samples teach a coarse generator too little: --coarse takes "
            f"{SMALLEST_COARSE} or more, or 0"
        )
    loaded = load_network(source)
    choose_class(loaded, class_index)
    if coarse:
        check_coarse(loaded)
    with tqdm(unit=" styles", desc="prior", disable=None) as bar:
        prior = prior_of(loaded, show_on(bar), samples, again=True)
    lines = [
        f"prior of {loaded.name}: mean in [{prior.mean.min():.3f}, {prior.mean.max():.3f}], std in "
        f"[{prior.std.min():.3f}, {prior.std.max():.3f}], {len(prior.mean)} values each"
    ]
    device = choose_device()
    if bank or head or coarse:
        loaded.network.to(device)
    if bank:
        with tqdm(unit=" pictures", desc="bank", disable=None) as bar:
            bank_of(loaded.network, loaded.sha256, prior.to(device), bank, show_on(bar), again=True)
        lines.append(f"bank of {bank} samples")
    if head:
        with tqdm(unit="", desc="head", disable=None) as bar:
            head_of(loaded, prior.to(device), head, steps, show_on(bar), again=True)
        lines.append(f"head trained with {head} samples, {steps} steps")
    if coarse:
        with tqdm(unit="", desc="coarse generator", disable=None) as bar:
            missed = fit_coarse(loaded, prior.to(device), coarse, on_progress=show_on(bar))
        verdict = "kept" if missed <= LARGEST_ERROR else "too much to be of use: not kept"
        lines.append(
            f"coarse generator trained with {coarse} samples: it misses {100 * missed:.1f} % of "
            f"what pictures vary, {verdict}"
        )
        if missed <= LARGEST_ERROR and loaded.network.resolution < PAYS_FROM_PX:
            lines.append(
                f"a generator of {loaded.network.resolution} px searches no faster with it; "
                "--coarse 0 removes it"
            )
    elif coarse == 0:
        was_there = remove_coarse(loaded)
        lines.append("coarse generator removed" if was_there else "no coarse generator to remove")
    lines.append(f"kept under '{cache_dir()}'")
    return "\n".join(lines)
