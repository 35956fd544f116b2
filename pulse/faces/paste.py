"""Put faces back into their photograph: the inverse of `faces.align`, blended.

Four things betray a pasted face, and each has its remedy: a wrong place (the quad's inverse map),
an edge (a mask that fades before hair and ears), other colours (what the downscaled face lacks of
the low-resolution one is added, softly), and a face smoother than its surroundings (grain of the
photograph's own strength is added).

A quad is (4, 2) as in `faces.align`. Pictures are 8-bit RGB; arithmetic is in levels of 255.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

from pulse.downscale import Downscale
from pulse.errors import PictureError
from pulse.faces.align import Array, quad_size_px
from pulse.images.read import MAX_PIXELS
from pulse.settings import KernelName

ROUNDS = 2  # of colour correction; more would sharpen what the face does not have
# The mask in the crop, as shares of its side: an ellipse from brow to chin, which has faded to
# nothing before hair, ears and background, where the photograph knows better.
CENTER, RADII = (0.5, 0.54), (0.31, 0.42)
FEATHER = 0.42  # of the radius: where the mask falls from 1 to 0
GRAINS = 2  # sizes of grain: one pixel and two; what is coarser could be taken for texture
BLOCK_PX = 8  # noise is measured in blocks, and the calm ones count
CALM = 0.25  # the share of blocks that are calmer than the one that counts
LEAST_BLOCKS = 16  # fewer may all be hair or cloth, whose texture would pass for noise
CALM_STRENGTH = 0.87  # of even noise, what such a block shows of it
COARSE_STRENGTH = 0.6  # of grain that is enlarged smoothly, what is left of it at its own size
DARK, BRIGHT = 8, 247  # levels beyond which a camera clips its own noise

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Patch:
    """A face to paste.

    Attributes:
        image: (3, H, W) float in [0, 1], square: what the generator drew.
        low_res: (3, h, w) float in [0, 1]: what was searched for.
        kernel: of the downscale operator between them.
        quad: (4, 2) where its corners belong in the photograph, px.
        seed: of its grain; any whole number from 0.
    """

    image: Tensor
    low_res: Tensor
    kernel: KernelName
    quad: Array
    seed: int


def paste_faces(photograph: Image.Image, patches: Sequence[Patch], scale: float) -> Image.Image:
    """Paste faces into a photograph.

    Args:
        photograph: RGB; it is not changed.
        patches: the faces, in any order; parts outside the photograph are left out.
        scale: size of the result, as a multiple of the photograph's.

    Returns:
        RGB.

    Raises:
        PictureError: if the result would have too many pixels.
        ValueError: for another mode.
    """
    if photograph.mode != "RGB":
        raise ValueError(f"got a picture in mode {photograph.mode}, expected RGB")
    width, height = (max(1, round(side * scale)) for side in photograph.size)
    if width * height > MAX_PIXELS:
        raise PictureError(
            f"a scale of {scale:g} makes {width} x {height} pixels, more than {MAX_PIXELS:,}; "
            "choose a smaller --scale"
        )
    canvas = photograph.resize((width, height), Image.Resampling.BICUBIC)
    for patch in patches:
        _paste(canvas, photograph, patch)
    return canvas


def _paste(canvas: Image.Image, photograph: Image.Image, patch: Patch) -> None:
    """Paste one face into a canvas, which may be larger than the photograph."""
    zoom = np.array(canvas.size) / photograph.size
    place = _box(patch.quad * zoom, canvas.size)
    if place is None:
        return
    face = match_colours(patch.image, patch.low_res, patch.kernel)
    below = np.asarray(canvas.crop(place), np.float32)  # (H, W, 3)
    above = _unfold(face, patch.quad * zoom, place)
    above += _grain(photograph, face, patch, place, zoom)
    weight = mask_of(*_in_crop(patch.quad * zoom, place))[:, :, None]
    blended = below + weight * (above - below)
    levels = np.clip(np.rint(blended), 0, 255).astype(np.uint8)
    canvas.paste(Image.fromarray(levels), place[:2])


def match_colours(image: Tensor, low_res: Tensor, kernel: KernelName) -> Tensor:
    """Add to a face what its downscaled picture lacks of the low-resolution one.

    Args:
        image: (3, H, W) float in [0, 1].
        low_res: (3, h, w) float in [0, 1].
        kernel: of the operator.

    Returns:
        (3, H, W) in [0, 1], with the colours of the low-resolution face at its coarser scales.
    """
    size = (image.shape[1], image.shape[2])
    A = Downscale(size, (low_res.shape[1], low_res.shape[2]), kernel)
    x = image[None]
    for _ in range(ROUNDS):
        missing = _soft(low_res[None] - A(x))
        x = x + interpolate(missing, size=size, mode="bicubic", align_corners=False)
    return x[0].clamp(0, 1)


def _soft(x: Tensor) -> Tensor:
    """Blur (1, C, h, w) by a binomial of three pixels each way."""
    x = pad(x, (1, 1, 1, 1), mode="replicate")
    x = (x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]) / 4
    return (x[..., :-2, :] + 2 * x[..., 1:-1, :] + x[..., 2:, :]) / 4


def mask_of(u: Floats, v: Floats) -> Floats:
    """How much of the face shows, from 0 to 1, at places of the crop from 0 to 1."""
    radius = np.hypot((u - CENTER[0]) / RADII[0], (v - CENTER[1]) / RADII[1])
    t = np.clip((1 - radius) / FEATHER, 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)  # smooth at both ends


def _box(quad: Array, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom of the pixels that a quad covers; None where it covers none."""
    left, top = np.maximum(np.floor(quad.min(0)), 0).astype(int)
    right, bottom = np.minimum(np.ceil(quad.max(0)), size).astype(int)
    return (int(left), int(top), int(right), int(bottom)) if left < right and top < bottom else None


