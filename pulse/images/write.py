"""Write a picture: whole or not at all, and with its origin in it."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from pulse.errors import PictureError
from pulse.files import printable_path, write_bytes_atomically
from pulse.images.credentials import Sign
from pulse.images.origin import SOFTWARE, Origin
from pulse.images.read import open_picture

PNG_XMP_KEY = "XML:com.adobe.xmp"
ANIMATION_QUALITY = 85
JPEG_QUALITY = 95  # WebP is written without loss


def write_picture(
    image: Image.Image,
    path: Path,
    *,
    origin: Origin | None = None,
    captured: str | None = None,
    sign: Sign | None = None,
) -> None:
    """Write an RGB picture; the suffix .png, .jpg, .jpeg or .webp decides the format.

    The file holds the pixels, what is given here, and nothing else: no EXIF of an input.

    Args:
        image: RGB of 8 bits.
        path: the file, in a folder that is there.
        origin: what the picture says about itself, in XMP and, in PNG, in text as well.
        captured: when the photograph was taken, as EXIF writes it; for photographs only.
        sign: adds signed credentials that say what the origin says.

    Raises:
        PulseError: if the file cannot be written; nothing is left behind then.
        PictureError: for another suffix, or a picture too large for the format.
        ValueError: for another mode, or credentials without an origin.
    """
    if image.mode != "RGB":
        raise ValueError(f"got a picture in mode {image.mode}, expected RGB")
    if sign and not origin:
        raise ValueError("got a signer without an origin, expected both")
    encoder = ENCODERS.get(path.suffix.lower())
    if encoder is None:
        raise PictureError(
            f"cannot write {printable_path(path)}: the suffix must be .png, .jpg, .jpeg or .webp"
        )
    buffer = io.BytesIO()
    try:
        encode, mime = encoder
        encode(image, buffer, origin, captured)
    except (OSError, ValueError, struct.error) as error:
        reason = " ".join(str(error).split())
        raise PictureError(
            f"cannot write {printable_path(path)}: {image.width} x {image.height} pixels do not "
            f"fit in the format ({reason}); choose .png"
        ) from error
    data = buffer.getvalue()
    write_bytes_atomically(path, sign(data, mime, origin) if sign and origin else data)


def write_animation(
    frames: Sequence[Image.Image],
    times_ms: Sequence[int],
    path: Path,
    *,
    origin: Origin,
    sign: Sign | None = None,
) -> None:
    """Write pictures of one size as an animated WebP that begins anew at its end.

    Args:
        frames: RGB, at least one.
        times_ms: how long each is shown.
        path: the file.
        origin: what the animation says about itself.
        sign: adds signed credentials that say the same.

    Raises:
        PulseError: if the file cannot be written; nothing is left behind then.
    """
    first, *others = frames
    buffer = io.BytesIO()
    first.save(
        buffer, "WEBP", save_all=True, append_images=others, duration=list(times_ms), loop=0,
        quality=ANIMATION_QUALITY, **_xmp(origin),
    )  # fmt: skip
    data = buffer.getvalue()
    write_bytes_atomically(path, sign(data, "image/webp", origin) if sign else data)


def read_origin(path: Path) -> Origin | None:
    """What a picture says about its making; None if it is not from PULSE.

    Raises:
        PictureError: if the file cannot be read.
    """
    with open_picture(path) as image:
        packet = image.info.get("xmp")
    return Origin.from_xmp(packet) if isinstance(packet, bytes) else None


def _encode_png(
    image: Image.Image, buffer: BinaryIO, origin: Origin | None, captured: str | None
) -> None:
    text = _png_text(origin) if origin else None
    image.save(buffer, "PNG", pnginfo=text, **_exif(captured))


def _encode_jpeg(
    image: Image.Image, buffer: BinaryIO, origin: Origin | None, captured: str | None
) -> None:
    extra = _xmp(origin) | _exif(captured)
    image.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0, **extra)


def _encode_webp(
    image: Image.Image, buffer: BinaryIO, origin: Origin | None, captured: str | None
) -> None:
    image.save(buffer, "WEBP", lossless=True, **_xmp(origin), **_exif(captured))


def _xmp(origin: Origin | None) -> dict[str, bytes]:
    return {"xmp": origin.to_xmp()} if origin else {}


def _exif(captured: str | None) -> dict[str, bytes]:
    """EXIF of the capture time alone: the pixels are upright, the rest tells too much."""
    if captured is None:
        return {}
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = captured
    return {"exif": exif.tobytes()}


def _png_text(origin: Origin) -> PngInfo:
    text = PngInfo()
    text.add_itxt(PNG_XMP_KEY, origin.to_xmp().decode())
    text.add_text("Software", SOFTWARE)
    text.add_text("Description", origin.description)
    text.add_text("pulse", origin.settings_json())
    return text


ENCODERS = {
    ".png": (_encode_png, "image/png"),
    ".jpg": (_encode_jpeg, "image/jpeg"),
    ".jpeg": (_encode_jpeg, "image/jpeg"),
    ".webp": (_encode_webp, "image/webp"),
}
