"""One check for shapes, so that every programmer's mistake reads the same: got and expected."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def check_shape(name: str, tensor: Tensor, *expected: int | None) -> None:
    """Raise unless a tensor has the expected shape.

    Args:
        name: what the tensor is called at the caller, for the message.
        tensor: any tensor.
        *expected: the size of each dimension; None accepts any.

    Raises:
        ValueError: with the shape that came and the one expected.
    """
    shape = tuple(tensor.shape)
    matches = len(shape) == len(expected) and all(
        want is None or got == want for got, want in zip(shape, expected, strict=True)
    )
    if not matches:
        wanted = ", ".join("any" if size is None else str(size) for size in expected)
        raise ValueError(f"{name} has shape {shape}, expected ({wanted})")
