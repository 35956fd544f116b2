"""Turn, crop and resize a face so that eyes and mouth lie where face generators expect them.

The alignment is that of the FFHQ data set (Karras et al. 2019, appendix A): a square around the
face, level with the eyes, borders mirrored and blurred where the square leaves the picture.

A quad is (4, 2) x, y in pixels from the picture's top left corner (the centre of the first pixel
is (0.5, 0.5)); its corners are top left, bottom left, bottom right, top right of the crop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pulse.faces.detect import Box, Detection

LEFT_EYE, RIGHT_EYE = slice(36, 42), slice(42, 48)  # as the viewer sees them
LEFT_MOUTH_CORNER, RIGHT_MOUTH_CORNER = 48, 54

SUPERSAMPLE = 4  # the turned picture is sampled this much finer than the crop, then reduced
FADE = 0.3  # width of the faded border, as a share of the quad's side
BLUR = 0.02  # sigma of the border's blur, as a share of the quad's side
MARGIN_PX = 2  # what bilinear sampling reads beyond the quad

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class AlignedFace:
    """A face cut out of a picture, with what is needed to put it back.

    Attributes:
        image: the square crop, RGB.
        quad: (4, 2) where the crop's corners lie in the picture.
        face_index: position among the picture's faces, 0 for the largest.
        box: the detector's left, top, right, bottom in the picture, pixels.
    """

    image: Image.Image
    quad: Array
    face_index: int
    box: Box


def align_faces(
    image: Image.Image, detections: Sequence[Detection], size: int
) -> list[AlignedFace]:
    """Cut out every detected face as a square of `size` pixels, in the order given."""
    quads = [quad_from_landmarks(detection.landmarks) for detection in detections]
    return [
        AlignedFace(crop_face(image, quad, size), quad, i, detection.box)
        for i, (quad, detection) in enumerate(zip(quads, detections, strict=True))
    ]


def quad_from_landmarks(landmarks: Array) -> Array:
    """The FFHQ square around a face, from eyes and mouth.

    Args:
        landmarks: (68, 2) x, y in pixels.

    Returns:
        quad (4, 2).

    Raises:
        ValueError: for another shape, or if the points do not span a face.
    """
    if landmarks.shape != (68, 2):
        raise ValueError(f"landmarks have shape {landmarks.shape}, expected (68, 2)")
    left_eye, right_eye = landmarks[LEFT_EYE].mean(0), landmarks[RIGHT_EYE].mean(0)
    eyes = (left_eye + right_eye) / 2
    mouth = (landmarks[LEFT_MOUTH_CORNER] + landmarks[RIGHT_MOUTH_CORNER]) / 2
    across, down = right_eye - left_eye, mouth - eyes
    # both directions together are steadier than the line of the eyes alone
    direction = across - _quarter_turn(down)
    length = np.hypot(*direction)
    if not length > 0:
        raise ValueError("the landmarks do not span a face: eyes and mouth coincide")
    half_side = max(2.0 * np.hypot(*across), 1.8 * np.hypot(*down))
    x = direction / length * half_side
    y = _quarter_turn(x)
    center = eyes + 0.1 * down
    return np.stack([center - x - y, center - x + y, center + x + y, center + x - y])


def _quarter_turn(vector: Array) -> Array:
    """Turn x, y by 90 degrees, from right to down (y grows downwards)."""
    return np.array([-vector[1], vector[0]])


def quad_size_px(quad: Array) -> float:
    """Length of the quad's longest side in pixels."""
    return float(np.hypot(*(quad - np.roll(quad, 1, axis=0)).T).max())


def crop_face(image: Image.Image, quad: Array, size: int) -> Image.Image:
    """Cut a quad out of a picture and bring it to a square.

    Args:
        image: RGB, any size.
        quad: (4, 2); may lie partly or entirely outside the picture.
        size: side of the result in pixels.

    Returns:
        RGB, `size` x `size`.

    Raises:
        ValueError: for another mode than RGB, a size below 1 or a quad without extent.
    """
    if image.mode != "RGB":
        raise ValueError(f"got a picture in mode {image.mode}, expected RGB")
    if size < 1:
        raise ValueError(f"got size {size}, expected 1 or more")
    if quad.shape != (4, 2) or not np.isfinite(quad).all() or quad_size_px(quad) == 0:
        raise ValueError(f"got quad {quad.tolist()}, expected (4, 2) finite and with extent")
    image, quad = _shrink(image, quad, SUPERSAMPLE * size)
    region, quad = _surroundings(image, quad)
    fine = (SUPERSAMPLE * size, SUPERSAMPLE * size)
    turned = region.transform(
        fine, Image.Transform.QUAD, quad.ravel().tolist(), Image.Resampling.BILINEAR
    )
    return turned.resize((size, size), Image.Resampling.LANCZOS)


