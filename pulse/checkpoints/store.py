"""The folder of downloaded generators: what is there, and whether it is what it was.

The catalogue's SHA-256 decides. Where it has none, the one of the first download is trusted,
recorded in `known_hashes.json` in the same folder, and compared ever after.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pulse.checkpoints.catalog import CatalogEntry
from pulse.errors import PulseError, WeightsError
from pulse.files import printable_path, write_text_atomically
from pulse.lock import locked

KNOWN_HASHES = "known_hashes.json"


def path_of(entry: CatalogEntry, folder: Path) -> Path:
    """Where the entry's file is, or would be."""
    return folder / entry.file_name


def is_present(entry: CatalogEntry, folder: Path) -> bool:
    """Whether the file is there; a download in progress is not."""
    return path_of(entry, folder).is_file()


def verify(entry: CatalogEntry, folder: Path) -> str:
    """Compare a file that is there with what is known of it.

    Returns:
        Its SHA-256, hexadecimal, which is the known one if there is one.

    Raises:
        WeightsError: if it is missing, unreadable or not the file it was.
    """
    path = path_of(entry, folder)
    found = sha256_of(path)
    if (known := known_sha256(entry, folder)) not in (None, found):
        raise WeightsError(
            f"the generator {printable_path(path)} has SHA-256 {found}, expected {known}: it was "
            "damaged or replaced; delete it and download it again"
        )
    return found


def known_sha256(entry: CatalogEntry, folder: Path) -> str | None:
    """The hash that the file must have: the catalogue's, else that of the first download."""
    return entry.sha256 or _read_hashes(folder / KNOWN_HASHES).get(entry.file_name)


def record_sha256(entry: CatalogEntry, folder: Path, sha256: str) -> None:
    """Remember the hash of a first download.

    Raises:
        WeightsError: if it cannot be written.
    """
    path = folder / KNOWN_HASHES
    try:
        with locked(folder / f".{KNOWN_HASHES}.lock"):
            hashes = _read_hashes(path) | {entry.file_name: sha256}
            write_text_atomically(path, json.dumps(hashes, indent=2, sort_keys=True) + "\n")
    except OSError as error:
        raise WeightsError(
            f"cannot write {printable_path(path)}: {error.strerror}; check the folder, its "
            "permissions and the free space"
        ) from error
    except PulseError as error:
        raise WeightsError(str(error)) from error


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal.

    Raises:
        WeightsError: if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(
            f"cannot read the generator {printable_path(path)}: {error.strerror}"
        ) from error


def _read_hashes(path: Path) -> dict[str, str]:
    try:
        hashes = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise WeightsError(f"cannot read {printable_path(path)}: {error.strerror}") from error
    except ValueError:
        hashes = None
    if not isinstance(hashes, dict) or not all(isinstance(v, str) for v in hashes.values()):
        raise WeightsError(
            f"{printable_path(path)} is damaged: it should give a SHA-256 for each file name; "
            "correct it, or delete it to trust the files as they are"
        )
    return hashes
