"""labels.csv: what people say of themselves. Nobody's group is ever guessed."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from pulse.errors import PulseError
from pulse.files import printable, printable_path

FILE_COLUMNS = ("file", "filename", "picture", "image")
UNSAID = {"", "na", "n/a", "none", "unknown"}


@dataclass(frozen=True)
class Labels:
    """The groups of the people in a folder.

    Attributes:
        column: which column of the file counts as the group.
        groups: each picture's path with its group, in the order of the file; people who said
            nothing are left out.
        unsaid: pictures of those.
    """

    column: str
    groups: dict[Path, str]
    unsaid: tuple[Path, ...]


def read_labels(path: Path, folder: Path, column: str | None) -> Labels:
    """Read a table of pictures and groups.

    Args:
        path: a CSV file with a heading; a column called "file" names the pictures.
        folder: what those names are relative to.
        column: the column with the groups; None where there is only one beside "file", or one that
            is called "group".

    Raises:
        PulseError: if the file cannot be read, has no such column, or names a picture that is not
            there or that it has named before.
    """
    name = printable_path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            columns = [heading.strip() for heading in reader.fieldnames or []]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise PulseError(f"cannot read the labels {name}: {reason}") from error
    file_column = next((c for c in columns if c.lower() in FILE_COLUMNS), None)
    if file_column is None:
        raise PulseError(
            f"the labels {name} have no column 'file'; the first line has to name the columns, "
            "such as: file,group"
        )
    chosen = _choose(column, [c for c in columns if c != file_column], name)
    groups: dict[Path, str] = {}
    unsaid: list[Path] = []
    for number, row in enumerate(rows, 2):
        values = {(key or "").strip(): (value or "") for key, value in row.items() if key}
        picture = folder / values[file_column].strip()
        if not picture.is_file():
            raise PulseError(
                f"line {number} of the labels {name} names '{printable(str(picture))}', which is "
                "not there; correct the line or the folder"
            )
        if picture in groups or picture in unsaid:
            raise PulseError(
                f"line {number} of the labels {name} names '{printable(str(picture))}' again; each "
                "picture has one line"
            )
        group = printable(values[chosen].strip())
        if group.lower() in UNSAID:
            unsaid.append(picture)
        else:
            groups[picture] = group
    if not groups:
        raise PulseError(f"the labels {name} tell nobody's '{chosen}'; choose another --group")
    return Labels(chosen, groups, tuple(unsaid))


def _choose(column: str | None, columns: list[str], name: str) -> str:
    """The column with the groups."""
    if column in columns:
        return column
    there = ", ".join(columns) or "none"
    if column is not None:
        raise PulseError(f"the labels {name} have no column '{column}'; there are: {there}")
    if "group" in columns:
        return "group"
    if len(columns) != 1:
        raise PulseError(f"choose the column of the groups with --group; {name} has: {there}")
    return columns[0]
