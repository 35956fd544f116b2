"""Read a picture file, whatever its format, to upright 8-bit sRGB."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageChops, ImageCms, ImageOps, UnidentifiedImageError

from pulse.errors import PictureError
from pulse.files import printable_path

HEIF_SUFFIXES = (".heic", ".heif")
PICTURE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", *HEIF_SUFFIXES,
)  # fmt: skip
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF")  # JPEG opens MPO as well
HEIF_BRANDS = (
    b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1",
)  # fmt: skip
MAX_PIXELS = 178_956_970  # where Pillow itself refuses: 537 MB as RGB, more than a camera takes
MAX_BYTES = 2**31  # that many pixels, four channels of 16 bits, not compressed, and some room
SRGB_TOLERANCE = 2  # levels of 255; sRGB profiles of different makers differ by as much
WHITE = (255, 255, 255)

# The starts of files that are often taken for pictures.
STRANGERS = (
    (b"<!doctype", "a web page, perhaps a failed download"),
    (b"<html", "a web page, perhaps a failed download"),
    (b"%pdf", "a PDF document"),
    (b"gif8", "a GIF"),
    (b"version https://git-lfs", "the placeholder of a Git LFS file that was not fetched"),
)

# What Pillow's decoders raise on damaged files; one list, so that nothing else is swallowed.
DECODER_ERRORS = (
    OSError, EOFError, SyntaxError, ValueError, TypeError, AttributeError, LookupError,
    ArithmeticError, RuntimeError, AssertionError, struct.error, zlib.error,
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
        max_pixels: the largest picture that is decoded, MAX_PIXELS at most.

    Raises:
        PictureError: one line that says what, which file, why and what to do.
    """
    with open_picture(path, max_pixels) as image:
        frame_notes = _frame_notes(image, path)
        rgb, notes = upright_srgb(image, background)
    return Picture(rgb, path, (*frame_notes, *notes))


