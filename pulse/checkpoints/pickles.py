"""Pickled generators, read without running anything that is in them.

A pickle is a program: it names callables and calls them. Here every name is looked up in a short
table of stand-ins; a name that is not in the table ends the reading. NVIDIA's files embed the
source of their classes; it is dropped unread.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from pulse.checkpoints.opcodes import ForbiddenError, refusal, scan
from pulse.checkpoints.stand_ins import Array, Module, is_known, look_up
from pulse.checkpoints.stated import constants_of_module, constants_of_tensorflow
from pulse.checkpoints.tables import as_table
from pulse.errors import WeightsError
from pulse.files import printable, printable_path
from pulse.generators.constants import Constants

MAX_MODULES = 10_000  # a generator and its discriminator have some hundreds
MAX_DEPTH = 50
MAX_TAPS = 64
FILTERS = ("resample_kernel", "blur_filter")  # that TensorFlow keeps among the options

# What a broken pickle makes the standard library raise, and our stand-ins on wrong arguments.
PICKLE_ERRORS = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError,
    OverflowError, MemoryError, RecursionError, RuntimeError, struct.error, AssertionError,
)  # fmt: skip


def read_pickle(path: Path) -> tuple[dict[str, Tensor], Constants]:
    """Read the generator of a pickle: `G_ema` of a table, or the last network of a tuple.

    Modules of NVIDIA's PyTorch code give what their state dict would. Networks of its TensorFlow
    code give their variables, those of a component under its name and a slash, and the filters
    that they were built with.

    Returns:
        The tensors, and the constants that the file states.

    Raises:
        WeightsError: naming the forbidden global, or saying what is damaged or missing.
    """
    name = printable_path(path)
    try:
        with path.open("rb") as file:
            scan(file, is_known, path.stat().st_size)
            file.seek(0)
            content = _SafeUnpickler(file, encoding="latin1").load()
        return _network_of(content)
    except ForbiddenError as error:
        raise WeightsError(refusal(name, error)) from error
    except OSError as error:
        raise WeightsError(f"cannot read {name}: {error.strerror}") from error
    except PICKLE_ERRORS as error:
        reason = printable(" ".join(str(error)[:1000].split()), longest=200)
        reason = reason or type(error).__name__
        raise WeightsError(
            f"{name} is no whole pickle of a generator ({reason}); download it again"
        ) from error


class _SafeUnpickler(pickle.Unpickler):
    """An unpickler whose names are those of the table, and no others."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 (stand-ins of any kind)
        return look_up(module, name)

    def persistent_load(self, _pid: object) -> NoReturn:
        raise ForbiddenError("a persistent id")


def _network_of(content: object) -> tuple[dict[str, Tensor], Constants]:
    """The generator among what a file holds, the averaged one where there are two."""
    if isinstance(content, dict):
        networks = (content.get(key) for key in ("G_ema", "G"))
        content = next((network for network in networks if network is not None), content)
    elif isinstance(content, tuple | list) and content:
        content = content[-1]
    if not isinstance(content, Module) or not isinstance(content.state, dict):
        raise ValueError("it holds no network")
    if "variables" in content.state:
        options = content.state.get("static_kwargs")
        tensors = as_table(_variables(content, "", 0, [0]))
        return tensors | _filters(options), constants_of_tensorflow(options)
    return as_table(_state_of(content, "", 0, [0])), constants_of_module(content)


def _state_of(
    module: object, prefix: str, depth: int, seen: list[int]
) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers of a module and those inside it; `seen` counts the modules."""
    seen[0] += 1
    if depth > MAX_DEPTH or seen[0] > MAX_MODULES:
        raise ValueError("modules within modules without end")
    if not isinstance(module, Module) or not isinstance(module.state, dict):
        raise TypeError(f"{prefix or 'the network'} is no module")
    for kind in ("_parameters", "_buffers"):
        for name, tensor in _items(module.state.get(kind)):
            if isinstance(tensor, Tensor):
                yield f"{prefix}{name}", tensor
    for name, child in _items(module.state.get("_modules")):
        if child is not None:
            yield from _state_of(child, f"{prefix}{name}.", depth + 1, seen)


def _variables(
    network: object, prefix: str, depth: int, seen: list[int]
) -> Iterator[tuple[str, Tensor]]:
    """Variables of a TensorFlow network and its components; `seen` counts the networks."""
    seen[0] += 1
    if seen[0] > MAX_MODULES:
        raise ValueError("networks within networks without end")
    if depth > 2 or not isinstance(network, Module) or not isinstance(network.state, dict):
        raise TypeError(f"{prefix or 'the network'} is no network")
    for pair in network.state.get("variables") or ():
        name, values = pair
        if isinstance(values, Array):
            yield f"{prefix}{name}", values.tensor
        elif isinstance(values, int | float):
            yield f"{prefix}{name}", torch.tensor(float(values))
    for name, component in _items(network.state.get("components")):
        yield from _variables(component, f"{prefix}{name}/", depth + 1, seen)


def _filters(options: object) -> dict[str, Tensor]:
    """The filters among the options of a TensorFlow network."""
    filters = {}
    for name in FILTERS:
        taps = options.get(name) if isinstance(options, dict) else None
        if isinstance(taps, list | tuple) and 0 < len(taps) <= MAX_TAPS:
            filters[name] = torch.tensor([float(tap) for tap in taps])
    return filters


def _items(table: object) -> list[tuple[Any, Any]]:
    return list(table.items()) if isinstance(table, dict) else []
