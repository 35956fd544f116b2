"""Checkpoints: one safetensors file each, whole or absent, with everything that a training is.

The numbers (settings, progress) are JSON in the file's metadata. Random streams follow from the
seed and the images seen, so they need no room. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from pulse.errors import PulseError
from pulse.files import make_folder, printable_path, remove_partial_files, write_bytes_atomically
from pulse.training.features import FeatureNetwork
from pulse.training.learner import Learner, Progress
from pulse.training.settings import TrainingSettings

GOOD = "checkpoint-*.safetensors"
UNCHECKED = "latest.safetensors"
VERSION = "1"
Changes = dict[str, object]


def save_good(learner: Learner, folder: Path) -> Path:
    """Keep a checkpoint that the guard has passed; the oldest beyond the history go.

    Raises:
        PulseError: if it cannot be written.
    """
    path = folder / GOOD.replace("*", f"{learner.progress.images:09}")
    _write(learner, path)
    (folder / UNCHECKED).unlink(missing_ok=True)
    for old in good_checkpoints(folder)[: -learner.settings.keep]:
        old.unlink()
    return path


def save_latest(learner: Learner, folder: Path) -> Path:
    """Keep where to go on: after a stop between two checks, or after the guard has turned back.

    Raises:
        PulseError: if it cannot be written.
    """
    path = folder / UNCHECKED
    _write(learner, path)
    return path


def _write(learner: Learner, path: Path) -> None:
    tensors = {name: t.detach().cpu().contiguous() for name, t in learner.tensors().items()}
    metadata = {"pulse_training": VERSION, "numbers": json.dumps(learner.numbers())}
    make_folder(path.parent)
    remove_partial_files(path.parent)
    write_bytes_atomically(path, save(tensors, metadata))


def good_checkpoints(folder: Path) -> list[Path]:
    """The history, oldest first."""
    return sorted(folder.glob(GOOD))


def newest(folder: Path) -> Path:
    """The checkpoint to go on from.

    Raises:
        PulseError: if there is none.
    """
    history = good_checkpoints(folder)
    if (folder / UNCHECKED).exists():
        return folder / UNCHECKED
    if not history:
        raise PulseError(
            f"there is no checkpoint in {printable_path(folder)}; give the folder of a run that "
            "has written one, or leave --resume out"
        )
    return history[-1]


def load(
    path: Path, features: FeatureNetwork, device: torch.device, changes: Changes | None = None,
    *, compile_: bool = False,
) -> Learner:  # fmt: skip
    """The training as it was when the checkpoint was written.

    Args:
        path: of the checkpoint.
        features: the frozen eye.
        device: where to go on.
        changes: settings to take instead of those of the run so far.
        compile_: whether to compile.

    Raises:
        PulseError: if the file is damaged or no checkpoint.
        ValueError: for changes that do not fit.
    """
    name = printable_path(path)
    try:
        with safe_open(path, framework="pt") as file:
            numbers = json.loads((file.metadata() or {})["numbers"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        settings = TrainingSettings.of(numbers["settings"])
        progress = Progress(**numbers["progress"])
        learner = Learner(settings, features, device, progress=progress, compile_=compile_)
        learner.load_tensors(tensors)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise PulseError(
            f"{name} is no whole checkpoint of a training ({error!s:.200}); remove it, and the "
            "one before it is taken"
        ) from error
    learner.settings = replace(settings, **(changes or {}))  # type: ignore[arg-type]
    learner.set_rates()
    return learner


def turn_back(learner: Learner, folder: Path) -> int:
    """Bring a training back to its last good checkpoint; what the guard has lowered stays so.

    Returns:
        The images seen at that checkpoint.
    """
    path = good_checkpoints(folder)[-1]
    with safe_open(path, framework="pt") as file:
        stored = Progress(**json.loads(file.metadata()["numbers"])["progress"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    now = learner.progress
    learner.progress = replace(
        stored, adversarial=now.adversarial, mapping=now.mapping, attempt=now.attempt + 1,
        in_a_row=now.in_a_row + 1,
    )  # fmt: skip
    learner.load_tensors(tensors)
    save_latest(learner, folder)
    return stored.images