def _from_picture(quad: Array) -> tuple[Array, Array]:
    """The map from pixels to places in the crop, p -> matrix @ p + offset, from 0 to 1."""
    across, down = quad[3] - quad[0], quad[1] - quad[0]
    matrix = np.linalg.inv(np.stack([across, down], axis=1))
    return matrix, -matrix @ quad[0]


def _in_crop(quad: Array, box: tuple[int, int, int, int]) -> tuple[Floats, Floats]:
    """Where the pixels of a box lie in the crop: u to the right and v down, (H, W) each."""
    left, top, right, bottom = box
    matrix, offset = _from_picture(quad)
    x = np.arange(left, right, dtype=np.float32)[None, :] + 0.5
    y = np.arange(top, bottom, dtype=np.float32)[:, None] + 0.5
    (a, b), (c, d) = matrix.astype(np.float32)
    e, f = offset.astype(np.float32)
    return a * x + b * y + e, c * x + d * y + f


def _unfold(face: Tensor, quad: Array, box: tuple[int, int, int, int]) -> Floats:
    """The face (3, H, W) in [0, 1] as it lies in the picture's box: (H, W, 3) levels."""
    side = min(face.shape[2], max(1, round(quad_size_px(quad))))
    left, top, right, bottom = box
    matrix, offset = _from_picture(quad)
    offset = offset + matrix @ [left, top]
    rows = (np.column_stack([matrix, offset]) * side).ravel().tolist()
    channels = []
    for channel in face.mul(255).numpy():
        plane = Image.fromarray(channel)  # of 32 bits: of 8, Pillow's transform rounds down
        if side < face.shape[2]:  # first, so that sampling misses nothing
            plane = plane.resize((side, side), Image.Resampling.LANCZOS)
        size, affine = (right - left, bottom - top), Image.Transform.AFFINE
        channels.append(plane.transform(size, affine, rows, Image.Resampling.BICUBIC))
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