def _shrink(image: Image.Image, quad: Array, side_px: int) -> tuple[Image.Image, Array]:
    """Reduce a picture until the quad is `side_px` at most, so that sampling misses nothing."""
    scale = min(1.0, side_px / quad_size_px(quad))
    width, height = (max(1, round(side * scale)) for side in image.size)
    if (width, height) == image.size:
        return image, quad
    scaled_quad = quad * [width / image.width, height / image.height]
    return image.resize((width, height), Image.Resampling.LANCZOS), scaled_quad


def _surroundings(image: Image.Image, quad: Array) -> tuple[Image.Image, Array]:
    """The upright rectangle around a quad, continued beyond the picture, and the quad within it."""
    start = np.floor(quad.min(0)).astype(int) - MARGIN_PX
    stop = np.ceil(quad.max(0)).astype(int) + MARGIN_PX
    columns, rows = (np.arange(a, b) for a, b in zip(start, stop, strict=True))
    pixels = np.asarray(image)
    region = pixels[_mirror(rows, image.height)[:, None], _mirror(columns, image.width)]
    leaves_picture = (quad < 0).any() or (quad > image.size).any()
    if leaves_picture:
        region = _soften_border(region, _depth(columns, rows, image.size, quad), quad_size_px(quad))
    return Image.fromarray(region), quad - start


def _mirror(index: NDArray[np.int_], size: int) -> NDArray[np.int_]:
    """Fold positions outside [0, size) back, mirrored about the outermost pixels' centres."""
    period = max(2 * (size - 1), 1)
    folded = index % period
    return np.minimum(folded, period - folded)


def _depth(
    columns: NDArray[np.int_], rows: NDArray[np.int_], size: tuple[int, int], quad: Array
) -> Array:
    """How far each pixel lies beyond the picture's edge: 0 at the edge, 1 where it is all faded.

    Negative inside. Only edges that the quad crosses count, so the others stay untouched.
    """
    least = FADE * quad_size_px(quad)
    depth = np.full((len(rows), len(columns)), -np.inf)
    for axis, index in ((0, columns[None, :] + 0.5), (1, rows[:, None] + 0.5)):
        before, after = -quad[:, axis].min(), quad[:, axis].max() - size[axis]
        if before > 0:
            depth = np.maximum(depth, -index / max(before, least))
        if after > 0:
            depth = np.maximum(depth, (index - size[axis]) / max(after, least))
    return depth


def _soften_border(region: NDArray[np.uint8], depth: Array, side_px: float) -> NDArray[np.uint8]:
    """Blur the mirrored border, from a little inside the edge, and fade it to the median colour."""
    blurred = Image.fromarray(region).filter(ImageFilter.GaussianBlur(BLUR * side_px))
    pixels = region.astype(np.float32)
    pixels += (np.asarray(blurred) - pixels) * _weight(3 * depth + 1)
    pixels += (np.median(region, axis=(0, 1)).astype(np.float32) - pixels) * _weight(depth)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _weight(depth: Array) -> NDArray[np.float32]:
    """A blending weight in [0, 1] for each pixel: (H, W, 1)."""
    return np.clip(depth, 0, 1).astype(np.float32)[:, :, None]


def center_square(image: Image.Image) -> Image.Image:
    """The largest square around the picture's centre, for faces that are aligned already."""
    (left, top), _, (right, bottom), _ = center_square_quad(image).astype(int).tolist()
    return image.crop((left, top, right, bottom))


def center_square_quad(image: Image.Image) -> Array:
    """The quad of `center_square`."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    corners = np.array([(0, 0), (0, side), (side, side), (side, 0)], np.float64)
    return corners + np.array([left, top])
