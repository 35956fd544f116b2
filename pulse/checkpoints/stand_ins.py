"""What stands in for the names in a pickle: it keeps data and does nothing else.

Classes and functions here cannot be changed by a pickle (`Sealed`), and what they are given is
checked: shapes against the data, tensors against their storage, numbers only in arrays.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pulse.checkpoints.opcodes import ForbiddenError
from pulse.checkpoints.torch_files import read_nested_storage

MAX_DIMENSIONS = 8  # convolutions have four, rosinality's have five


class Sealed(type):
    """A class that a pickle cannot change."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise TypeError(f"{cls.__name__} is sealed")


class Function(metaclass=Sealed):
    """A callable that a pickle can call and not change."""

    __slots__ = ("_call",)
    _call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_call", call)

    def __call__(self, *arguments: Any) -> Any:  # noqa: ANN401 (whatever the file gives)
        """Call what stands behind it."""
        return self._call(*arguments)

    def __setattr__(self, name: str, value: object) -> None:
        raise TypeError("a stand-in is sealed")

    def __setstate__(self, state: object) -> None:
        raise TypeError("a stand-in has no state")


class Dict(dict[Any, Any], metaclass=Sealed):
    """Stands in for OrderedDict and EasyDict."""

    def __setstate__(self, state: object) -> None:
        """Attributes of a dictionary are not needed."""


class Module(metaclass=Sealed):
    """Stands in for a PyTorch module or a TensorFlow network: its state and nothing else."""

    state: object = None  # of those that a pickle makes without calling the class

    def __init__(self, *_: object) -> None:
        self.state: object = {}

    def __setstate__(self, state: object) -> None:
        self.state = state


class ArrayType(metaclass=Sealed):
    """Stands in for numpy.ndarray where a pickle names the type."""

    def __setstate__(self, state: object) -> None:
        raise TypeError("the array type has no state")


class NumberType(metaclass=Sealed):
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


class Array(metaclass=Sealed):
    """Stands in for a numpy array until its state comes."""

    def __init__(self) -> None:
        self.values: NDArray[Any] = np.empty(0)
        self._tensor: Tensor | None = None

    @property
    def tensor(self) -> Tensor:
        """The values as a tensor; one copy however often it is asked for."""
        if self._tensor is None:
            native = self.values.dtype.newbyteorder("=")
            self._tensor = torch.from_numpy(self.values.astype(native, order="C"))
        return self._tensor

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("an array without its parts")
        _, shape, dtype, is_fortran, data = state
        if isinstance(data, str):
            data = data.encode("latin1")  # strings of Python 2 held bytes
        self.fill(shape, dtype, data, "F" if is_fortran else "C")

    def fill(self, shape: object, dtype: object, data: object, order: Literal["C", "F"]) -> None:
        """Take the values from bytes that must be as many as the shape and the type say."""
        if not isinstance(dtype, NumberType) or not isinstance(data, bytes | bytearray):
            raise TypeError("an array without a number type or data")
        shape = _check_sizes(shape)
        expected = int(np.prod(shape, dtype=object)) * dtype.dtype.itemsize
        if expected != len(data):
            raise ValueError(f"an array of shape {shape} with {len(data)} bytes, not {expected}")
        flat = np.frombuffer(data, dtype.dtype)
        self.values = flat.reshape(shape, order=order)


def _check_sizes(shape: object) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"a shape of {reprlib.repr(shape)}, expected {MAX_DIMENSIONS} at most")
    if not all(type(n) is int and 0 <= n < 1 << 63 for n in shape):
        raise ValueError(f"a shape of {reprlib.repr(shape)}, expected whole numbers from 0")
    return shape


def _new_array(_type: object, _shape: object, _code: object) -> Array:
    return Array()


def _from_buffer(data: object, dtype: object, shape: object, order: object = "C") -> Array:
    """An array as protocol 5 writes it."""
    array = Array()
    array.fill(shape, dtype, data, "F" if order == "F" else "C")
    return array


def _scalar(dtype: object, data: object) -> Any:  # noqa: ANN401 (a Python number)
    if not isinstance(dtype, NumberType):
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


def _no_bytes() -> bytes:
    """Empty bytes as protocol 2 writes them; with a number it would make as many."""
    return b""


def _persistent(meta: object) -> Module:
    """A module of NVIDIA's persistence, its source dropped."""
    if not isinstance(meta, dict) or not isinstance(meta.get("state"), dict):
        raise TypeError("a persistent object without its state")
    module = Module()
    module.state = meta["state"]
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
_NUMERIC_MODULES = ("numpy.core.numeric", "numpy._core.numeric")
_BUILTINS = ("builtins", "__builtin__")

# Everything that a pickle may name, and what stands in for it.
_TABLE: dict[tuple[str, str], Any] = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): Function(_persistent),
    ("torch._utils", "_rebuild_tensor_v2"): Function(_tensor),
    ("torch._utils", "_rebuild_parameter"): Function(_parameter),
    ("torch.storage", "_load_from_bytes"): Function(_storage),
    ("torch", "Size"): Function(_check_sizes),
    ("collections", "OrderedDict"): Dict,
    ("dnnlib.util", "EasyDict"): Dict,
    ("dnnlib", "EasyDict"): Dict,
    ("dnnlib.tflib.network", "Network"): Module,
    ("numpy", "ndarray"): ArrayType,
    ("numpy", "dtype"): NumberType,
    ("_codecs", "encode"): Function(_encode),
    **{(module, "_reconstruct"): Function(_new_array) for module in _ARRAY_MODULES},
    **{(module, "_frombuffer"): Function(_from_buffer) for module in _NUMERIC_MODULES},
    **{(module, "scalar"): Function(_scalar) for module in _ARRAY_MODULES},
    **{(module, "bytes"): Function(_no_bytes) for module in _BUILTINS},
    **{(module, kind.__name__): Function(kind) for module in _BUILTINS for kind in (set, list)},
}


def look_up(module: str, name: str) -> Any:  # noqa: ANN401 (stand-ins of any kind)
    """The stand-in for a name in a pickle.

    Raises:
        ForbiddenError: with the name, if nothing stands in for it.
    """
    stand_in = _TABLE.get((module, name))
    if stand_in is not None:
        return stand_in
    # plain layers inside a persistent module: their state is all that is wanted
    if module.startswith("torch.nn.modules.") and name.isidentifier():
        return Module
    raise ForbiddenError(f"{module}.{name}")


def is_known(module: str, name: str) -> bool:
    """Whether something stands in for a name."""
    try:
        look_up(module, name)
    except ForbiddenError:
        return False
    return True
