"""A folder of pictures as one tensor of bytes, with a group for each, drawn in balance."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pulse.batch.jobs import list_sources
from pulse.errors import PictureError, PulseError
from pulse.faces.align import center_square
from pulse.files import make_folder, printable_path, write_bytes_atomically
from pulse.images import read_picture

LABELS = "labels.csv"
NO_GROUP = "all"
FEWEST = 8


@dataclass(frozen=True)
class Pictures:
    """The data of a training.

    Attributes:
        pixels: (N, 3, R, R) uint8.
        names: of the files, below the folder.
        groups: of each picture; all the same where there are no labels.
    """

    pixels: Tensor
    names: tuple[str, ...]
    groups: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def members(self) -> dict[str, list[int]]:
        """The places of each group's pictures, groups in the order of their names."""
        members: dict[str, list[int]] = {group: [] for group in sorted(set(self.groups))}
        for i, group in enumerate(self.groups):
            members[group].append(i)
        return members

    def take(self, places: Sequence[int]) -> Tensor:
        """Pictures (B, 3, R, R) float in [-1, 1]."""
        return self.pixels[list(places)].float() / 127.5 - 1

    def draw(self, count: int, rng: torch.Generator, *, mirror: bool) -> Tensor:
        """Draw pictures (count, 3, R, R) float in [-1, 1], every group as often as any other."""
        members = list(self.members.values())
        groups = torch.randint(len(members), (count,), generator=rng).tolist()
        shares = torch.rand(count, generator=rng).tolist()
        places = [members[g][int(u * len(members[g]))] for g, u in zip(groups, shares, strict=True)]
        x = self.take(places)
        if mirror:
            turned = torch.rand(count, 1, 1, 1, generator=rng) < 0.5
            x = torch.where(turned, x.flip(3), x)
        return x

    def fixed(self, count: int) -> list[int]:
        """The places of up to `count` pictures of each group, the same every time."""
        return [place for places in self.members.values() for place in _spread(places, count)]


def _spread(places: Sequence[int], count: int) -> list[int]:
    """Up to `count` of the places, evenly spread."""
    if len(places) <= count:
        return list(places)
    return [places[i * len(places) // count] for i in range(count)]


def load_pictures(folder: Path, resolution: int, labels: Path | None, cache: Path) -> Pictures:
    """Read the pictures of a folder and all below it, as squares of one size.

    What was read is kept in the cache and taken from there as long as no file has changed.

    Args:
        folder: of the pictures.
        resolution: pixels a side.
        labels: a CSV file with the columns `file` and `group`; None takes labels.csv in the
            folder where there is one.
        cache: the folder for what was read.

    Raises:
        PulseError: for a picture that cannot be read, labels that do not fit, or too few pictures.
    """
    paths = [source.path for source in list_sources([folder], cache)]
    if len(paths) < FEWEST:
        raise PulseError(
            f"{printable_path(folder)} has {len(paths)} pictures, too few to train on; "
            f"give {FEWEST} or more, thousands for a generator that is worth using"
        )
    names = tuple(path.relative_to(folder).as_posix() for path in paths)
    kept = cache / f"data-{resolution}.safetensors"
    key = _key_of(paths, names)
    pixels = _kept_pixels(kept, key)
    if pixels is None:
        pixels = torch.stack([_read_square(path, resolution) for path in paths])
        make_folder(cache)
        write_bytes_atomically(kept, save({"pixels": pixels}, {"key": key}))
    return Pictures(pixels, names, _groups_of(names, labels or folder / LABELS, labels is not None))


def _key_of(paths: Sequence[Path], names: Sequence[str]) -> str:
    """What changes when a file is added, removed, renamed or written."""
    stats = [path.stat() for path in paths]
    rows = [(name, s.st_size, s.st_mtime_ns) for name, s in zip(names, stats, strict=True)]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _kept_pixels(path: Path, key: str) -> Tensor | None:
    """Pixels from the cache; None where they are of other files, damaged or not there."""
    try:
        with safe_open(path, framework="pt") as file:
            return file.get_tensor("pixels") if (file.metadata() or {}).get("key") == key else None
    except (OSError, SafetensorError):
        return None


def _read_square(path: Path, resolution: int) -> Tensor:
    """The centre square of a picture, reduced to (3, R, R) uint8."""
    square = center_square(read_picture(path).image)
    if square.width < resolution:
        raise PictureError(
            f"{printable_path(path)} is {square.width} px a side, smaller than the resolution of "
            f"{resolution}; leave it out, or train at a lower --resolution"
        )
    small = square.resize((resolution, resolution), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1).contiguous()


def _groups_of(names: Sequence[str], path: Path, is_required: bool) -> tuple[str, ...]:
    """The group of each picture; all of one where there are no labels."""
    if not path.exists() and not is_required:
        return (NO_GROUP,) * len(names)
    groups = _read_labels(path)
    found = [_group_of(name, groups) for name in names]
    missing = [name for name, group in zip(names, found, strict=True) if group is None]
    if missing:
        raise PulseError(
            f"{printable_path(path)} has no row for {missing[0]} and {len(missing) - 1} more; "
            "add a row for each picture, or remove the file to train without groups"
        )
    return tuple(group for group in found if group is not None)


def _read_labels(path: Path) -> dict[str, str]:
    """Group by file name, and by its stem, since alignment changes the suffix."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PulseError(f"cannot read {printable_path(path)}: {error}; save it as CSV") from error
    if not rows or not {"file", "group"} <= set(rows[0]):
        raise PulseError(
            f"{printable_path(path)} has no columns 'file' and 'group'; give it a first line with "
            "these names"
        )
    by_name = {row["file"]: row["group"] for row in rows}
    by_stem = {Path(name).with_suffix("").as_posix(): group for name, group in by_name.items()}
    return by_stem | by_name


def _group_of(name: str, groups: Mapping[str, str]) -> str | None:
    """The group of a picture: by its name, its stem, or the stem before `.face-K`."""
    stem = Path(name).with_suffix("").as_posix()
    for key in (name, stem, stem.split(".face-")[0]):
        if key in groups:
            return groups[key]
    return None
