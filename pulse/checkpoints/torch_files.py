"""Files written by `torch.save`, read as plain tensors: `weights_only`, and sizes checked first."""

from __future__ import annotations

import argparse
import io
import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from pulse.checkpoints.opcodes import SLACK_BYTES, ForbiddenError, refusal, scan
from pulse.checkpoints.tables import as_table, check_name
from pulse.errors import WeightsError
from pulse.files import printable, printable_path

LEGACY_PICKLES = 5  # magic number, protocol, system, content, keys of the storages
ZIP_MAGIC = b"PK\x03\x04"
MAX_TABLES = 10_000  # an optimizer keeps one for each parameter
MAX_DEPTH = 10
DTYPES = ("float16", "float32", "float64", "bfloat16", "uint8", "int8", "int16", "int32", "int64",
          "bool")  # fmt: skip
STORAGES = ("Half", "Float", "Double", "BFloat16", "Byte", "Char", "Short", "Int", "Long", "Bool")
KNOWN = frozenset((
    ("collections", "OrderedDict"), ("argparse", "Namespace"), ("_codecs", "encode"),
    ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_parameter"), ("torch", "Size"), ("torch", "device"),
    ("torch.storage", "UntypedStorage"), ("torch.storage", "TypedStorage"),
    ("builtins", "set"), ("__builtin__", "set"),
    *(("torch", name) for name in DTYPES), *(("torch", f"{name}Storage") for name in STORAGES),
))  # fmt: skip

# How torch's own safe reader names what it refuses.
UNSUPPORTED = re.compile(r"Unsupported (?:global|class|operand): (?:GLOBAL )?([\w.]+)")
TORCH_ERRORS = (
    pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, KeyError, IndexError,
    AttributeError, OverflowError, MemoryError, RecursionError, AssertionError, struct.error,
    zipfile.BadZipFile, zlib.error, NotImplementedError, UnicodeError, ModuleNotFoundError,
)  # fmt: skip


def read_torch(path: Path) -> dict[str, Tensor]:
    """All tensors of a file of `torch.save`, those of nested tables under names joined by dots.

    Raises:
        WeightsError: naming the forbidden global, or saying what is damaged.
    """
    name = printable_path(path)
    try:
        with path.open("rb") as file:
            _check(file)
        return _flat(_load(path))
    except ForbiddenError as error:
        raise WeightsError(refusal(name, error)) from error
    except OSError as error:
        raise WeightsError(f"cannot read {name}: {error.strerror or error}") from error
    except TORCH_ERRORS as error:
        if found := UNSUPPORTED.search(str(error)):
            raise WeightsError(refusal(name, ForbiddenError(found[1]))) from error
        # the first sentence only: torch goes on to advise trusting the file
        text = re.sub(r"^\[enforce fail at [^\]]*\][ .]*", "", str(error).strip())
        reason = re.split(r"\n|\. |\s+\(Could", text, maxsplit=1)[0]
        shown = printable(reason, longest=200) or type(error).__name__
        raise WeightsError(
            f"{name} is no whole file of torch.save ({shown}); download it again"
        ) from error


def read_nested_storage(data: bytes) -> torch.TypedStorage:
    """A storage that was saved into bytes of their own, inside a pickle.

    Raises:
        ForbiddenError: with what it names beside storages.
        ValueError: if it is anything else, or larger than its bytes.
    """
    _check_legacy(io.BytesIO(data), len(data))
    storage = _load(io.BytesIO(data))
    if not isinstance(storage, torch.TypedStorage):
        raise ValueError("bytes that are no storage")
    return storage


def _load(source: Path | BinaryIO) -> Any:  # noqa: ANN401 (whatever the file holds)
    """Torch's own safe reader, which obeys nothing but the names that it knows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd protocols in damaged files
        # rosinality's training files keep their command line beside the weights
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(source, map_location="cpu", weights_only=True)


def _is_known(module: str, name: str) -> bool:
    """Whether a name is one that files of plain tensors have."""
    return (module, name) in KNOWN


def _check(file: BinaryIO) -> None:
    """Refuse a file that names what it should not, or whose parts are larger than it is."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    is_zip = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC  # torch too goes by the first bytes alone
    file.seek(0)
    (_check_zip if is_zip else _check_legacy)(file, size)


def _check_zip(file: BinaryIO, size: int) -> None:
    """Torch stores without compression, so the parts together are no larger than the file."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if not any(entry.filename.endswith("/data.pkl") for entry in entries):
            raise ValueError("a zip file of something else: it has no data.pkl")
        claimed = sum(entry.file_size for entry in entries)
        if len({entry.filename for entry in entries}) != len(entries):
            raise ValueError("two parts of one name")
        if claimed > size + SLACK_BYTES:
            raise ValueError(f"its parts claim {claimed:,} bytes in a file of {size:,}")
        for entry in entries:
            if entry.filename.endswith("data.pkl"):
                scan(io.BytesIO(archive.read(entry)), _is_known, size)


def _check_legacy(file: BinaryIO, size: int) -> None:
    """The old format says how many values a storage has before they come: no more than the file."""
    for _ in range(LEGACY_PICKLES):
        scan(file, _is_known, size, is_legacy=True)


def _flat(content: object) -> dict[str, Tensor]:
    """Tensors of nested tables as one; everything that is no tensor is left out."""
    return as_table(_leaves(content, "", 0, [0])) if isinstance(content, Mapping) else {}


def _leaves(
    table: Mapping[object, object], prefix: str, depth: int, seen: list[int]
) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a table and those inside it; `seen` counts the tables."""
    seen[0] += 1
    check_name(prefix)
    if depth > MAX_DEPTH or seen[0] > MAX_TABLES:
        raise ValueError("tables within tables without end")
    for key, value in table.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{key}", _dense(value)
        elif isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.", depth + 1, seen)


def _dense(tensor: Tensor) -> Tensor:
    """Refuse what is larger than its storage: one value can pose as a million."""
    claims: Any = tensor.layout != torch.strided or tensor.is_quantized
    if claims or tensor.numel() > tensor.untyped_storage().nbytes() // tensor.element_size():
        raise ValueError(f"a tensor of shape {tuple(tensor.shape)} that its storage does not hold")
    return tensor.detach()
