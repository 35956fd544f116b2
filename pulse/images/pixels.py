"""The border between 8-bit values and numbers in [0, 1]."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pulse.images.read import Picture, to_srgb
from pulse.shapes import check_shape


def quantise(x: Tensor) -> Tensor:
    """What remains of pixels of any shape when they are saved: [0, 1] in steps of 1/255."""
    return x.clamp(0, 1).mul(255).round().div(255)


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
    """
    if isinstance(image, Image.Image):
        converted, notes = to_srgb(image)
        return Picture(converted, None, tuple(notes))
    if isinstance(image, Tensor):
        check_shape("image", image, 3, None, None)
        if not image.is_floating_point() or image.min() < 0 or image.max() > 1:
            raise ValueError(f"got a tensor of {image.dtype}, expected float in [0, 1]")
        return Picture(to_image(image), None, ())
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f"got an array {image.shape} of {image.dtype}, expected (H, W, 3) of uint8"
            )
        return Picture(Image.fromarray(image), None, ())
    raise ValueError(f"got {type(image).__name__}, expected a PIL image, an array or a tensor")
