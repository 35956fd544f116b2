"""A file that has come in part, and what it is the beginning of."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pulse.files import write_text_atomically


@dataclass(frozen=True)
class Origin:
    """What the bytes of a partial file are the beginning of.

    Attributes:
        address: where they came from.
        validator: the server's ETag, or date, of that version of the file.
        total_bytes: of the whole file; None if the server did not say.
    """

    address: str
    validator: str
    total_bytes: int | None


@dataclass(frozen=True)
class Part:
    """The partial file `<name>.part`, with its origin in `<name>.part.json`."""

    path: Path

    @property
    def origin_path(self) -> Path:
        """Where the origin is kept."""
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def size_bytes(self) -> int:
        """How much has come."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def origin(self, address: str) -> Origin | None:
        """What to resume; None if the bytes are of another address or of unknown origin."""
        try:
            origin = Origin(**json.loads(self.origin_path.read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return origin if origin.address == address else None

    def start(self, origin: Origin | None) -> None:
        """Begin an empty file; with no origin it cannot be resumed.

        Raises:
            OSError: if it cannot be written.
            PulseError: if the origin cannot be written.
        """
        self.discard()  # first, so that old bytes never stand beside a new origin
        if origin is not None:
            write_text_atomically(self.origin_path, json.dumps(asdict(origin)) + "\n")
        self.path.touch()

    def discard(self) -> None:
        """Throw away what has come."""
        self.path.unlink(missing_ok=True)
        self.origin_path.unlink(missing_ok=True)

    def finish(self, target: Path) -> None:
        """Give the whole file its name."""
        self.path.replace(target)
        with suppress(OSError):  # the next download begins a new one anyway
            self.origin_path.unlink()
