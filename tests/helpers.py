"""What several test files share."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

DATA = Path(__file__).parent / "data"
PORTRAITS = Path(__file__).parents[2] / "shared" / "faces" / "london"


def expected_of(name: str, folder: str) -> dict[str, torch.Tensor]:
    """What the original implementation gave for a weights file."""
    arrays = np.load(DATA / folder / f"{name}.expected.npz")
    return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def pulse_state(stem: str, folder: str) -> dict[str, torch.Tensor]:
    """A synthesis.pt and, where it is there, its mapping.pt, under one roof."""
    state = {}
    for part in ("mapping", "synthesis"):
        path = DATA / folder / f"{stem}.{part}.pt"
        if path.exists():
            tensors = torch.load(path, weights_only=True)
            state |= {f"{part}.{key}": tensor for key, tensor in tensors.items()}
    return state


def relative_error(got: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference as a share of the largest value."""
    return float((got - expected).abs().max() / expected.abs().max())


def tree_of(folder: Path) -> dict[str, object]:
    """Every file of a run with its content; times are left out, records sorted."""
    files: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        if path.name == "journal.jsonl":
            records = [json.loads(line) | {"seconds": 0} for line in path.read_text().splitlines()]
            # a failure is tried again, and recorded again, by every run
            files[path.name] = sorted({json.dumps(record, sort_keys=True) for record in records})
        elif path.is_file():
            files[str(path.relative_to(folder))] = path.read_bytes()
    return files
