"""Read a picture file, whatever its format, to upright 8-bit sRGB."""

from __future__ import annotations

import hashlib
import io
import stat
import struct
import warnings
import zlib
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from pulse.errors import PictureError
from pulse.files import printable_path

HEIF_SUFFIXES = (".heic", ".heif")
PICTURE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", *HEIF_SUFFIXES,
)  # fmt: skip
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "DIB", "TIFF", "HEIF")
MAX_PIXELS = 200_000_000  # 600 MB as RGB: more than any camera, less than a memory
WHITE = (255, 255, 255)

# What Pillow's decoders raise on damaged files; one list, so that nothing else is swallowed.
DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError,
    EOFError, OverflowError, MemoryError, RuntimeError, NotImplementedError, AssertionError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """A picture as the method sees it.

    Attributes:
        image: upright, RGB of 8 bits, in sRGB.
        path: the file; None for a picture from memory.
        notes: what was converted, in words.
    """

    image: Image.Image
    path: Path | None
    notes: tuple[str, ...]

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of size and pixels: the same for a file renamed or losslessly packed again."""
        width, height = self.image.size
        return hashlib.sha256(f"{width}x{height}/".encode() + self.image.tobytes()).hexdigest()


def read_picture(
    path: Path, *, background: tuple[int, int, int] = WHITE, max_pixels: int = MAX_PIXELS
) -> Picture:
    """Read a picture file.

    Orientation from EXIF is applied, transparency laid over `background`, 16 bits scaled to 8,
    colours brought to sRGB through the embedded profile; of several frames the first is taken.

    Args:
        path: the file; its content, not its suffix, decides the format.
        background: RGB colour behind transparent pixels.
        max_pixels: the largest picture that is decoded.

    Raises:
        PictureError: one line that says what, which file, why and what to do.
    """
    name = printable_path(path)
    data = _read_regular_file(path, name)
    if not data:
        raise PictureError(f"{name} is empty: 0 bytes; copy or download it again")
    _register_heif(path, data, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata; the pixels decide
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_size(image, name, max_pixels)
                notes = _frame_notes(image, path)
                image.load()
                upright, orientation_notes = _upright(image)
                rgb, colour_notes = to_srgb(upright, background)
    except UnidentifiedImageError as error:
        raise PictureError(
            f"{name} is not a picture that PULSE can read{_guess(data)}; it takes PNG, JPEG, "
            "WebP, BMP, TIFF and HEIC"
        ) from error
    except PictureError:
        raise
    except DECODER_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PictureError(
            f"{name} is damaged or cut short ({reason}); copy or download it again"
        ) from error
    return Picture(rgb, path, (*notes, *orientation_notes, *colour_notes))


def to_srgb(
    image: Image.Image, background: tuple[int, int, int] = WHITE
) -> tuple[Image.Image, list[str]]:
    """Convert a picture of any mode to RGB of 8 bits in sRGB, and say what was converted."""
    notes: list[str] = []
    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):
        image = _to_8_bits(image)
        notes.append("reduced to 8 bits")
    if image.has_transparency_data:
        image = _over_background(image, background, profile, notes)
    elif profile:
        image = _through_profile(image, profile, notes)
    if image.mode not in ("RGB", "L", "P", "1"):
        notes.append(f"{image.mode} converted")
    return image.convert("RGB"), notes


def _read_regular_file(path: Path, name: str) -> bytes:
    """All bytes of a file; a folder, a pipe or a device is refused without being opened."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if path.is_symlink():
            raise PictureError(
                f"{name} is a link to a file that is not there; mend or remove it"
            ) from error
        raise PictureError(f"cannot read {name}: {error.strerror}") from error
    except ValueError as error:  # a null byte in the name
        raise PictureError(f"cannot read {name}: {error}") from error
    if stat.S_ISDIR(mode):
        raise PictureError(f"{name} is a folder with the name of a picture; rename it")
    if not stat.S_ISREG(mode):
        raise PictureError(f"{name} is not a regular file; give a picture file or a folder")
    try:
        with path.open("rb") as file:
            return file.read()
    except OSError as error:
        raise PictureError(
            f"cannot read {name}: {error.strerror}; check the file and its permissions"
        ) from error


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    """Refuse a picture by its header, before memory is taken for its pixels."""
    width, height = image.size
    if width < 1 or height < 1:
        raise PictureError(f"{name} has no pixels: {width} x {height}; copy it again")
    if width * height > max_pixels:
        raise PictureError(
            f"{name} claims {width} x {height} pixels, more than {max_pixels:,}; "
            "crop or reduce it if it is real"
        )


