"""Pickles gone through without obeying them: what they name, and what they claim to hold."""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import BinaryIO

from pulse.checkpoints.machine import GET_OPCODES, PUT_OPCODES, Item, Machine
from pulse.files import printable

FORBIDDEN_OPCODES = ("PERSID", "EXT1", "EXT2", "EXT4")
MAX_OPERATIONS = 200_000  # a generator, its discriminator and their optimizers take 60,000
MAX_BITS = 64  # integers of more could make a dictionary crawl, or a product of sizes
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the one larger integer, at the head of old torch files
GROWTH = 8  # calls copy what they are given, each tensor through three or four of them
SLACK_BYTES = 1 << 20

IsAllowed = Callable[[str, str], bool]


class ForbiddenError(Exception):
    """A pickle names something that is not allowed; the text is its name."""


def refusal(name: str, error: ForbiddenError) -> str:
    """What to tell the user of a forbidden name in the file `name`."""
    return (
        f"{name} wants to use {printable(str(error), longest=200)}, which no generator needs: "
        "refused, and nothing of it was run; get the file from those who made it"
    )


def scan(
    file: BinaryIO, is_allowed: IsAllowed, file_bytes: int, *, is_legacy: bool = False
) -> None:
    """Go through one pickle to its end.

    Python's own reader makes room for as many memo entries as the largest number says, hashes
    tuples within tuples without end, and copies one object a million times; here all of it must
    be in proportion to the file.

    Args:
        file: at the beginning of a pickle; afterwards behind its end.
        is_allowed: whether a module and a name in it may be named.
        file_bytes: size of the whole file, for what is in proportion.
        is_legacy: whether storages come behind the pickle, which says how many values they have.

    Raises:
        ForbiddenError: with what is named and not allowed.
        ValueError: if the pickle is torn or its numbers are out of proportion.
    """
    machine = Machine(most_copied=GROWTH * file_bytes + SLACK_BYTES)
    for seen, (opcode, argument, _) in enumerate(pickletools.genops(file), start=1):
        if seen > MAX_OPERATIONS:
            raise ValueError(f"more than {MAX_OPERATIONS:,} operations")
        if opcode.name in FORBIDDEN_OPCODES:
            raise ForbiddenError(f"the opcode {opcode.name}")
        if opcode.name in PUT_OPCODES + GET_OPCODES and int(argument or 0) > seen:
            raise ValueError(f"memo entry {argument} after {seen} operations")
        if type(argument) is int and argument.bit_length() > MAX_BITS and argument != LEGACY_MAGIC:
            raise ValueError(f"an integer of {argument.bit_length():,} bits")
        if opcode.name in ("GLOBAL", "INST"):
            module, _, name = str(argument).partition(" ")
            _check(module, name, is_allowed)
        taken = machine.step(opcode, argument)
        if opcode.name == "STACK_GLOBAL":
            _check(_text(taken[0]), _text(taken[1]), is_allowed)
        elif opcode.name == "BINPERSID" and is_legacy:
            _check_storage(taken[0], file_bytes)


def _check(module: str, name: str, is_allowed: IsAllowed) -> None:
    if not is_allowed(module, name):
        raise ForbiddenError(f"{module}.{name}")


def _text(item: Item) -> str:
    if item.text is None:
        raise ForbiddenError("a name that it puts together")
    return item.text


def _check_storage(reference: Item, file_bytes: int) -> None:
    """A reference to a storage is ("storage", type, key, device, number of values, ...)."""
    number = reference.parts[4].number if len(reference.parts) > 4 else None
    if number is None or not 0 <= number <= file_bytes:
        claim = "no number of" if number is None else f"{number:,}"
        raise ValueError(f"a storage claims {claim} values in {file_bytes:,} bytes")
