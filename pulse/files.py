"""Files that are whole or not there."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from platformdirs import user_cache_path

from pulse.errors import PulseError

PARTIAL_SUFFIX = ".part"
PARTIAL_NAME = re.compile(rf"\..{{0,32}}\.[0-9a-f]{{16}}{re.escape(PARTIAL_SUFFIX)}", re.DOTALL)


def cache_dir() -> Path:
    """The folder for what can be made again: `PULSE_HOME`, else the user's cache folder."""
    home = os.environ.get("PULSE_HOME")
    return Path(home) if home else user_cache_path("pulse")


def printable(text: str, longest: int | None = None) -> str:
    """A text on one line of plain characters, whatever it holds.

    Args:
        text: any text.
        longest: characters to keep; None keeps all.
    """
    cut = text if longest is None or len(text) <= longest else f"{text[:longest]}..."
    return cut if cut.isprintable() else ascii(cut)[1:-1]


def printable_path(path: Path) -> str:
    """A path on one line of plain characters, whatever its name holds."""
    return printable(str(path))


def make_folder(path: Path, within: Path | None = None) -> None:
    """Make a folder, with those above it, unless it is there.

    Args:
        path: the folder.
        within: a folder above it, not itself, that has to be there; it is never made. None where
            all may be.

    Raises:
        PulseError: naming the folder and the reason.
    """
    try:
        if within is None:
            path.mkdir(parents=True, exist_ok=True)
        else:
            folder = within
            for name in path.relative_to(within).parts:
                folder /= name
                folder.mkdir(exist_ok=True)
    except OSError as error:
        raise PulseError(
            f"cannot make the folder {printable_path(path)}: {error.strerror}"
        ) from error


def write_bytes_atomically(path: Path, data: bytes) -> None:
    """Write a file under a temporary name in its folder, bring it to the disk, and rename it.

    Raises:
        PulseError: naming the file and the reason; nothing is left behind.
    """
    write_pieces_atomically(path, [data])


def write_pieces_atomically(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file piece by piece; see `write_bytes_atomically`."""
    temporary = path.with_name(f".{path.stem[:32]}.{secrets.token_hex(8)}{PARTIAL_SUFFIX}")
    try:
        with temporary.open("xb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise PulseError(
            f"cannot write {printable_path(path)}: {error.strerror or error}; "
            "check the folder, its permissions and the free space"
        ) from error
    finally:
        # Where the folder is missing or read-only there is nothing to remove, and this fails too.
        with suppress(OSError):
            temporary.unlink()


def remove_partial_files(folder: Path) -> None:
    """Remove what a killed process left half-written in a folder, not in those below it.

    Raises:
        PulseError: naming the folder and the reason.
    """
    try:
        for path in folder.glob(f".*{PARTIAL_SUFFIX}"):
            if PARTIAL_NAME.fullmatch(path.name):
                path.unlink(missing_ok=True)
    except OSError as error:
        raise PulseError(
            f"cannot clear the folder {printable_path(folder)}: {error.strerror}"
        ) from error


def write_text_atomically(path: Path, text: str) -> None:
    """Write a text file in UTF-8; see `write_bytes_atomically`."""
    write_bytes_atomically(path, text.encode())