def _frame_notes(image: Image.Image, path: Path) -> list[str]:
    notes = []
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        notes.append(f"first of {frames} frames")
    suffixes = Image.registered_extensions()
    expected = suffixes.get(path.suffix.lower())
    found = "JPEG" if image.format == "MPO" else image.format
    if expected is not None and expected != found:
        notes.append(f"a {found} file under the suffix {path.suffix}")
    return notes


def _upright(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """Apply the EXIF orientation; damaged EXIF data say nothing about it."""
    try:
        orientation = image.getexif().get(0x0112, 1)
        upright = ImageOps.exif_transpose(image)
    except DECODER_ERRORS:
        return image, ["EXIF data damaged, orientation unknown"]
    if orientation in range(2, 9):
        return upright, [f"EXIF orientation {orientation} applied"]
    return image, []


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Scale deep greys to 8 bits: 16-bit values by their range, floats from [0, 1] or their own."""
    values = np.asarray(image).astype(np.float64)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    if image.mode == "F":
        top = 1.0 if values.min() >= 0 and values.max() <= 1 else max(values.max(), 1.0)
    else:
        top = 255.0 if values.max() <= 255 and image.mode == "I" else 65535.0
        top = max(top, values.max())
    return Image.fromarray(np.clip(np.rint(values / top * 255), 0, 255).astype(np.uint8))


def _over_background(
    image: Image.Image, background: tuple[int, int, int], profile: bytes | None, notes: list[str]
) -> Image.Image:
    rgba = image.convert("RGBA")
    alpha = rgba.getchannel("A")
    colours = rgba.convert("RGB")
    if profile:
        colours = _through_profile(colours, profile, notes)
    if alpha.getextrema() != (255, 255):
        red, green, blue = background
        notes.append(f"transparency laid over rgb({red}, {green}, {blue})")
    below = Image.new("RGB", image.size, background)
    return Image.composite(colours, below, alpha)


def _through_profile(image: Image.Image, profile: bytes, notes: list[str]) -> Image.Image:
    """Bring colours to sRGB through the embedded profile; a bad profile is passed over."""
    if image.mode in ("P", "1"):
        image = image.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        description = ImageCms.getProfileDescription(source).strip()
        if "srgb" in description.lower() and image.mode == "RGB":
            return image
        converted = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, *DECODER_ERRORS):
        notes.append("colour profile damaged or of another kind, passed over")
        return image
    notes.append(f"colours converted from the profile '{description}'")
    return converted or image


def _register_heif(path: Path, data: bytes, name: str) -> None:
    """Teach Pillow HEIC when such a file comes, with the extra package where it is there."""
    is_heif = data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"hevc")
    if not is_heif and path.suffix.lower() not in HEIF_SUFFIXES:
        return
    if find_spec("pillow_heif") is None:
        raise PictureError(f"{name} is a HEIC picture; pip install 'pulse[heic]' to read it")
    import_module("pillow_heif").register_heif_opener()


def _guess(data: bytes) -> str:
    """What a file that is no picture may be, for the message."""
    head = data[:512].lstrip().lower()
    if head.startswith((b"<!doctype", b"<html")):
        return ": it is a web page, perhaps a failed download"
    if head.startswith(b"%pdf"):
        return ": it is a PDF document"
    return ""
