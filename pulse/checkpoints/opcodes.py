"""Pickles gone through without obeying them: what they name, and what they claim to hold."""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import BinaryIO

from pulse.files import printable

PUT_OPCODES = ("PUT", "BINPUT", "LONG_BINPUT")
GET_OPCODES = ("GET", "BINGET", "LONG_BINGET")
FORBIDDEN_OPCODES = ("PERSID", "EXT1", "EXT2", "EXT4")

IsAllowed = Callable[[str, str], bool]


class ForbiddenError(Exception):
    """A pickle names something that is not allowed; the text is its name."""


def refusal(name: str, error: ForbiddenError) -> str:
    """What to tell the user of a forbidden name in the file `name`."""
    return (
        f"{name} wants to use {printable(str(error))}, which no generator needs: refused, and "
        "nothing of it was run; get the file from those who made it"
    )


def scan(file: BinaryIO, is_allowed: IsAllowed, largest_storage: int | None = None) -> None:
    """Go through one pickle to its end.

    Python's own reader makes room for as many memo entries as the largest number says, so a
    number of four bytes could claim all memory; here it must be in proportion.

    Args:
        file: at the beginning of a pickle; afterwards behind its end.
        is_allowed: whether a module and a name in it may be named.
        largest_storage: values that a storage kept outside the pickle may claim; None allows any.

    Raises:
        ForbiddenError: with what is named and not allowed.
        ValueError: if the pickle is torn or its numbers are out of proportion.
    """
    strings = _Strings()
    number = 0
    for seen, (opcode, argument, _) in enumerate(pickletools.genops(file), start=1):
        if opcode.name in FORBIDDEN_OPCODES:
            raise ForbiddenError(f"the opcode {opcode.name}")
        if opcode.name in PUT_OPCODES and int(argument or 0) > seen:
            raise ValueError(f"memo entry {argument} after {seen} operations")
        if opcode.name in ("GLOBAL", "INST"):
            module, _, name = str(argument).partition(" ")
            _check(module, name, is_allowed)
        elif opcode.name == "STACK_GLOBAL" and strings.last_two is not None:
            # computed names are not seen here; the reader itself checks every name
            _check(*strings.last_two, is_allowed)
        elif opcode.name == "BINPERSID" and number > (largest_storage or number):
            # torch writes the number of values last, before the reference to a storage
            raise ValueError(f"a storage claims {number:,} values in {largest_storage:,} bytes")
        strings.follow(opcode.name, argument)
        number = argument if type(argument) is int and "PUT" not in opcode.name else number


class _Strings:
    """The strings that a pickle has just put on its stack, those from its memo included."""

    def __init__(self) -> None:
        self.recent: list[str | None] = [None, None]
        self.memo: dict[int, str | None] = {}

    @property
    def last_two(self) -> tuple[str, str] | None:
        """The last two things on the stack, if both are strings."""
        first, second = self.recent
        return (first, second) if first is not None and second is not None else None

    def follow(self, opcode: str, argument: object) -> None:
        """Go one operation on."""
        if opcode == "MEMOIZE":
            self.memo[len(self.memo)] = self.recent[1]
        elif opcode in PUT_OPCODES:
            self.memo[int(str(argument))] = self.recent[1]
        elif opcode in GET_OPCODES:
            self.recent = [self.recent[1], self.memo.get(int(str(argument)))]
        else:
            is_string = isinstance(argument, str) and opcode != "GLOBAL"
            self.recent = [self.recent[1], str(argument)] if is_string else [None, None]


def _check(module: str, name: str, is_allowed: IsAllowed) -> None:
    if not is_allowed(module, name):
        raise ForbiddenError(f"{module}.{name}")
