"""From a picture to the low-resolution faces that the search is asked about."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from pulse.downscale import Downscale
from pulse.faces.align import AlignedFace, align_faces, center_square, quad_size_px
from pulse.faces.detect import detect_faces
from pulse.faces.enlarged import true_size_px
from pulse.images import Picture, to_tensor
from pulse.settings import FaceSettings, KernelName

LOW_RES_INPUT_PX = 64  # pictures up to this size are taken as aligned low-resolution faces
MIN_LOW_RES_PX = 8  # below this a face is a handful of colours
LEAST_FACTOR = 8  # for photographs: the search magnifies at least this much, as PULSE's examples do
ENLARGED_SHARE = 0.7  # a true size below this share of the size is worth a warning


@dataclass(frozen=True)
class Face:
    """One face, ready to be searched for.

    Attributes:
        low_res: (3, h, w) float in [0, 1].
        picture: content hash of the picture it is from.
        number: 1 for the largest face of the picture.
        count: faces of the picture that are searched for.
        aligned: the face at the generator's resolution where the picture is a photograph, else
            None.
        quad: corners of the face in the picture, (4, 2) x, y in px as in `faces.align`; None
            where the picture was taken as it is.
        notes: how the face came about, in words.
        warnings: what the user should know about it.
    """

    low_res: Tensor
    picture: str
    number: int
    count: int
    aligned: Image.Image | None
    quad: tuple[tuple[float, float], ...] | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def low_res_size(self) -> tuple[int, int]:
        """(h, w) of the low-resolution picture."""
        return self.low_res.shape[1], self.low_res.shape[2]


def prepare_faces(picture: Picture, resolution: int, settings: FaceSettings) -> list[Face]:
    """Find the faces of a picture and bring them to low resolution.

    Args:
        picture: upright RGB.
        resolution: pixels a side of what the generator draws.
        settings: see `FaceSettings`.

    Returns:
        The faces, largest first; none where the picture is a photograph in which no face is found.
    """
    image = picture.image
    true_px = true_size_px(image)
    if settings.align == "never" or (
        settings.align == "auto" and _is_low_resolution(image, true_px)
    ):
        return [_face_as_it_is(picture, true_px, resolution, settings)]
    detections = detect_faces(image)
    if settings.faces == "largest":
        detections = detections[:1]
    if detections:
        sharpness = true_px / max(image.size)
        return [
            _face_from_photograph(picture, face, sharpness, len(detections), settings)
            for face in align_faces(image, detections, resolution)
        ]
    if settings.align == "auto" and image.size == (resolution, resolution):
        return [_face_as_it_is(picture, true_px, resolution, settings)]
    return []


def _is_low_resolution(image: Image.Image, true_px: int) -> bool:
    """Whether the picture is small, or a small square picture enlarged."""
    is_square = image.width == image.height
    return max(image.size) <= LOW_RES_INPUT_PX or (is_square and true_px <= LOW_RES_INPUT_PX)


def _face_as_it_is(picture: Picture, true_px: int, resolution: int, settings: FaceSettings) -> Face:
    image = center_square(picture.image)
    notes = ["taken as an aligned face"]
    if image.size != picture.image.size:
        width, height = picture.image.size
        notes.append(f"the central square of {width}x{height} px was used")
    side = image.width
    true_px = min(round(true_px * side / max(picture.image.size)), side)
    is_photograph = true_px > LOW_RES_INPUT_PX
    if settings.low_res:
        size = settings.low_res
    elif is_photograph:
        size = _photograph_low_res(true_px, resolution)
    else:
        # a face as large as the generator's leaves nothing to imagine
        size = true_px if true_px <= resolution // 2 else resolution // LEAST_FACTOR
    return Face(
        low_res=reduce_square(image, size, settings.kernel),
        picture=picture.content_hash,
        number=1,
        count=1,
        aligned=image.resize((resolution, resolution), Image.Resampling.LANCZOS)
        if is_photograph
        else None,
        quad=None,
        notes=tuple(notes),
        warnings=_warn_if_enlarged(side, true_px, size),
    )


def _face_from_photograph(
    picture: Picture, face: AlignedFace, sharpness: float, count: int, settings: FaceSettings
) -> Face:
    resolution = face.image.width
    side_px = quad_size_px(face.quad)
    true_px = min(round(side_px * sharpness), resolution)
    size = settings.low_res or _photograph_low_res(true_px, resolution)
    return Face(
        low_res=reduce_square(face.image, size, settings.kernel),
        picture=picture.content_hash,
        number=face.face_index + 1,
        count=count,
        aligned=face.image,
        quad=tuple((float(x), float(y)) for x, y in face.quad),
        notes=(f"aligned by landmarks from {side_px:.0f} px, reduced to {size} px",),
        warnings=_warn_if_enlarged(round(side_px), round(side_px * sharpness), size),
    )


def _photograph_low_res(true_px: int, resolution: int) -> int:
    """The largest power of two that neither the face nor the generator is too small for."""
    most = max(min(true_px, resolution // LEAST_FACTOR), MIN_LOW_RES_PX)
    return 1 << (most.bit_length() - 1)


def reduce_square(image: Image.Image, size: int, kernel: KernelName) -> Tensor:
    """Bring a square picture to (3, size, size) float in [0, 1] with the operator of the search."""
    pixels = to_tensor(image)
    if image.size == (size, size):
        return pixels
    A = Downscale((image.height, image.width), (size, size), kernel)
    return A(pixels[None])[0].clamp(0, 1)  # bicubic overshoots at edges


def _warn_if_enlarged(side_px: int, true_px: int, size: int) -> tuple[str, ...]:
    if true_px >= ENLARGED_SHARE * side_px:
        return ()
    return (
        f"looks enlarged: {side_px} px a side, but about {true_px} px of detail; searched at "
        f"{size} px (--low-res sets another size)",
    )
