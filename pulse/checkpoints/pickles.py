"""Pickled generators, read without running anything that is in them.

A pickle is a program: it names callables and calls them. Here every name is looked up in a short
table of stand-ins that keep data and do nothing else; a name that is not in the table ends the
reading. NVIDIA's files embed the source of their classes; it is dropped unread.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pulse.checkpoints.opcodes import ForbiddenError, refusal, scan
from pulse.checkpoints.torch_files import read_nested_storage
from pulse.errors import WeightsError
from pulse.files import printable, printable_path

MAX_MODULES = 100_000  # a generator and its discriminator have some hundreds
MAX_DEPTH = 50

# What a broken pickle makes the standard library raise, and our stand-ins on wrong arguments.
PICKLE_ERRORS = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError,
    OverflowError, MemoryError, RecursionError, RuntimeError, struct.error, AssertionError,
)  # fmt: skip


@dataclass(frozen=True)
class PersistentNetwork:
    """A module saved by NVIDIA's PyTorch code (stylegan2-ada-pytorch, stylegan3).

    Attributes:
        class_name: of the module.
        tensors: its parameters and buffers, as its state dict has them.
    """

    class_name: str
    tensors: dict[str, Tensor]


@dataclass(frozen=True)
class TensorFlowNetwork:
    """A network saved by NVIDIA's TensorFlow code.

    Attributes:
        name: such as "Gs".
        static_kwargs: the options that it was made with.
        tensors: its variables; those of a component under its name and a slash.
    """

    name: str
    static_kwargs: Mapping[str, Any]
    tensors: dict[str, Tensor]


def read_pickle(path: Path) -> PersistentNetwork | TensorFlowNetwork:
    """Read the generator of a pickle: `G_ema` of a table, or the last network of a tuple.

    Raises:
        WeightsError: naming the forbidden global, or saying what is damaged or missing.
    """
    name = printable_path(path)
    try:
        with path.open("rb") as file:
            scan(file, _is_known)
            file.seek(0)
            content = _SafeUnpickler(file, encoding="latin1").load()
        return _network_of(content)
    except ForbiddenError as error:
        raise WeightsError(refusal(name, error)) from error
    except OSError as error:
        raise WeightsError(f"cannot read {name}: {error.strerror}") from error
    except PICKLE_ERRORS as error:
        reason = printable(" ".join(str(error).split())) or type(error).__name__
        raise WeightsError(
            f"{name} is no whole pickle of a generator ({reason}); download it again"
        ) from error


class _SafeUnpickler(pickle.Unpickler):
    """An unpickler whose names are those of the table, and no others."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 (stand-ins of any kind)
        return _look_up(module, name)

    def persistent_load(self, _pid: object) -> NoReturn:
        raise ForbiddenError("a persistent id")


