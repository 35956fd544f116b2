"""Files written by `torch.save`, read as plain tensors: `weights_only`, and sizes checked first."""

from __future__ import annotations

import argparse
import io
import pickle
import pickletools
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from pulse.errors import WeightsError
from pulse.files import printable_path

LEGACY_PICKLES = 5  # magic number, protocol, system, content, keys of the storages
CONTENT = 3  # which of them is the content
SLACK_BYTES = 1 << 20

TORCH_ERRORS = (
    pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, KeyError, IndexError,
    AttributeError, OverflowError, MemoryError, RecursionError, AssertionError, struct.error,
    zipfile.BadZipFile, NotImplementedError, UnicodeError, ModuleNotFoundError,
)  # fmt: skip


def read_torch(path: Path) -> dict[str, Tensor]:
    """All tensors of a file of `torch.save`, those of nested tables under names joined by dots.

    Raises:
        WeightsError: naming the forbidden global, or saying what is damaged.
    """
    name = printable_path(path)
    try:
        with path.open("rb") as file:
            _check_file(file)
        # rosinality's training files keep their command line beside the weights
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
        return _flat(content)
    except OSError as error:
        raise WeightsError(f"cannot read {name}: {error.strerror or error}") from error
    except TORCH_ERRORS as error:
        raise WeightsError(_refusal(name, str(error))) from error


def read_nested_storage(data: bytes) -> torch.TypedStorage:
    """A storage that was saved into bytes of their own, inside a pickle.

    Raises:
        ValueError: if it is anything else, or larger than its bytes.
    """
    _check_legacy(io.BytesIO(data), len(data))
    storage = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if not isinstance(storage, torch.TypedStorage):
        raise ValueError("bytes that are no storage")
    return storage


def _refusal(name: str, error: str) -> str:
    """One line from torch's many, naming the global and without its advice to trust the file."""
    match = re.search(r"(?:GLOBAL|global|class|function) ['\"]?([\w.]+\.[\w.]+)['\"]?", error)
    if "Unsupported global" in error or ("weights_only" in error.lower() and match):
        what = match[1] if match else "something"
        return (
            f"{name} wants to use {what}, which no generator needs: refused, and nothing of it "
            "was run; get the file from those who made it"
        )
    reason = " ".join(error.split("\n")[0].split())[:200] or "unreadable"
    return f"{name} is no whole file of torch.save ({reason}); download it again"


def _check_file(file: BinaryIO) -> None:
    """Refuse a file whose parts are larger than the file."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if zipfile.is_zipfile(file):
        _check_zip(file, size)
    else:
        file.seek(0)
        _check_legacy(file, size)


def _check_zip(file: BinaryIO, size: int) -> None:
    """Torch stores without compression, so the parts together are no larger than the file."""
    with zipfile.ZipFile(file) as archive:
        names = [entry.filename for entry in archive.infolist()]
        claimed = sum(entry.file_size for entry in archive.infolist())
    if len(set(names)) != len(names):
        raise ValueError("two parts of one name")
    if claimed > size + SLACK_BYTES:
        raise ValueError(f"its parts claim {claimed:,} bytes in a file of {size:,}")


def _check_legacy(file: BinaryIO, size: int) -> None:
    """Go through the pickles of the old format without obeying them.

    A storage says how many values it has before they come; a number larger than the file could
    claim all memory.
    """
    for number in range(LEGACY_PICKLES):
        for _, argument, _ in pickletools.genops(file):
            if number == CONTENT and type(argument) is int and argument > size:
                raise ValueError(f"a part claims {argument:,} values in a file of {size:,} bytes")


def _flat(content: object, prefix: str = "", depth: int = 0) -> dict[str, Tensor]:
    """Tensors of nested tables as one; everything that is no tensor is left out."""
    if depth > 10:
        raise ValueError("tables within tables without end")
    tensors: dict[str, Tensor] = {}
    if not isinstance(content, Mapping):
        return tensors
    for key, value in content.items():
        if isinstance(value, Tensor):
            tensors[f"{prefix}{key}"] = _dense(value)
        elif isinstance(value, Mapping):
            tensors |= _flat(value, f"{prefix}{key}.", depth + 1)
    return tensors


def _dense(tensor: Tensor) -> Tensor:
    """Refuse what is larger than its storage: one value can pose as a million."""
    claims: Any = tensor.layout != torch.strided or tensor.is_quantized
    if claims or tensor.numel() > tensor.untyped_storage().nbytes() // tensor.element_size():
        raise ValueError(f"a tensor of shape {tuple(tensor.shape)} that its storage does not hold")
    return tensor.detach()
