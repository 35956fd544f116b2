"""Compiled functions where there is a compiler, the functions themselves where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import TypeVar, cast

import torch

Function = TypeVar("Function", bound=Callable[..., object])
COMPILERS = ("g++", "clang++")


def why_not_compiled(device: torch.device) -> str | None:
    """Why nothing can be compiled for a device, in words; None where it can."""
    if device.type == "mps":
        return "nothing is compiled for MPS"
    wanted = [os.environ["CXX"]] if "CXX" in os.environ else COMPILERS
    if not any(shutil.which(name) for name in wanted):
        return f"no C++ compiler was found ({' or '.join(wanted)}), so nothing is compiled"
    return None


def compiled(function: Function, *, is_wanted: bool) -> Function:
    """A function compiled for each shape that it meets; itself where that is not wanted."""
    return cast(Function, torch.compile(function, dynamic=False)) if is_wanted else function
