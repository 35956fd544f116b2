"""run.json: the settings that a folder's pictures were made with, and what made them."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import pulse
from pulse.batch.journal import RUN_NAME
from pulse.errors import PulseError
from pulse.files import write_text_atomically
from pulse.pretrained import Pretrained
from pulse.settings import FormatName, UpscaleSettings


def identity_of(
    generator: Pretrained, settings: UpscaleSettings, format_: FormatName
) -> dict[str, Any]:
    """What decides how the pictures of a run look; the number of candidates does not."""
    values = asdict(settings)
    del values["candidates"]
    return {
        "generator": generator.name,
        "generator_sha256": generator.sha256,
        "class": generator.class_index,
        "format": format_,
        **values,
    }


def run_id_of(identity: dict[str, Any]) -> str:
    """A short hash of a run's identity, for its records."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def open_output(
    out: Path, identity: dict[str, Any], candidates: int, device: torch.device, *, overwrite: bool
) -> None:
    """Make the output folder, see that it holds no run of other settings, and write run.json.

    Raises:
        PulseError: if the folder cannot be used, or holds another run and `overwrite` is not set.
    """
    path = out / RUN_NAME
    try:
        out.mkdir(parents=True, exist_ok=True)
        earlier = json.loads(path.read_text()) if path.exists() else None
    except (OSError, ValueError) as error:
        raise PulseError(
            f"cannot use the output folder '{out}': {error}; choose another with -o"
        ) from error
    if earlier is not None and not overwrite:
        _compare(earlier, identity, out)
    content = {
        "settings": identity | {"candidates": candidates},
        "device": str(device),
        "versions": {
            "pulse": pulse.__version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
        },
    }
    write_text_atomically(path, json.dumps(content, indent=2) + "\n")


def _compare(earlier: Any, identity: dict[str, Any], out: Path) -> None:  # noqa: ANN401 (JSON)
    """Raise unless run.json tells of the same settings."""
    old = _flat(earlier.get("settings", {}) if isinstance(earlier, dict) else {})
    differences = [
        f"{name} is {value!r}, was {old.get(name)!r}"
        for name, value in _flat(identity).items()
        if old.get(name) != value
    ]
    if differences:
        raise PulseError(
            f"'{out}' holds a run with other settings ({'; '.join(differences[:3])}); "
            "choose another folder with -o, or --overwrite to do it again"
        )


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:  # noqa: ANN401 (JSON)
    """Nested settings as one level, the names joined by dots."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
