"""How alike two faces are, as dlib's face recognition sees them.

Used to measure likeness between a photograph and what was imagined from it, over groups of people.
It is no tool to find out who somebody is, and PULSE offers none.
"""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pulse.faces.models import EMBEDDING

if TYPE_CHECKING:
    import dlib

Array = NDArray[np.float64]

SAME_PERSON = 0.6  # dlib takes faces that are nearer than this for one person
CHIP_PX, CHIP_PADDING = 150, 0.25  # what the network was trained on

_lock = threading.Lock()  # the network keeps its activations inside the object


def face_embedding(image: Image.Image, landmarks: Array) -> Array:
    """128 numbers for a face; the Euclidean distance of two tells how alike they are.

    Args:
        image: RGB.
        landmarks: (68, 2) x, y in px of it.

    Returns:
        (128,), of length about 1.

    Raises:
        PulseError: if the model is missing or altered.
    """
    import dlib

    points = [dlib.point(round(x - 0.5), round(y - 0.5)) for x, y in landmarks]
    shape = dlib.full_object_detection(dlib.rectangle(0, 0, image.width, image.height), points)
    chip = dlib.get_face_chip(np.asarray(image), shape, CHIP_PX, CHIP_PADDING)
    with _lock:
        return np.array(_network().compute_face_descriptor(chip))


@functools.cache
def _network() -> dlib.face_recognition_model_v1:
    """The model, verified and read once a process."""
    import dlib

    return dlib.face_recognition_model_v1(str(EMBEDDING.checked_path()))
