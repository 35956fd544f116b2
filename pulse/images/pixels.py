"""The border between 8-bit values and numbers in [0, 1]."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pulse.errors import PictureError
from pulse.images.read import DECODER_ERRORS, Picture, upright_srgb
from pulse.shapes import check_shape


def to_tensor(image: Image.Image) -> Tensor:
    """Turn an RGB picture into (3, H, W) float in [0, 1]."""
    if image.mode != "RGB":
        raise ValueError(f"got a picture in mode {image.mode}, expected RGB")
    pixels = torch.from_numpy(np.array(image))  # (H, W, 3)
    return pixels.permute(2, 0, 1).float().div(255)


def to_image(x: Tensor) -> Image.Image:
    """Turn (3, H, W) float, clamped to [0, 1], into an RGB picture of 8 bits."""
    check_shape("x", x, 3, None, None)
    pixels = x.detach().cpu().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def picture_from(image: Image.Image | np.ndarray | Tensor) -> Picture:
    """Take a picture from memory.

    Args:
        image: a PIL image of any mode, an array (H, W, 3) uint8, or a tensor (3, H, W) float in
            [0, 1].

    Raises:
        ValueError: for another type, shape or range.
        PictureError: for a PIL image of a damaged file.
    """
    if isinstance(image, Image.Image):
        return _picture_from_pil(image)
    if isinstance(image, Tensor):
        _check_tensor(image)
        return Picture(to_image(image), None, ())
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(
                f"got an array {image.shape} of {image.dtype}, expected (H, W, 3) of uint8"
            )
        return Picture(Image.fromarray(image), None, ())
    raise ValueError(f"got {type(image).__name__}, expected a PIL image, an array or a tensor")


def _picture_from_pil(image: Image.Image) -> Picture:
    """Upright sRGB, as from a file; an opened picture is decoded only here and may be damaged."""
    if 0 in image.size:
        raise ValueError(f"got a picture of {image.width} x {image.height}, expected some pixels")
    try:
        converted, notes = upright_srgb(image)
    except DECODER_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PictureError(
            f"the picture from memory is damaged or cut short ({reason}); read it again"
        ) from error
    return Picture(converted, None, notes)


def _check_tensor(image: Tensor) -> None:
    check_shape("image", image, 3, None, None)
    if not image.is_floating_point() or not image.numel():
        raise ValueError(
            f"got a tensor {tuple(image.shape)} of {image.dtype}, expected (3, H, W) of float"
        )
    low, high = image.min().item(), image.max().item()  # both are NaN if any value is
    if not (low >= 0 and high <= 1):
        raise ValueError(f"got values from {low:.4g} to {high:.4g}, expected [0, 1]")
