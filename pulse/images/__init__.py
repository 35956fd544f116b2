"""Pictures: the one place that knows picture files and 8-bit values."""

from __future__ import annotations

from pulse.files import printable_path
from pulse.images.origin import Origin
from pulse.images.pixels import picture_from, to_image, to_tensor
from pulse.images.read import PICTURE_SUFFIXES, Picture, read_picture
from pulse.images.write import read_origin, write_animation, write_picture

__all__ = [
    "PICTURE_SUFFIXES",
    "Origin",
    "Picture",
    "picture_from",
    "printable_path",
    "read_origin",
    "read_picture",
    "to_image",
    "to_tensor",
    "write_animation",
    "write_picture",
]
