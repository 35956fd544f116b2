"""Where a picture says it came from, whoever made it: XMP, EXIF and signed credentials."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image

from pulse.files import printable, printable_path
from pulse.images.credentials import (
    Credentials,
    can_read_credentials,
    may_have_credentials,
    mime_of,
    read_credentials,
)
from pulse.images.origin import Origin, digital_source_type_of
from pulse.images.read import (
    DECODER_ERRORS,
    capture_time_of,
    open_picture,
    read_regular_file,
)


@dataclass(frozen=True)
class PictureInfo:
    """What a picture file says about its making.

    Attributes:
        path: the file.
        format: PNG, JPEG, ...
        width: in pixels, as stored.
        height: in pixels, as stored.
        origin: what PULSE wrote; None if the picture is not from PULSE.
        digital_source_type: address of the IPTC NewsCode in its XMP; None without one.
        software: the program that EXIF or the PNG's text names.
        camera: maker and model that EXIF names.
        captured: when it was taken, as EXIF writes it.
        has_place: whether EXIF holds the place where it was taken.
        credentials: the signed claim, if there is one and the library to read it is here.
        has_unread_credentials: whether there seem to be credentials that were not read.
    """

    path: Path
    format: str
    width: int
    height: int
    origin: Origin | None
    digital_source_type: str | None
    software: str | None
    camera: str | None
    captured: str | None
    has_place: bool
    credentials: Credentials | None
    has_unread_credentials: bool


def read_info(path: Path) -> PictureInfo:
    """Read what a picture says about itself; its pixels are not decoded.

    Raises:
        PictureError: if the file cannot be read.
    """
    with open_picture(path) as image:
        packet = image.info.get("xmp")
        packet = packet if isinstance(packet, bytes) else b""
        exif = _exif_of(image)
        captured = capture_time_of(image)
        software = exif.get(ExifTags.Base.Software) or image.info.get("Software")
        format_, (width, height) = image.format or "unknown", image.size
    data = read_regular_file(path, printable_path(path))
    has_credentials = may_have_credentials(data)
    credentials = None
    if has_credentials and can_read_credentials():
        credentials = read_credentials(data, mime_of(data) or "")
    makers = (exif.get(ExifTags.Base.Make), exif.get(ExifTags.Base.Model))
    return PictureInfo(
        path=path,
        format=format_,
        width=width,
        height=height,
        origin=Origin.from_xmp(packet),
        digital_source_type=digital_source_type_of(packet),
        software=_text(software),
        camera=_text(" ".join(str(part) for part in makers if part)),
        captured=captured,
        has_place=ExifTags.IFD.GPSInfo in exif,
        credentials=credentials,
        has_unread_credentials=has_credentials and credentials is None,
    )


def _exif_of(image: Image.Image) -> dict[int, object]:
    """The main fields of EXIF; none where it is damaged."""
    try:
        return dict(image.getexif())
    except DECODER_ERRORS:
        return {}


def _text(value: object) -> str | None:
    """A field as one line of plain characters; None where it is empty."""
    text = " ".join(str(value).replace("\x00", " ").split()) if value else ""
    return printable(text) or None
