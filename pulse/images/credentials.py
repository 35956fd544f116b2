"""Content Credentials (C2PA): pictures signed with the user's own certificate, and read again.

Optional, through the extra `pulse[c2pa]`. The claim says what the XMP says, signed: the same
digital source type, generator, seed and settings, and the input as an ingredient. An input's own
credentials travel along, unless they tell where it was taken or with which single camera.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from pulse.errors import PulseError
from pulse.files import printable_path
from pulse.images.origin import COMPOSITE, SOFTWARE, Origin
from pulse.images.read import DECODER_ERRORS, read_picture, read_regular_file

if TYPE_CHECKING:
    import c2pa

Sign = Callable[[bytes, str, Origin], bytes]
"""Signs the bytes of a picture file of a MIME type with this origin; gives the new bytes."""

ALGORITHMS = (b"es256", b"es384", b"es512", b"ps256", b"ed25519")  # by the kind of key
SETTINGS_LABEL = "example.pulse-upscale.settings"
# No thumbnails: the input's would show the person, the candidate's would say nothing new.
LIBRARY_SETTINGS = {"builder": {"thumbnail": {"enabled": False}}}
TELLS_TOO_MUCH = ("gps", "serialnumber")  # in the names of an input's own assertions
NEEDS_EXTRA = "pip install 'pulse[c2pa]'"


@dataclass(frozen=True)
class Credentials:
    """The signed claim of a picture.

    Attributes:
        issuer: organisation that the signing certificate names.
        made_with: the program that made the claim.
        digital_source_type: address of the IPTC NewsCode; None if the claim has none.
        ingredients: titles of the pictures that it was made from.
        is_intact: whether file and signature belong together; False after any change.
        is_trusted: whether the certificate is one that the library trusts.
    """

    issuer: str | None
    made_with: str | None
    digital_source_type: str | None
    ingredients: tuple[str, ...]
    is_intact: bool
    is_trusted: bool


class Signer:
    """Signs pictures.

    Args:
        certificates: PEM file of the signing certificate, those above it after it.
        key: PEM file of its private key (PKCS#8, without a password).

    Raises:
        PulseError: if a file cannot be read, they do not belong together, or the library is
            missing; nothing was signed by then.
    """

    def __init__(self, certificates: Path, key: Path) -> None:
        if find_spec("c2pa") is None:
            raise PulseError(f"signing needs the C2PA library; {NEEDS_EXTRA}")
        self._certificates, self._key = _read(certificates), _read(key)
        self._algorithm = self._find_algorithm(certificates, key)

    def for_input(self, path: Path) -> Sign:
        """What signs pictures that were made from this file."""
        return lambda data, mime, origin: self._sign(data, mime, origin, _ingredient(path))

    def _find_algorithm(self, certificates: Path, key: Path) -> bytes:
        """The algorithm that suits the key, found by signing a pixel with each."""
        pixel = io.BytesIO()
        Image.new("RGB", (1, 1)).save(pixel, "PNG")
        origin = Origin("none", "", 0, {})
        reasons = []
        for algorithm in ALGORITHMS:
            self._algorithm = algorithm
            try:
                self._sign(pixel.getvalue(), "image/png", origin, None)
            except PulseError as error:
                reasons.append(str(error))
            else:
                return algorithm
        raise PulseError(
            f"cannot sign with {printable_path(certificates)} and {printable_path(key)} "
            f"({_most_telling(reasons)}); give a PEM certificate fit for signing documents and its "
            "PKCS#8 key without a password"
        )

    def _sign(
        self, data: bytes, mime: str, origin: Origin, ingredient: tuple[str, bytes] | None
    ) -> bytes:
        """Sign a picture file; see `Sign`."""
        import c2pa

        signed = io.BytesIO()
        info = c2pa.C2paSignerInfo(self._algorithm, self._certificates, self._key, None)
        try:
            with (
                c2pa.Settings.from_dict(LIBRARY_SETTINGS) as settings,
                c2pa.Context(settings) as context,
                c2pa.Signer.from_info(info) as signer,
                c2pa.Builder(_manifest(origin, bool(ingredient)), context) as builder,
            ):
                if ingredient:
                    builder.add_ingredient(_about_input(origin), ingredient[0],
                                           io.BytesIO(ingredient[1]))  # fmt: skip
                builder.sign(signer, mime, io.BytesIO(data), signed)
        except c2pa.C2paError as error:
            raise PulseError(f"cannot sign the picture: {_one_line(error)}") from error
        return signed.getvalue()


def read_credentials(data: bytes, mime: str) -> Credentials | None:
    """The credentials in a picture file; None if there are none or they cannot be read at all."""
    import c2pa

    try:
        with c2pa.Reader(mime, io.BytesIO(data)) as reader:
            store = json.loads(reader.json())
            state = reader.get_validation_state()
    except c2pa.C2paError:
        return None
    manifest: dict[str, Any] = store["manifests"][store["active_manifest"]]
    generator: dict[str, Any] = next(iter(manifest.get("claim_generator_info", [])), {})
    return Credentials(
        issuer=manifest.get("signature_info", {}).get("issuer"),
        made_with=generator.get("name"),
        digital_source_type=_last_source_type(manifest),
        ingredients=tuple(
            part.get("title", "untitled") for part in manifest.get("ingredients", [])
        ),
        is_intact=state in ("Valid", "Trusted"),
        is_trusted=state == "Trusted",
    )


def may_have_credentials(data: bytes) -> bool:
    """Whether a file seems to hold credentials; needs no library."""
    return b"jumb" in data and b"c2pa" in data


def can_read_credentials() -> bool:
    """Whether the library is here."""
    return find_spec("c2pa") is not None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PulseError(
            f"cannot read {printable_path(path)}: {error.strerror}; check the path"
        ) from error


def _manifest(origin: Origin, has_input: bool) -> dict[str, Any]:
    """What is claimed: a face that was made, or a photograph that was opened and changed."""
    agent = {"name": SOFTWARE}
    of_input = {"parameters": {"ingredientIds": ["input"]}} if has_input else {}
    made = {"softwareAgent": agent, "digitalSourceType": origin.digital_source_type,
            "description": origin.description}  # fmt: skip
    if origin.digital_source_type == COMPOSITE:
        actions = [{"action": "c2pa.opened"} | of_input, {"action": "c2pa.edited"} | made]
    else:
        actions = [{"action": "c2pa.created"} | made | of_input]
    return {
        "claim_generator_info": [agent],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": actions}},
            {"label": SETTINGS_LABEL, "data": json.loads(origin.settings_json())},
        ],
    }


def _about_input(origin: Origin) -> dict[str, str]:
    """The ingredient without the file's name, which may be a person's."""
    is_parent = origin.digital_source_type == COMPOSITE
    return {
        "title": "input",
        "label": "input",
        "relationship": "parentOf" if is_parent else "inputTo",
    }


def _ingredient(path: Path) -> tuple[str, bytes]:
    """MIME type and bytes of an input; pixels alone where its own credentials tell too much."""
    data = read_regular_file(path, printable_path(path))
    mime = mime_of(data)
    if mime is not None and not _tells_too_much(data, mime):
        return mime, data
    buffer = io.BytesIO()
    read_picture(path).image.save(buffer, "PNG")
    return "image/png", buffer.getvalue()


def _tells_too_much(data: bytes, mime: str) -> bool:
    """Whether an input's own credentials hold its place or the number of a camera."""
    import c2pa

    if not may_have_credentials(data):
        return False
    try:
        with c2pa.Reader(mime, io.BytesIO(data)) as reader:
            text = reader.detailed_json().lower()
    except c2pa.C2paError:
        return True
    return any(word in text for word in TELLS_TOO_MUCH)


def mime_of(data: bytes) -> str | None:
    """MIME type of a picture file by its content; None where it is no picture."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            kind = "JPEG" if image.format == "MPO" else image.format
    except DECODER_ERRORS:
        return None
    return Image.MIME.get(kind or "")


def _last_source_type(manifest: dict[str, Any]) -> str | None:
    """The digital source type of the last action that has one."""
    actions = [
        action
        for assertion in manifest.get("assertions", [])
        if assertion.get("label", "").startswith("c2pa.actions")
        for action in assertion.get("data", {}).get("actions", [])
    ]
    types = [a["digitalSourceType"] for a in actions if "digitalSourceType" in a]
    return types[-1] if types else None


def _most_telling(reasons: list[str]) -> str:
    """Of the reasons of all algorithms, one that is not that the key is of another kind."""
    reasons = [reason.removeprefix("cannot sign the picture: ") for reason in reasons]
    return next((r for r in reasons if "private key" not in r), reasons[0])


def _one_line(error: c2pa.C2paError) -> str:
    return " ".join(str(error).split())
