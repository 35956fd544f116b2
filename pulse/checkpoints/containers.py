"""What kind of file it is, by its first bytes, and the tensors in it."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from pulse.checkpoints.pickles import read_pickle
from pulse.checkpoints.tables import MAX_TENSORS, as_table
from pulse.checkpoints.torch_files import read_torch
from pulse.errors import WeightsError
from pulse.files import printable, printable_path
from pulse.generators.base import DEFAULTS
from pulse.generators.constants import Constants

HEAD_BYTES = 512
MAX_HEADER_BYTES = 10_000_000  # of safetensors: two hundred for each of many thousand tensors
LEGACY_TORCH = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number after the protocol
PICKLE_PROTOCOLS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


@dataclass(frozen=True)
class Container:
    """What a weights file holds.

    Attributes:
        path: the file.
        tensors: all of it, or of a pickle the generator's, names of nested tables joined.
        metadata: what the file says about itself.
        constants: what it states about its network that no tensor tells.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    constants: Constants = DEFAULTS


def read_container(path: Path) -> Container:
    """Read a weights file: safetensors, `torch.save` old and new, or NVIDIA's pickles.

    A link to a regular file is followed: caches of downloads are made of such links.

    Raises:
        WeightsError: if it is missing, damaged, hostile or no weights file.
    """
    head = _head(path)
    if head[8:9] == b"{":
        return _read_safetensors(path, int.from_bytes(head[:8], "little"))
    if head.startswith(b"PK\x03\x04") or head[2:].startswith(LEGACY_TORCH):
        return Container(path, read_torch(path))
    if head.startswith(PICKLE_PROTOCOLS):
        tensors, constants = read_pickle(path)
        return Container(path, tensors, constants=constants)
    raise WeightsError(f"{printable_path(path)} is no weights file{_guess(head)}")


def _head(path: Path) -> bytes:
    """The first bytes of a regular file."""
    name = printable_path(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise WeightsError(f"{name} is a folder; give the weights file in it")
        if not stat.S_ISREG(mode):
            raise WeightsError(f"{name} is a pipe or a device; give a weights file")
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        if path.is_symlink() and not path.exists():
            raise WeightsError(
                f"{name} is a link to a file that is not there; mend or remove it"
            ) from error
        raise WeightsError(
            f"cannot read the generator {name}: {error.strerror}; --generator takes a name from "
            "`pulse weights list` or the path of a weights file"
        ) from error
    except ValueError as error:  # a null byte in the name
        raise WeightsError(f"cannot read the generator {name}: {error}") from error
    if not head:
        raise WeightsError(f"{name} is empty: 0 bytes; download it again")
    return head


def _read_safetensors(path: Path, header_bytes: int) -> Container:
    try:
        if header_bytes > MAX_HEADER_BYTES:
            raise ValueError(f"its header claims {header_bytes:,} bytes")
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            keys = file.keys()
            if len(keys) > MAX_TENSORS:
                raise ValueError(f"more than {MAX_TENSORS:,} tensors")
            tensors = as_table((key, file.get_tensor(key)) for key in keys)
        constants = Constants.of(json.loads(metadata.get("constants", "{}")))
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"{printable_path(path)} is not a whole safetensors file "
            f"({printable(str(error), longest=200)}); download or convert it again"
        ) from error
    return Container(path, tensors, metadata, constants)


def _guess(head: bytes) -> str:
    """What a file that is no weights file may be."""
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html")):
        return ": it is a web page, perhaps a sign-in or a notice that a quota was used up"
    if text.startswith(b"version https://git-lfs"):
        return ": it stands for a file kept by Git LFS; run git lfs pull, or download the file"
    return "; PULSE reads safetensors, files of torch.save, and NVIDIA's pickles"