class _Sealed(type):
    """A class that a pickle cannot change."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise TypeError(f"{cls.__name__} is sealed")


class _Function(metaclass=_Sealed):
    """A callable that a pickle can call and not change."""

    __slots__ = ("_call",)
    _call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_call", call)

    def __call__(self, *arguments: Any) -> Any:  # noqa: ANN401 (whatever the file gives)
        return self._call(*arguments)

    def __setattr__(self, name: str, value: object) -> None:
        raise TypeError("a stand-in is sealed")

    def __setstate__(self, state: object) -> None:
        raise TypeError("a stand-in has no state")


class _Dict(dict[Any, Any], metaclass=_Sealed):
    """Stands in for OrderedDict and EasyDict."""

    def __setstate__(self, state: object) -> None:
        """Attributes of a dictionary are not needed."""


class _Module(metaclass=_Sealed):
    """Stands in for a PyTorch module or a TensorFlow network: its state and nothing else."""

    def __init__(self, *_: object) -> None:
        self.class_name = ""
        self.state: object = {}

    def __setstate__(self, state: object) -> None:
        self.class_name, self.state = "", state


class _ArrayType(metaclass=_Sealed):
    """Stands in for numpy.ndarray where a pickle names the type."""

    def __setstate__(self, state: object) -> None:
        raise TypeError("the array type has no state")


class _DType(metaclass=_Sealed):
    """Stands in for numpy.dtype: numbers only."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or code not in _NUMBERS:
            raise ValueError(f"an array of type {code!r}, expected numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise ValueError("an array type that is no number")
        if any(part not in (None, -1, 0) for part in state[2:]):
            raise ValueError("an array of a compound type, expected numbers")
        self.dtype = self.dtype.newbyteorder(state[1])


_NUMBERS = frozenset(("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"))


class _Array(metaclass=_Sealed):
    """Stands in for a numpy array until its state comes."""

    def __init__(self) -> None:
        self.values: NDArray[Any] = np.empty(0)

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("an array without its parts")
        _, shape, dtype, is_fortran, data = state
        if isinstance(data, str):
            data = data.encode("latin1")  # strings of Python 2 held bytes
        if not isinstance(dtype, _DType) or not isinstance(data, bytes):
            raise TypeError("an array without a number type or data")
        _check_sizes(shape)
        expected = int(np.prod(shape, dtype=object)) * dtype.dtype.itemsize
        if expected != len(data):
            raise ValueError(f"an array of shape {shape} with {len(data)} bytes, not {expected}")
        flat = np.frombuffer(data, dtype.dtype)
        self.values = flat.reshape(shape, order="F" if is_fortran else "C")


def _check_sizes(shape: object) -> None:
    whole = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
    if not whole:
        raise ValueError(f"a shape of {shape!r}, expected whole numbers from 0")


def _new_array(_type: object, _shape: object, _code: object) -> _Array:
    return _Array()


def _scalar(dtype: object, data: object) -> Any:  # noqa: ANN401 (a Python number)
    if not isinstance(dtype, _DType):
        raise TypeError("a number without its type")
    raw = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(raw, bytes) or len(raw) != dtype.dtype.itemsize:
        raise ValueError("a number with the wrong number of bytes")
    return np.frombuffer(raw, dtype.dtype)[0].item()


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """Bytes as Python 2's protocol writes them."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise TypeError("bytes that are no latin-1 text")
    return text.encode("latin1")


def _persistent(meta: object) -> _Module:
    """A module of NVIDIA's persistence, its source dropped."""
    if not isinstance(meta, dict) or not isinstance(meta.get("state"), dict):
        raise TypeError("a persistent object without its state")
    module = _Module()
    module.class_name, module.state = str(meta.get("class_name")), meta["state"]
    return module


def _storage(data: object) -> torch.UntypedStorage | torch.TypedStorage:
    if not isinstance(data, bytes):
        raise TypeError("a storage that is no bytes")
    return read_nested_storage(data)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: object) -> Tensor:  # noqa: ANN401
    """A view of a storage, which must hold at least as many values as the view shows."""
    if not isinstance(storage, torch.TypedStorage):
        raise TypeError("a tensor without a storage")
    _check_sizes(size)
    _check_sizes(stride)
    if type(offset) is not int or offset < 0 or len(size) != len(stride):
        raise ValueError("a tensor that begins nowhere")
    count = int(np.prod(size, dtype=object))
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    empty = torch.empty(0, dtype=storage.dtype)
    values = storage._untyped_storage
    held = values.nbytes() // empty.element_size()
    if count > held or (count > 0 and last >= held):
        raise ValueError(f"a tensor of shape {size} in a storage of {held} values")
    return empty.set_(values, offset, size, stride)


def _parameter(data: object, *_: object) -> Tensor:
    if not isinstance(data, Tensor):
        raise TypeError("a parameter that is no tensor")
    return data


_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_BUILTINS = ("builtins", "__builtin__")