@contextmanager
def open_picture(path: Path, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open a picture file; what its decoder raises inside the block becomes a PictureError.

    Raises:
        PictureError: one line that says what, which file, why and what to do.
    """
    name = printable_path(path)
    data = _read_regular_file(path, name)
    formats = _formats(data, name)
    limit = min(max_pixels, MAX_PIXELS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata; the pixels decide
            with Image.open(io.BytesIO(data), formats=formats) as image:
                _check_size(image, name, limit)
                yield image
    except UnidentifiedImageError as error:
        raise PictureError(
            f"{name} is not a picture that PULSE can read{_guess(data)}; "
            "give PNG, JPEG, WebP, BMP, TIFF or HEIC"
        ) from error
    except Image.DecompressionBombError as error:
        raise PictureError(
            f"{name} claims more than {limit:,} pixels; crop or reduce it if it is real"
        ) from error
    except MemoryError as error:
        raise PictureError(
            f"{name} needs more memory than there is; crop or reduce it, or free memory"
        ) from error
    except DECODER_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PictureError(
            f"{name} is damaged or cut short ({reason}); copy or download it again"
        ) from error


def upright_srgb(
    image: Image.Image, background: tuple[int, int, int] = WHITE
) -> tuple[Image.Image, tuple[str, ...]]:
    """Turn an opened picture of any mode into upright 8-bit sRGB, and say what was converted.

    The result carries pixels only: no profile, place, comment or other information.
    """
    notes: list[str] = []
    profile = image.info.get("icc_profile")
    inverted = image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info
    image = _upright(image, notes)
    if inverted:  # Pillow takes every such file for one of Adobe's, which store white as 255
        image = ImageChops.invert(image)
    if image.mode.startswith(("I", "F")):
        image = _to_8_bits(image)
        notes.append("reduced to 8 bits")
    if image.has_transparency_data:
        image = _over_background(image, background, profile, notes)
    elif profile:
        image = _through_profile(image, profile, notes)
    if image.mode not in ("RGB", "L", "P", "1"):
        notes.append(f"{image.mode} converted")
    rgb = image.convert("RGB")
    rgb.info.clear()
    return rgb, tuple(notes)


def _read_regular_file(path: Path, name: str) -> bytes:
    """All bytes of a file; a folder, a pipe or a device is refused without being opened."""
    try:
        problem = _problem_of(path, path.stat())
        data = b"" if problem else path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise PictureError(f"cannot read {name}: {_reason(path, error)}") from error
    if problem:
        raise PictureError(f"{name} {problem}")
    return data


def _problem_of(path: Path, status: os.stat_result) -> str | None:
    """Why a file cannot be a picture, by its kind and size."""
    if stat.S_ISDIR(status.st_mode):
        try:
            os.scandir(path).close()
        except OSError as error:
            return f"is a folder that cannot be listed: {error.strerror}; ask its owner"
        return "is a folder where a picture is expected; rename or move it"
    if not stat.S_ISREG(status.st_mode):
        return "is a pipe or a device where a picture is expected; save it as a file first"
    if status.st_size == 0:
        return "is empty: 0 bytes; copy or download it again"
    if status.st_size > MAX_BYTES:
        return f"has {status.st_size:,} bytes, too many for a picture; crop or reduce it"
    return None


def _reason(path: Path, error: OSError | ValueError) -> str:
    """Why a file could not be read, and what to do."""
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return "it is a link to a file that is not there; mend or remove the link"
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return "it is a link that leads back to itself; remove the link"
    if isinstance(error, PermissionError):
        return f"{error.strerror}; ask its owner for the right to read it"
    if isinstance(error, OSError):
        return f"{error.strerror or error}; check the path"
    return f"{error}; check the path"


def _formats(data: bytes, name: str) -> tuple[str, ...]:
    """Formats to try; HEIC comes with an extra package, which is asked for only when needed."""
    if data[4:8] != b"ftyp" or data[8:12] not in HEIF_BRANDS:
        return FORMATS
    if find_spec("pillow_heif") is None:
        raise PictureError(f"{name} is a HEIC picture; pip install 'pulse[heic]' to read it")
    import_module("pillow_heif").register_heif_opener()
    return ("HEIF",)


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    """Refuse a picture by its header, before memory is taken for its pixels."""
    width, height = image.size
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
    expected = Image.registered_extensions().get(path.suffix.lower())
    found = "JPEG" if image.format == "MPO" else image.format
    if expected is not None and expected != found:
        notes.append(f"a {found} file under the suffix {path.suffix}")
    return notes


def _upright(image: Image.Image, notes: list[str]) -> Image.Image:
    """Apply the EXIF orientation; damaged EXIF data say nothing about it."""
    try:
        # Read before the pixels are: Pillow turns a TIFF, and forgets the orientation, on loading.
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except DECODER_ERRORS:
        orientation = 1
        notes.append("EXIF data damaged, orientation unknown")
    image.load()
    if orientation not in range(2, 9):
        return image
    notes.append(f"EXIF orientation {orientation} applied")
    return ImageOps.exif_transpose(image)


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Scale deep greys to 8 bits: 16 bits by their range, others by the first range that fits.

    Whole numbers of mode I fit 255, 65535 or their own largest; floats fit 1 or their own largest.
    """
    values = np.asarray(image).astype(np.float32)  # (H, W)
    values[np.isnan(values)] = 0
    largest = float(values.max(where=np.isfinite(values), initial=0))
    ranges = {"F": (1.0,), "I": (255.0, 65535.0)}.get(image.mode, (65535.0,))
    top = next((top for top in ranges if largest <= top), largest)
    return Image.fromarray(np.rint(values.clip(0, top) * (255 / top)).astype(np.uint8))


def _over_background(
    image: Image.Image, background: tuple[int, int, int], profile: bytes | None, notes: list[str]
) -> Image.Image:
    if image.mode == "La":  # Pillow takes the colours out of the alpha in one way only
        image = image.convert("LA")
    rgba = image.convert("RGBA")
    alpha = rgba.getchannel("A")
    # A grey picture stays grey until its profile, which is one for greys, has been applied.
    colours = image.convert("L") if image.mode in ("L", "LA") else rgba.convert("RGB")
    if profile:
        colours = _through_profile(colours, profile, notes)
    if alpha.getextrema() != (255, 255):
        red, green, blue = background
        notes.append(f"transparency laid over rgb({red}, {green}, {blue})")
    below = Image.new("RGB", image.size, background)
    return Image.composite(colours.convert("RGB"), below, alpha)


def _through_profile(image: Image.Image, profile: bytes, notes: list[str]) -> Image.Image:
    """Bring colours to sRGB through the embedded profile; a bad profile is passed over."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() == "RGB" and image.mode in ("1", "L", "P"):
            image = image.convert("RGB")
        target = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(source, target, image.mode, "RGB")
        if image.mode == "RGB" and _keeps_colours(transform):
            return image
        converted = ImageCms.applyTransform(image, transform)
        description = " ".join(ImageCms.getProfileDescription(source).split())
    except (ImageCms.PyCMSError, *DECODER_ERRORS):
        notes.append("colour profile damaged or of another kind, passed over")
        return image
    notes.append(f"colours converted from the profile '{description}'")
    return converted or image


def _keeps_colours(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether a profile is sRGB by what it does to colours; names of profiles mislead."""
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)  # (1, 729, 3)
    converted = ImageCms.applyTransform(Image.fromarray(cube), transform)
    difference = np.asarray(converted).astype(int) - cube
    return bool(np.abs(difference).max() <= SRGB_TOLERANCE)


def _guess(data: bytes) -> str:
    """What a file that is no picture may be, for the message."""
    head = data[:512].lstrip().lower()
    return next((f": it is {kind}" for start, kind in STRANGERS if head.startswith(start)), "")
