"""A weights file in, a generator out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from pulse.errors import WeightsError
from pulse.generators.base import Generator
from pulse.generators.stylegan1 import StyleGAN1
from pulse.generators.stylegan2 import StyleGAN2
from pulse.settings import EMBEDDED

EMBEDDED_SHA256 = "999955ade9b5252861f052a6d7209ca632365878e55e8c7f365cef3d22950ecd"

# The first architecture whose key is in the file; the order matters only for hostile files.
ARCHITECTURES: tuple[tuple[str, type[Generator]], ...] = (
    ("synthesis.b4.const", StyleGAN2),
    ("synthesis.blocks.4x4.const", StyleGAN1),
)


@dataclass(frozen=True)
class Loaded:
    """A generator and where it came from.

    Attributes:
        network: the generator, on the CPU.
        name: the embedded generator's name, or the file's name without its suffix.
        sha256: of the file, hexadecimal.
    """

    network: Generator
    name: str
    sha256: str


def load_network(source: str | Path = EMBEDDED) -> Loaded:
    """Load a generator: the embedded one by its name, or a safetensors file by its path.

    Raises:
        WeightsError: if the file is missing, damaged, altered or not a generator.
    """
    is_embedded = source == EMBEDDED
    path = embedded_path() if is_embedded else Path(source)
    sha256 = _sha256(path)
    if is_embedded and sha256 != EMBEDDED_SHA256:
        raise WeightsError(
            f"the embedded generator {path} has SHA-256 {sha256}, expected {EMBEDDED_SHA256}: "
            "the file was altered; install PULSE again"
        )
    return Loaded(build(read_safetensors(path), path), path.stem, sha256)


def embedded_path() -> Path:
    """Where the embedded generator is: in the installed package, else in the repository."""
    installed = Path(str(files("pulse"))) / "weights" / f"{EMBEDDED}.safetensors"
    in_repository = Path(__file__).parents[2] / "weights" / installed.name
    return installed if installed.exists() else in_repository


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the CPU.

    Raises:
        WeightsError: if it is not a whole safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except SafetensorError as error:
        raise WeightsError(
            f"{path} is not a whole safetensors file ({error}); download or convert it again"
        ) from error


def build(state: Mapping[str, Tensor], path: Path) -> Generator:
    """Build the generator whose architecture the keys show; `path` is for messages.

    Raises:
        WeightsError: if the keys or shapes are those of no known generator.
    """
    for key, architecture in ARCHITECTURES:
        if key in state:
            try:
                return architecture.from_state_dict(state)
            except (ValueError, KeyError) as error:
                raise WeightsError(
                    f"{path} looks like {architecture.architecture} but does not fit it: {error}"
                ) from error
    raise WeightsError(
        f"{path} is no generator that PULSE knows: it has none of the keys "
        f"{', '.join(key for key, _ in ARCHITECTURES)}; its first keys are {sorted(state)[:3]}"
    )


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(
            f"cannot read the generator {path}: {error.strerror}; --generator takes "
            f"'{EMBEDDED}' or the path of a .safetensors file"
        ) from error
