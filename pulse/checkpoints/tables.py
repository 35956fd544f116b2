"""Tensors by name, no more and no longer names than weights files have."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

MAX_TENSORS = 20_000  # a generator, its discriminator and their optimizer have some thousands
MAX_NAME = 300


def as_table(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Make a table of tensors that a file may name without end.

    Raises:
        ValueError: if there are too many, or a name is too long.
    """
    table: dict[str, Tensor] = {}
    for count, (name, tensor) in enumerate(tensors, start=1):
        if count > MAX_TENSORS:
            raise ValueError(f"more than {MAX_TENSORS:,} tensors")
        check_name(name)
        table[name] = tensor
    return table


def check_name(name: str) -> None:
    """Raise ValueError for a name that is longer than any in a weights file."""
    if len(name) > MAX_NAME:
        raise ValueError(f"a name of {len(name):,} characters")