# Everything that a pickle may name, and what stands in for it.
_TABLE: dict[tuple[str, str], Any] = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _Function(_persistent),
    ("torch._utils", "_rebuild_tensor_v2"): _Function(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Function(_parameter),
    ("torch.storage", "_load_from_bytes"): _Function(_storage),
    ("torch", "Size"): _Function(tuple),
    ("collections", "OrderedDict"): _Dict,
    ("dnnlib.util", "EasyDict"): _Dict,
    ("dnnlib", "EasyDict"): _Dict,
    ("dnnlib.tflib.network", "Network"): _Module,
    ("numpy", "ndarray"): _ArrayType,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _Function(_encode),
    **{(module, "_reconstruct"): _Function(_new_array) for module in _ARRAY_MODULES},
    **{(module, "scalar"): _Function(_scalar) for module in _ARRAY_MODULES},
    **{(module, kind.__name__): _Function(kind) for module in _BUILTINS for kind in (set, list)},
}


def _look_up(module: str, name: str) -> Any:  # noqa: ANN401 (stand-ins of any kind)
    stand_in = _TABLE.get((module, name))
    if stand_in is not None:
        return stand_in
    # plain layers inside a persistent module: their state is all that is wanted
    if module.startswith("torch.nn.modules.") and name.isidentifier():
        return _Module
    raise ForbiddenError(f"{module}.{name}")


def _is_known(module: str, name: str) -> bool:
    """Whether something stands in for a name."""
    try:
        _look_up(module, name)
    except ForbiddenError:
        return False
    return True


def _network_of(content: object) -> PersistentNetwork | TensorFlowNetwork:
    """The generator among what a file holds, the averaged one where there are two."""
    if isinstance(content, dict):
        content = next((content[key] for key in ("G_ema", "G") if key in content), content)
    elif isinstance(content, tuple | list) and content:
        content = content[-1]
    if not isinstance(content, _Module) or not isinstance(content.state, dict):
        raise ValueError("it holds no network")
    if "variables" in content.state:
        tensors = {key: torch.tensor(values) for key, values in _variables(content, "", 0)}
        kwargs = content.state.get("static_kwargs")
        static_kwargs = kwargs if isinstance(kwargs, dict) else {}
        return TensorFlowNetwork(str(content.state.get("name")), static_kwargs, tensors)
    return PersistentNetwork(content.class_name, dict(_state_of(content, "", 0, [0])))


def _state_of(
    module: object, prefix: str, depth: int, seen: list[int]
) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers of a module and those inside it; `seen` counts the modules."""
    seen[0] += 1
    if depth > MAX_DEPTH or seen[0] > MAX_MODULES:
        raise ValueError("modules within modules without end")
    if not isinstance(module, _Module) or not isinstance(module.state, dict):
        raise TypeError(f"{prefix or 'the network'} is no module")
    for kind in ("_parameters", "_buffers"):
        for name, tensor in _items(module.state.get(kind)):
            if isinstance(tensor, Tensor):
                yield f"{prefix}{name}", tensor
    for name, child in _items(module.state.get("_modules")):
        if child is not None:
            yield from _state_of(child, f"{prefix}{name}.", depth + 1, seen)


def _variables(network: object, prefix: str, depth: int) -> Iterator[tuple[str, NDArray[Any]]]:
    """Variables of a TensorFlow network and its components."""
    if depth > 2 or not isinstance(network, _Module) or not isinstance(network.state, dict):
        raise TypeError(f"{prefix or 'the network'} is no network")
    for pair in network.state.get("variables") or ():
        name, values = pair
        if isinstance(values, _Array):
            native = values.values.dtype.newbyteorder("=")
            yield f"{prefix}{name}", values.values.astype(native, order="C")
        elif isinstance(values, int | float):
            yield f"{prefix}{name}", np.array(values, dtype=np.float32)
    for name, component in _items(network.state.get("components")):
        yield from _variables(component, f"{prefix}{name}/", depth + 1)


def _items(table: object) -> list[tuple[Any, Any]]:
    return list(table.items()) if isinstance(table, dict) else []
