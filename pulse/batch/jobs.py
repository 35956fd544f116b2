"""What there is to do: the pictures of a run, in a stable order, and where each one's go."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from pulse.batch.journal import JOURNAL_NAME, RUN_NAME
from pulse.errors import PictureError
from pulse.images import PICTURE_SUFFIXES

# Names inside a face's folder or at the top of a run, which no picture's folder may take.
RESERVED = re.compile(
    r"run\.json|journal\.jsonl|report\.html|.*\.face-\d+|"
    r"(low_res|sheet|downscaled|disagreement|(candidate|steps|latents)-\d+)\..*|"
    r"pasted(-\d+)?(-x[0-9.]+)?\..*"
)
MAX_NAME_BYTES = 200  # of the 255 that file systems allow; the rest is for what we add


@dataclass(frozen=True)
class Source:
    """One input of a run.

    Attributes:
        path: where it is, as the user would write it.
        folder: the part of the output tree that mirrors the input's folders.
    """

    path: Path
    folder: PurePosixPath

    @cached_property
    def key(self) -> str:
        """What the journal calls it: the absolute path, whatever the folder of the command."""
        return os.path.abspath(self.path)  # noqa: PTH100 (resolve() would follow a link elsewhere)


def list_sources(inputs: Iterable[Path], out: Path) -> Iterator[Source]:
    """Every picture of the inputs: files as given, folders with all below them, sorted.

    The run's own output folder, other runs' and hidden files are passed over. A file given by
    name is listed whatever its suffix; what it is shows when it is read. A folder below that
    cannot be looked into is listed as if it were a picture, to fail alone and by name.

    Args:
        inputs: files and folders.
        out: the folder that the run writes to.

    Raises:
        PictureError: if an input is not there at all, is a folder that cannot be listed, or is the
            output folder itself.
    """
    roots = list(inputs)
    seen: set[str] = set()
    for root in roots:
        # With several folders, each one's name keeps their trees apart.
        prefix = PurePosixPath(root.resolve().name if len(roots) > 1 else "")
        for source in _list_root(root, prefix, out):
            if source.key not in seen:
                seen.add(source.key)
                yield source


def _list_root(root: Path, prefix: PurePosixPath, out: Path) -> Iterator[Source]:
    if root.is_dir():
        if root.resolve() == out.resolve():
            raise PictureError(f"'{root}' is the output folder as well; choose another with -o")
        try:
            os.scandir(root).close()
        except OSError as error:
            raise PictureError(
                f"cannot list the folder '{root}': {error.strerror}; ask its owner"
            ) from error
        yield from _walk(root, prefix, out.resolve())
    elif os.path.lexists(root):
        yield Source(root, PurePosixPath())
    else:
        raise PictureError(f"there is no file or folder '{root}'")


def _walk(folder: Path, mirror: PurePosixPath, out: Path) -> Iterator[Source]:
    """Pictures below a folder in the order of their names, folder by folder.

    Args:
        folder: to look into.
        mirror: what mirrors it in the output tree.
        out: the output folder, which is passed over.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
    except OSError:
        yield Source(folder, mirror.parent)
        return
    names = {entry.name for entry in entries}
    if folder.resolve() == out or {RUN_NAME, JOURNAL_NAME} <= names:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        # A folder called x.png is listed as the bad picture it is, and looked into as well.
        if entry.name.lower().endswith(PICTURE_SUFFIXES):
            yield Source(Path(entry.path), mirror)
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), mirror / entry.name, out)


class OutputFolders:
    """Gives each source a folder of its own in the output tree, the same one in every run.

    The name is the picture's stem. Where two pictures would meet there (a.jpg beside a.png, or
    names that differ in case only), the later one takes its whole name, and if that is taken too,
    a number.

    Args:
        known: what earlier runs gave: each source's key with its folder.
        reserved: stems, in lower case, that no picture's folder may take.
    """

    def __init__(
        self, known: Iterable[tuple[str, str]] = (), reserved: re.Pattern[str] = RESERVED
    ) -> None:
        self._folders = dict(known)
        self._reserved = reserved
        self._taken = {_fold(folder) for folder in self._folders.values()}

    def of(self, source: Source) -> PurePosixPath:
        """The folder of a source, relative to the output folder; one picture's faces share it."""
        if source.key not in self._folders:
            folder = next(f for f in self._proposals(source) if _fold(f) not in self._taken)
            self._folders[source.key] = folder
            self._taken.add(_fold(folder))
        return PurePosixPath(self._folders[source.key])

    def _proposals(self, source: Source) -> Iterator[str]:
        parent = PurePosixPath(*(_printable(part) for part in source.folder.parts))
        for name in (source.path.stem, source.path.name):
            if not self._reserved.fullmatch(name.lower()):
                yield str(parent / _printable(name))
        number = 2
        while True:
            yield str(parent / f"{_printable(source.path.name)}-{number}")
            number += 1


def face_folder(folder: PurePosixPath, face: int, count: int) -> PurePosixPath:
    """The folder of one face: the picture's own, or one for each where there are several."""
    return folder if count == 1 else folder.with_name(f"{folder.name}.face-{face}")


def _fold(folder: str) -> str:
    """Names that meet on file systems which ignore case or the spelling of accents."""
    return unicodedata.normalize("NFC", folder).casefold()


def _printable(name: str) -> str:
    """A name that every file system and terminal takes: no control characters, not too long."""
    clean = "".join("_" if unicodedata.category(c) in {"Cc", "Cs"} else c for c in name)
    clean = re.sub(r'[<>:"|?*\\/]', "_", clean).rstrip(". ") or "_"
    encoded = clean.encode()
    if len(encoded) <= MAX_NAME_BYTES:
        return clean
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:8]
    return encoded[:MAX_NAME_BYTES].decode(errors="ignore") + "-" + digest
