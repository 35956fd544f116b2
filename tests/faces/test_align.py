"""FFHQ alignment: the quad by hand, the crop against known pictures, every odd position."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pulse.faces.align import (
    align_faces,
    center_square,
    crop_face,
    quad_from_landmarks,
    quad_size_px,
)
from pulse.faces.detect import Detection

EYES = {"left": (40.0, 50.0), "right": (80.0, 50.0)}


def landmarks_at(left_eye, right_eye, mouth_left, mouth_right):
    """68 points of which only those that the alignment reads are set."""
    landmarks = np.zeros((68, 2))
    landmarks[36:42], landmarks[42:48] = left_eye, right_eye
    landmarks[48], landmarks[54] = mouth_left, mouth_right
    return landmarks


def symmetric_landmarks():
    return landmarks_at(EYES["left"], EYES["right"], (50.0, 90.0), (70.0, 90.0))


def quad_of(left, top, right, bottom):
    return np.array([[left, top], [left, bottom], [right, bottom], [right, top]], dtype=float)


def turned(points, degrees, center):
    """Points turned clockwise as seen on the screen (y grows downwards)."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return (points - center) @ np.array([[c, s], [-s, c]]) + center


def smooth_picture(width, height):
    """A picture of slow waves, different in each channel, which resampling hardly changes."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 23 + c) * np.cos(y / 31 - c) for c in range(3)]
    return Image.fromarray(np.uint8(127.5 + 100 * np.stack(waves, axis=-1)))


def difference(a, b):
    return np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float))


def test_quad_of_a_symmetric_face_by_hand():
    # eyes 40 apart, 40 above the mouth: half side = max(2 * 40, 1.8 * 40) = 80;
    # centre = (60, 50) + 0.1 * (0, 40) = (60, 54)
    quad = quad_from_landmarks(symmetric_landmarks())
    np.testing.assert_allclose(quad, quad_of(-20, -26, 140, 134))
    assert quad_size_px(quad) == pytest.approx(160)


def test_long_faces_are_measured_from_eyes_to_mouth():
    # mouth 60 below the eyes: half side = max(80, 1.8 * 60) = 108, centre (60, 56)
    landmarks = landmarks_at(EYES["left"], EYES["right"], (50.0, 110.0), (70.0, 110.0))
    np.testing.assert_allclose(quad_from_landmarks(landmarks), quad_of(-48, -52, 168, 164))


@pytest.mark.parametrize("degrees", [-50, 20, 90, 180])
def test_quad_turns_with_the_face(degrees):
    center = np.array([60.0, 60.0])
    straight = quad_from_landmarks(symmetric_landmarks())
    tilted = quad_from_landmarks(turned(symmetric_landmarks(), degrees, center))
    np.testing.assert_allclose(tilted, turned(straight, degrees, center), atol=1e-9)


def test_landmarks_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"landmarks have shape \(5, 2\), expected \(68, 2\)"):
        quad_from_landmarks(np.zeros((5, 2)))


def test_landmarks_in_one_point_are_refused():
    with pytest.raises(ValueError, match="do not span a face: eyes and mouth coincide"):
        quad_from_landmarks(np.ones((68, 2)))


@pytest.mark.parametrize("size", [32, 128, 400])
def test_crop_of_an_upright_quad_is_a_plain_resize(size):
    image = smooth_picture(300, 260)
    crop = crop_face(image, quad_of(40, 30, 240, 230), size)
    plain = image.resize((size, size), Image.Resampling.LANCZOS, box=(40, 30, 240, 230))
    # bilinear sampling first and then Lanczos: on slow waves the two differ by rounding, and at
    # the rim, where `resize` stops reading at the box, by a little more
    assert difference(crop, plain).mean() < 0.6
    assert difference(crop, plain).max() <= 4


def test_crop_of_the_whole_picture_keeps_detail():
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    crop = crop_face(Image.fromarray(noise), quad_of(0, 0, 64, 64), 64)
    # white noise is the worst case: bilinear sampling softens it to 0.93; a shift of a quarter
    # pixel would bring it to 0.81
    assert np.corrcoef(np.asarray(crop).ravel(), noise.ravel())[0, 1] > 0.9


def test_large_quads_are_averaged_not_picked():
    checkerboard = np.indices((1024, 1024)).sum(0) % 2 * 255
    image = Image.fromarray(np.uint8(checkerboard)).convert("RGB")
    crop = crop_face(image, quad_of(1, 1, 1023, 1023), 16)
    # a fine checkerboard has the mean 127.5 everywhere; picked pixels would be black or white
    assert difference(crop, 127.5).max() < 3


@pytest.mark.parametrize("degrees", [0, 15, -70, 180])
def test_dots_come_out_at_their_places(degrees):
    size, center = 128, np.array([200.0, 150.0])
    quad = turned(quad_of(120, 70, 280, 230), degrees, center)
    places = np.array([[32.0, 40.0], [96.0, 40.0], [64.0, 100.0]])  # in the crop
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    image = Image.new("RGB", (400, 300))
    across, down = (quad[3] - quad[0]) / size, (quad[1] - quad[0]) / size
    for (x, y), colour in zip(places, colours, strict=True):
        ImageDraw.Draw(image).circle(tuple(quad[0] + x * across + y * down - 0.5), 4, colour)
    pixels = np.asarray(crop_face(image, quad, size), dtype=float)
    columns, rows = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    for channel, (x, y) in enumerate(places):
        weight = pixels[:, :, channel]
        found = (weight * columns).sum() / weight.sum(), (weight * rows).sum() / weight.sum()
        # a drawn disc's centre is rounded to whole pixels, 0.8 px in the crop
        np.testing.assert_allclose(found, (x, y), atol=1.0)


def test_inside_the_picture_nothing_is_softened():
    image = smooth_picture(300, 300)
    quad = quad_of(-60, 20, 140, 220)  # leaves at the left only
    crop = np.asarray(crop_face(image, quad, 200))
    # column 60 is the picture's edge; the blur starts a tenth of the quad's side inside it
    inside = np.asarray(image)[20:220, 30:140]
    assert difference(crop[:, 90:], inside)[4:-4].max() <= 2


def test_beyond_the_edge_the_picture_is_mirrored_and_fades():
    image = Image.new("RGB", (300, 300), (60, 60, 60))
    ImageDraw.Draw(image).rectangle((0, 0, 24, 299), fill=(200, 200, 200))
    crop = np.asarray(crop_face(image, quad_of(-100, 50, 100, 250), 200), dtype=float)[:, :, 0]
    assert crop[:, 112].mean() > 180  # the bright strip inside
    assert 130 < crop[:, 90].mean() < 200  # its mirror image, fading
    assert crop[:, 2].mean() == pytest.approx(60, abs=6)  # the median colour at the far end


@pytest.mark.parametrize("size", [1, 16, 33])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (2, 3), (50, 50)])
@pytest.mark.parametrize("shift", [0.0, 30.0, -5000.0])
def test_any_picture_and_any_place_give_a_crop(size, shape, shift):
    image = Image.new("RGB", shape, (10, 120, 250))
    quad = turned(quad_of(3, 3, 43, 43), 25, np.array([20.0, 20.0])) + shift
    crop = crop_face(image, quad, size)
    assert (crop.mode, crop.size) == ("RGB", (size, size))
    # one colour stays that colour wherever the quad lies; Lanczos may round by one
    assert difference(crop, np.array([10, 120, 250])).max() <= 1


def test_other_modes_are_refused():
    with pytest.raises(ValueError, match="got a picture in mode L, expected RGB"):
        crop_face(Image.new("L", (8, 8)), quad_of(0, 0, 8, 8), 8)


def test_sizes_below_one_are_refused():
    with pytest.raises(ValueError, match="got size 0, expected 1 or more"):
        crop_face(Image.new("RGB", (8, 8)), quad_of(0, 0, 8, 8), 0)


@pytest.mark.parametrize(
    "quad", [np.zeros((4, 2)), np.full((4, 2), np.nan), np.zeros((3, 2))], ids=str
)
def test_quads_without_extent_are_refused(quad):
    with pytest.raises(ValueError, match=r"expected \(4, 2\) finite and with extent"):
        crop_face(Image.new("RGB", (8, 8)), quad, 8)


def test_align_faces_keeps_the_geometry():
    boxes = [(10.0, 20.0, 90.0, 110.0), (100.0, 20.0, 180.0, 110.0)]
    found = [Detection(box, symmetric_landmarks() + 90.0 * i, 1.0) for i, box in enumerate(boxes)]
    faces = align_faces(smooth_picture(240, 160), found, 32)
    assert [face.face_index for face in faces] == [0, 1]
    assert [face.box for face in faces] == boxes
    assert all(face.image.size == (32, 32) for face in faces)
    np.testing.assert_allclose(faces[1].quad, faces[0].quad + 90.0)


@pytest.mark.parametrize(
    ("size", "box"), [((30, 20), (5, 0, 25, 20)), ((7, 12), (0, 2, 7, 9)), ((9, 9), (0, 0, 9, 9))]
)
def test_center_square(size, box):
    image = smooth_picture(*size)
    square = center_square(image)
    assert square.size == (min(size), min(size))
    np.testing.assert_array_equal(np.asarray(square), np.asarray(image.crop(box)))