def _grain(
    photograph: Image.Image, face: Tensor, patch: Patch,
    place: tuple[int, int, int, int], zoom: Array,
) -> Floats:  # fmt: skip
    """Noise that lifts the face's to that of its surroundings: (H, W, 3) levels, mean 0.

    It is made at the photograph's size and enlarged with it, so that its grain is as coarse.
    """
    width, height = place[2] - place[0], place[3] - place[1]
    box = _box(patch.quad, photograph.size)
    assert box is not None  # what covers pixels of the canvas covers some of the photograph
    around = np.asarray(photograph.crop(box), np.float32)
    inside = mask_of(*_in_crop(patch.quad, box))
    lacking = _lacking(_unfold(face, patch.quad, box), around, inside)  # (GRAINS, 3)
    rng = np.random.default_rng(patch.seed)
    size = (box[2] - box[0], box[3] - box[1])
    start, stop = (np.array(end) / zoom - box[:2] for end in (place[:2], place[2:]))
    region = (*np.clip(start, 0, size).tolist(), *np.clip(stop, 0, size).tolist())
    grain = np.zeros((height, width, 3), np.float32)
    for i in range(GRAINS):
        # a developed picture's noise is mostly one of brightness: one field for all colours
        coarse = [-(-side // 2**i) for side in reversed(size)]
        field = Image.fromarray(rng.standard_normal(coarse, np.float32))
        part = tuple(side / 2**i for side in region)
        enlarged = field.resize((width, height), Image.Resampling.BICUBIC, part)
        grain += np.asarray(enlarged)[:, :, None] * lacking[i].astype(np.float32)
    return grain


def _lacking(face: Floats, around: Floats, inside: Floats) -> Array:
    """Standard deviations (GRAINS, 3) of the noise that a face lacks, from fine to coarse.

    Each is measured where the finer ones, averaged over pixels, are only a part of it.
    """
    lacking = np.zeros((GRAINS, 3))
    finer = np.zeros(3)  # variance
    for i in range(GRAINS):
        have = noise_of(face, inside > 0.5)
        want = noise_of(around, inside < 0.1, LEAST_BLOCKS)
        variance = np.maximum(want**2 - have**2, 0)
        lacking[i] = np.sqrt(np.maximum(variance - finer, 0)) / (COARSE_STRENGTH if i else 1)
        finer = np.maximum(variance, finer) / 4  # of the mean of four pixels
        face, around = _halved(face), _halved(around)
        inside = _halved(inside[:, :, None])[:, :, 0]
    return lacking


def _halved(x: Floats) -> Floats:
    """Means of two by two pixels; an odd row or column is left out."""
    height, width = x.shape[0] // 2, x.shape[1] // 2
    blocks = x[: 2 * height, : 2 * width].reshape(height, 2, width, 2, -1)
    return np.asarray(blocks.mean(axis=(1, 3)), np.float32)


def noise_of(pixels: Floats, where: NDArray[np.bool_], least_blocks: int = 1) -> Array:
    """The standard deviation of a picture's noise in its calm parts.

    Args:
        pixels: (H, W, 3) levels.
        where: (H, W) the pixels to look at.
        least_blocks: how many whole blocks there must be to look at, from 1.

    Returns:
        (3,) levels; 0 where there is too little to look at.
    """
    # a mask that no plane and no straight ramp passes; white noise comes out six times as strong
    ramp = pixels[:-2] - 2 * pixels[1:-1] + pixels[2:]
    rough = (ramp[:, :-2] - 2 * ramp[:, 1:-1] + ramp[:, 2:]) / 6  # (H - 2, W - 2, 3)
    clipped = ((pixels < DARK) | (pixels > BRIGHT)).any(axis=2)
    usable = (where & ~clipped)[1:-1, 1:-1]
    rows, columns = (max(side, 0) // BLOCK_PX for side in usable.shape)
    if not rows or not columns:
        return np.zeros(3)

    def blocks(x: NDArray[np.generic]) -> NDArray[np.generic]:
        cut = x[: rows * BLOCK_PX, : columns * BLOCK_PX]
        return cut.reshape(rows, BLOCK_PX, columns, BLOCK_PX, -1)

    whole = blocks(usable).all(axis=(1, 3, 4))  # (rows, columns)
    strength = np.sqrt(np.mean(np.square(blocks(rough), dtype=np.float64), axis=(1, 3)))
    # a block without any noise was painted or clipped: it tells nothing of the camera
    calm = strength[whole & (strength > 0).all(axis=2)]  # (blocks, 3)
    if len(calm) < least_blocks:
        return np.zeros(3)
    return np.asarray(np.quantile(calm, CALM, axis=0) / CALM_STRENGTH)
