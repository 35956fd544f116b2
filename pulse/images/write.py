"""Write a picture: whole or not at all, and with its origin in it."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pulse.errors import PictureError
from pulse.files import printable_path, write_bytes_atomically
from pulse.images.origin import SOFTWARE, Origin
from pulse.images.read import DECODER_ERRORS

PNG_XMP_KEY = "XML:com.adobe.xmp"
JPEG_QUALITY = 95  # WebP is written without loss


def write_picture(image: Image.Image, path: Path, *, origin: Origin | None = None) -> None:
    """Write an RGB picture; the suffix .png, .jpg, .jpeg or .webp decides the format.

    Args:
        image: RGB of 8 bits.
        path: the file, in a folder that is there.
        origin: what the picture says about itself, in XMP and, in PNG, in text as well.

    Raises:
        PulseError: if the file cannot be written; nothing is left behind then.
        PictureError: for another suffix.
    """
    buffer = io.BytesIO()
    suffix = path.suffix.lower()
    xmp = origin.to_xmp() if origin else None
    if suffix == ".png":
        image.save(buffer, "PNG", pnginfo=_png_text(origin) if origin else None)
    elif suffix in (".jpg", ".jpeg"):
        extra = {"xmp": xmp} if xmp else {}
        image.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0, **extra)
    elif suffix == ".webp":
        extra = {"xmp": xmp} if xmp else {}
        image.save(buffer, "WEBP", lossless=True, **extra)
    else:
        raise PictureError(
            f"cannot write {printable_path(path)}: the suffix must be .png, .jpg or .webp"
        )
    write_bytes_atomically(path, buffer.getvalue())


def read_origin(path: Path) -> Origin | None:
    """What a picture says about its making; None if it is not from PULSE.

    Raises:
        PictureError: if the file cannot be read.
    """
    try:
        with Image.open(path) as image:
            packet = image.info.get("xmp") or image.info.get(PNG_XMP_KEY)
    except DECODER_ERRORS as error:
        raise PictureError(f"cannot read {printable_path(path)}: {error}") from error
    if packet is None:
        return None
    return Origin.from_xmp(packet.encode() if isinstance(packet, str) else packet)


def _png_text(origin: Origin) -> PngInfo:
    text = PngInfo()
    text.add_itxt(PNG_XMP_KEY, origin.to_xmp().decode())
    text.add_text("Software", SOFTWARE)
    text.add_text("Description", origin.description)
    text.add_text("pulse", origin.settings_json())
    return text
