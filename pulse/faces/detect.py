"""Find faces and their 68 landmarks with dlib."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pulse.faces.models import LANDMARKS

if TYPE_CHECKING:
    import dlib

MAX_SIDE_PX = 3000  # a first pass over 3000 x 3000 px takes about 0.8 s on one core
MAX_RETRY_SIDE_PX = 6000  # a retry may see four times as many pixels, and no more
SAME_FACE_OVERLAP = 0.4  # two faces cheek to cheek overlap by less, two finds of one face by more

Box = tuple[float, float, float, float]
Array = NDArray[np.float64]

# dlib's detector keeps its image pyramid inside the object and lets go of Python's own lock while
# it runs, so threads that share it need this one; `detect_faces` is then safe in all of them.
_detector_lock = threading.Lock()


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Detection:
    """One face found in a picture.

    Positions are in pixels from the picture's top left corner, so the centre of the first pixel
    is (0.5, 0.5).

    Attributes:
        box: left, top, right, bottom; may reach beyond the picture.
        landmarks: (68, 2) x, y in the order of the iBUG 300-W marking (Sagonas et al. 2013).
        confidence: the detector's score; above 0, and about 0.5 to 3 for a clear frontal face.
    """

    box: Box
    landmarks: Array
    confidence: float

    @property
    def area_px(self) -> float:
        """Area of the box in square pixels."""
        return _area(self.box)


def detect_faces(image: Image.Image, *, max_upsample: int = 4) -> list[Detection]:
    """Find every face that looks at the camera, largest first.

    The detector sees faces of about 80 px and more. Where it finds none, the picture is enlarged
    by 2, then by 4, as far as `MAX_RETRY_SIDE_PX` allows. Larger pictures than `MAX_SIDE_PX` are
    shrunk for the first pass and retried at a larger scale in the same way. Landmarks are found
    at the scale at which the face was: dlib rounds them to whole pixels there, less than the
    landmark model's own error on a face of 80 px or more.

    Args:
        image: an upright picture in mode RGB.
        max_upsample: how often the first scale may be doubled in all, as a factor: 1, 2 or 4.

    Returns:
        The faces by falling area; equal areas from top to bottom, then from left to right.

    Raises:
        ValueError: for another mode than RGB.
        PulseError: if the landmark model is missing or altered.
    """
    if image.mode != "RGB":
        raise ValueError(f"got a picture in mode {image.mode}, expected RGB")
    for scale in _scales(max(image.size), max_upsample):
        found = _detect_at(image, scale)
        if found:
            return sorted(_without_repeats(found), key=_reading_order)
    return []


def _scales(side_px: int, max_upsample: int) -> list[float]:
    """The scales to try in turn for a picture whose longer side is given."""
    first = min(1.0, MAX_SIDE_PX / side_px)
    retries = [first * factor for factor in (2, 4) if factor <= max_upsample]
    return [first, *(scale for scale in retries if scale * side_px <= MAX_RETRY_SIDE_PX)]


def _detect_at(image: Image.Image, scale: float) -> list[Detection]:
    """Run the detector and the landmark model on a picture resized by a factor."""
    width, height = (max(1, round(side * scale)) for side in image.size)
    resized = image.resize((width, height), Image.Resampling.BICUBIC) if scale != 1 else image
    pixels = np.asarray(resized)
    with _detector_lock:
        boxes, scores, _ = _detector().run(pixels, 0, 0.0)
    to_px = np.array([image.width / width, image.height / height])
    return [
        _detection(_predictor()(pixels, box), score, to_px)
        for box, score in zip(boxes, scores, strict=True)
    ]


def _detection(shape: dlib.full_object_detection, confidence: float, to_px: Array) -> Detection:
    """Bring dlib's result back to the picture's own pixels."""
    rect = shape.rect
    # dlib counts the last row and column in
    corners = np.array([[rect.left(), rect.top()], [rect.right() + 1, rect.bottom() + 1]])
    (left, top), (right, bottom) = corners * to_px
    points = np.array([[point.x, point.y] for point in shape.parts()], dtype=np.float64)
    box = (float(left), float(top), float(right), float(bottom))
    return Detection(box, (points + 0.5) * to_px, float(confidence))


def _reading_order(detection: Detection) -> tuple[float, float, float]:
    """Sort key: largest first, then top to bottom, then left to right."""
    left, top, _, _ = detection.box
    return (-detection.area_px, top, left)


def _without_repeats(detections: list[Detection]) -> list[Detection]:
    """Keep the most confident of detections that cover the same face."""
    kept: list[Detection] = []
    for detection in sorted(detections, key=lambda d: (-d.confidence, *_reading_order(d))):
        if all(overlap(detection.box, other.box) < SAME_FACE_OVERLAP for other in kept):
            kept.append(detection)
    return kept


def overlap(a: Box, b: Box) -> float:
    """The common area of two boxes as a share of the smaller box."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0) / max(min(_area(a), _area(b)), 1e-9)


def _area(box: Box) -> float:
    left, top, right, bottom = box
    return max(right - left, 0.0) * max(bottom - top, 0.0)


@functools.cache
def _detector() -> dlib.fhog_object_detector:
    """The face detector, built once a process."""
    import dlib  # not at the top: `pulse --help` must not load it

    return dlib.get_frontal_face_detector()


@functools.cache
def _predictor() -> dlib.shape_predictor:
    """The landmark model, verified and read once a process; threads may share it."""
    import dlib

    return dlib.shape_predictor(str(LANDMARKS.checked_path()))
