"""The stack and memo of a pickle's reader, with sizes in place of objects.

Enough is followed to know, before anything is read, which names are asked for, how much calls
would copy, and how long it would take to hash a tuple.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass

PUT_OPCODES = ("PUT", "BINPUT", "LONG_BINPUT")
GET_OPCODES = ("GET", "BINGET", "LONG_BINGET")
TUPLE_OPCODES = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3")
CALL_OPCODES = ("REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST", "BUILD")
FILL_OPCODES = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS")

MAX_HASH_STEPS = 1000  # tuples in real files hold shapes and arguments
MAX_DEPTH = 50
MAX_ARGUMENTS = 50
MAX_TEXT = 1000  # characters of a string that are kept, for a name


@dataclass(eq=False, slots=True)
class Item:
    """What is known of an object on the stack.

    Attributes:
        text: of a string that is no longer than a name.
        number: of an integer.
        parts: of a tuple.
        length: characters, bytes or elements: what a copy would cost.
        hash_steps: how many objects are hashed with it.
        depth: tuples within tuples.
    """

    text: str | None = None
    number: int | None = None
    parts: tuple[Item, ...] = ()
    length: int = 0
    hash_steps: int = 1
    depth: int = 0


class Machine:
    """Follows the operations of one pickle.

    Args:
        most_copied: how many bytes and elements all calls together may be given.
    """

    def __init__(self, most_copied: int) -> None:
        self.stack: list[Item] = []
        self.marks: list[int] = []
        self.memo: dict[int, Item] = {}
        self.copied = 0
        self.most_copied = most_copied

    def step(self, opcode: pickletools.OpcodeInfo, argument: object) -> list[Item]:
        """Go one operation on.

        Returns:
            What the operation took from the stack, the deepest first.

        Raises:
            ValueError: if there is nothing to take, or something is out of proportion.
        """
        name = opcode.name
        if name == "MARK":
            self.marks.append(len(self.stack))
            return []
        if name == "POP" and self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
            return []
        if self._is_memo(name, argument):
            return []
        taken = self._take(opcode)
        if name in FILL_OPCODES:
            taken[0].length += len(taken) - 1
            self.stack.append(taken[0])
        elif name in CALL_OPCODES:
            self._call(name, taken)
        elif name == "DUP":
            self.stack += [taken[0], taken[0]]
        elif opcode.stack_after:
            self.stack.append(_made(name, argument, taken))
        return taken

    def _is_memo(self, name: str, argument: object) -> bool:
        """Do an operation of the memo, if it is one."""
        if name == "MEMOIZE":
            self.memo[len(self.memo)] = self._top()
        elif name in PUT_OPCODES:
            self.memo[int(str(argument))] = self._top()
        elif name in GET_OPCODES:
            number = int(str(argument))
            if number not in self.memo:
                raise ValueError(f"memo entry {number} before it was made")
            self.stack.append(self.memo[number])
        else:
            return False
        return True

    def _top(self) -> Item:
        if not self.stack:
            raise ValueError("an operation on nothing")
        return self.stack[-1]

    def _take(self, opcode: pickletools.OpcodeInfo) -> list[Item]:
        """What an operation takes: so many, or all behind the last mark and those before it."""
        before = opcode.stack_before
        start = len(self.stack)
        if pickletools.markobject in before:
            if not self.marks:
                raise ValueError("an operation without its mark")
            start = self.marks.pop()
            before = before[: before.index(pickletools.markobject)]
        start -= len(before)
        if start < (self.marks[-1] if self.marks else 0):
            raise ValueError("an operation on nothing")
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def _call(self, name: str, taken: list[Item]) -> None:
        """A call, or the giving of a state: it may copy what it is given."""
        arguments = taken if name == "INST" else taken[1:]
        given = [part for item in arguments for part in (item, *item.parts)]
        if len(given) > MAX_ARGUMENTS:
            raise ValueError(f"a call with {len(given)} arguments")
        cost = sum(item.length for item in given)
        self.copied += cost
        if self.copied > self.most_copied:
            raise ValueError("it would grow to many times its size")
        if name == "BUILD":
            taken[0].length += cost
            self.stack.append(taken[0])
        else:
            self.stack.append(Item(length=cost))


def _made(name: str, argument: object, taken: list[Item]) -> Item:
    """What an operation that is no call puts on the stack."""
    if name in TUPLE_OPCODES:
        steps = 1 + sum(item.hash_steps for item in taken)
        depth = 1 + max((item.depth for item in taken), default=0)
        if steps > MAX_HASH_STEPS or depth > MAX_DEPTH:
            raise ValueError("tuples within tuples without end")
        return Item(parts=tuple(taken), length=len(taken), hash_steps=steps, depth=depth)
    if isinstance(argument, str):
        text = argument if len(argument) <= MAX_TEXT else argument[:MAX_TEXT]
        return Item(text=text, length=len(argument))
    if isinstance(argument, bytes | bytearray):
        return Item(length=len(argument))
    if type(argument) is int:
        return Item(number=argument)
    return Item(length=len(taken))
