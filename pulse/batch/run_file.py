"""run.json: the settings that a folder's pictures were made with, and what made them."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import pulse
from pulse.batch.batch_size import BatchSize
from pulse.batch.journal import RUN_NAME
from pulse.errors import PulseError
from pulse.files import write_text_atomically
from pulse.pretrained import Pretrained
from pulse.settings import FormatName, UpscaleSettings


def identity_of(
    generator: Pretrained, settings: UpscaleSettings, format_: FormatName,
    latents_digest: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What decides how the pictures of a run look; the number of candidates does not."""
    values = asdict(settings)
    del values["candidates"]
    coarse = generator.coarse_head_for(settings.search)
    return {
        "generator": generator.name,
        "generator_sha256": generator.sha256,
        "class": generator.class_index,
        "coarse_generator": coarse.digest if coarse else None,
        "format": format_,
        "from_latents": latents_digest,
        **values,
    }


@dataclass(frozen=True)
class RunFile:
    """run.json of one output folder.

    Attributes:
        out: the output folder.
        identity: what decides how its pictures look.
        device: that computes.
    """

    out: Path
    identity: dict[str, Any]
    device: str

    def open(self, *, overwrite: bool) -> BatchSize | None:
        """Make the output folder, and see that it holds no run of other settings.

        Returns:
            The batch size of an earlier run on the same device; None without one.

        Raises:
            PulseError: if the folder cannot be used, or holds another run and `overwrite` is not
                set.
        """
        path = self.out / RUN_NAME
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            earlier = json.loads(path.read_text()) if path.exists() else None
        except (OSError, ValueError) as error:
            raise PulseError(
                f"cannot use the output folder '{self.out}': {error}; choose another with -o"
            ) from error
        if earlier is None:
            return None
        if not overwrite:
            _compare(earlier, self.identity, self.out)
        if not isinstance(earlier, dict) or earlier.get("device") != self.device:
            return None
        try:
            return BatchSize(**earlier["batch_size"])
        except (KeyError, TypeError):
            return None

    def write(self, candidates: int, batch_size: BatchSize) -> None:
        """Write the file: settings, device and versions.

        Raises:
            PulseError: if it cannot be written.
        """
        content = {
            "settings": self.identity | {"candidates": candidates},
            "device": self.device,
            "batch_size": asdict(batch_size),
            "versions": {
                "pulse": pulse.__version__,
                "python": platform.python_version(),
                "torch": str(torch.__version__),
            },
        }
        write_text_atomically(self.out / RUN_NAME, json.dumps(content, indent=2) + "\n")


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
