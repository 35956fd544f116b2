"""`pulse info`: where pictures came from, in plain words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from pulse.files import printable, printable_path
from pulse.images.credentials import NEEDS_EXTRA, Credentials
from pulse.images.info import PictureInfo
from pulse.images.origin import Origin

# The last part of the IPTC NewsCode's address, in words.
SOURCE_TYPES = {
    "trainedAlgorithmicMedia": "made by a neural network",
    "compositeWithTrainedAlgorithmicMedia": "a picture with parts made by a neural network",
    "algorithmicMedia": "made by a program without training data",
    "algorithmicallyEnhanced": "a picture that a program improved",
    "compositeCapture": "put together from photographs",
    "composite": "put together from several pictures",
    "compositeSynthetic": "put together, in part from drawn pictures",
    "digitalCapture": "a photograph from a digital camera",
    "computationalCapture": "a photograph that a camera computed from several",
    "negativeFilm": "digitized from a film negative",
    "positiveFilm": "digitized from film",
    "print": "digitized from a print",
    "humanEdits": "a picture changed by people",
    "digitalCreation": "drawn by people with a computer",
    "screenCapture": "a picture of a screen",
    "virtualRecording": "recorded from a virtual world",
    "dataDrivenMedia": "drawn from data",
}
INDENT = "  "


def info_as_json(info: PictureInfo) -> dict[str, Any]:
    """Everything that was found."""
    return asdict(info) | {"path": str(info.path), "is_from_pulse": info.origin is not None}


def info_as_text(info: PictureInfo) -> str:
    """A paragraph in plain words."""
    lines = [f"{printable_path(info.path)}: {info.format}, {info.width} x {info.height} px"]
    lines += [INDENT + line for line in _lines(info)]
    return "\n".join(lines)


def _lines(info: PictureInfo) -> Iterator[str]:
    if info.origin:
        yield from _from_pulse(info.origin)
    else:
        yield "Not from PULSE, or its marks were removed."
    if info.digital_source_type:
        yield f"Digital source type: {in_words(info.digital_source_type)}."
    elif not info.origin:
        yield "It does not say whether a person, a camera or a program made it."
    if info.camera:
        yield f"Camera: {info.camera}."
    if info.software and not info.origin:
        yield f"Software: {info.software}."
    if info.captured:
        yield f"Taken: {info.captured}."
    if info.has_place:
        yield "It holds the place where it was taken (GPS)."
    if info.credentials:
        yield from _signed(info.credentials)
    elif info.has_unread_credentials:
        yield f"It seems to be signed (C2PA), but that was not read; try {NEEDS_EXTRA}."


def _from_pulse(origin: Origin) -> Iterator[str]:
    settings = origin.settings
    yield f"From PULSE. {printable(origin.description)}"
    yield f"Generator: {printable(origin.generator)} (SHA-256 {origin.generator_sha256})."
    names = ("picture", "face", "candidate", "low_res_px")
    told = [f"{name.removesuffix('_px')} {settings[name]}" for name in names if settings.get(name)]
    yield f"Seed {origin.seed}" + "".join(f", {part}" for part in told) + "."
    rest = {name: value for name, value in settings.items() if name not in names}
    if rest:
        yield "Settings: " + ", ".join(f"{name} {_plain(value)}" for name, value in rest.items())


def _plain(value: Any) -> str:  # noqa: ANN401 (JSON)
    """A setting in one line; those of the search are many."""
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name} {_plain(part)}" for name, part in value.items()) + ")"
    return printable(str(value))


def _signed(credentials: Credentials) -> Iterator[str]:
    who = printable(credentials.issuer or "an unnamed signer")
    if not credentials.is_intact:
        yield f"Signed (C2PA) in the name of {who}, but CHANGED SINCE, or the signature is false."
        return
    trust = "trusted" if credentials.is_trusted else "whether to trust that name was not checked"
    yield f"Signed (C2PA) in the name of {who}; unchanged since; {trust}."
    if credentials.made_with:
        yield f"The claim was made with {printable(credentials.made_with)}."
    if credentials.digital_source_type:
        yield f"It claims: {in_words(credentials.digital_source_type)}."
    if credentials.ingredients:
        yield "Made from: " + ", ".join(printable(name) for name in credentials.ingredients) + "."


def in_words(source_type: str) -> str:
    """A digital source type in words, with its own name."""
    name = printable(source_type.rstrip("/").rpartition("/")[2])
    words = SOURCE_TYPES.get(name)
    return f"{words} ({name})" if words else name
