"""The command that makes a face again, from what run.json says."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from pulse.checkpoints.catalog import find_entry
from pulse.settings import EMBEDDED, PUBLISHED, FaceSettings, LossWeights, SearchSettings

NO_OPTIONS = ("trainable_noise_maps", "last_noise_map_is_zero", "start", "stop_at_tolerance",
              "clamp_misfit")  # fmt: skip
"""Settings of a search that only a preset sets."""


def options_of(settings: Mapping[str, Any]) -> str:
    """The options of `pulse upscale` that differ from its defaults, as a shell takes them.

    Candidates and seed are always named: they say how many answers these are, and of which start.

    Args:
        settings: those of run.json.

    Raises:
        KeyError, TypeError, ValueError: if they are not the settings of a run.
    """
    options = ["-n", str(settings["candidates"]), "--seed", str(settings["seed"])]
    if settings["generator"] != EMBEDDED:
        options += ["--generator", settings["generator"]]
    if settings["class"] is not None:
        options += ["--class", str(settings["class"])]
    if settings["format"] != "png":
        options += ["--format", settings["format"]]
    options += _face_options(FaceSettings(**settings["face"]))
    options += _search_options(search_of(settings))
    return shlex.join(options)


def search_of(settings: Mapping[str, Any]) -> SearchSettings:
    """The search settings of run.json; errors as in `options_of`."""
    search = dict(settings["search"])
    return SearchSettings(**search | {"loss": LossWeights(**search["loss"])})


def generator_is_known(settings: Mapping[str, Any]) -> bool:
    """Whether the generator's name is enough to load it; else it was a file of that name."""
    return find_entry(settings["generator"]) is not None


def _face_options(face: FaceSettings) -> Iterator[str]:
    usual = FaceSettings()
    for name in ("align", "faces", "low_res", "kernel"):
        if getattr(face, name) != getattr(usual, name):
            yield from (f"--{name.replace('_', '-')}", str(getattr(face, name)))


def _search_options(search: SearchSettings) -> Iterator[str]:
    usual = SearchSettings()
    if any(getattr(search, name) != getattr(usual, name) for name in NO_OPTIONS):
        usual = PUBLISHED
        yield from ("--preset", "pulse")
    for name in (field.name for field in fields(search) if field.name not in NO_OPTIONS):
        value = getattr(search, name)
        if value != getattr(usual, name):
            option = f"--{name.replace('_', '-')}"
            yield from (option,) if value is True else (option, str(value))
