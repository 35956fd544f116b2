"""Which pictures are taken as they are, and how small a photograph's face is made."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pulse.faces.prepare import prepare_faces, reduce_square
from pulse.images import Picture, read_picture, to_tensor
from pulse.settings import FaceSettings

RESOLUTION = 128


@pytest.fixture(scope="module")
def scene(drawn_scene):
    return Image.open(drawn_scene).convert("RGB")


def noise_picture(width, height):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def prepare(image, **changes):
    return prepare_faces(Picture(image, None, ()), RESOLUTION, FaceSettings(**changes))


@pytest.mark.parametrize("size", [(16, 16), (64, 64), (40, 40)])
def test_small_pictures_are_taken_as_aligned_faces(size):
    image = noise_picture(*size)
    (face,) = prepare(image)
    assert torch.equal(face.low_res, to_tensor(image))
    assert face.notes == ("taken as an aligned face",)
    assert face.quad is None
    assert face.aligned is None


@pytest.mark.parametrize(("width", "height", "side"), [(32, 40, 32), (64, 48, 48)])
def test_a_small_oblong_picture_loses_its_ends_and_says_so(width, height, side):
    (face,) = prepare(noise_picture(width, height))
    assert face.low_res.shape == (3, side, side)
    assert face.notes[1] == f"the central square of {width}x{height} px was used"


def test_a_square_at_working_size_without_a_face_is_taken_as_aligned():
    (face,) = prepare(noise_picture(RESOLUTION, RESOLUTION))
    assert face.notes == ("taken as an aligned face",)
    assert face.low_res.shape == (3, 16, 16)


@pytest.mark.parametrize("align", ["auto", "always"])
def test_a_photograph_without_a_face_gives_none(align):
    assert prepare(noise_picture(300, 200), align=align) == []


def test_always_looks_for_a_face_even_in_small_pictures():
    assert prepare(noise_picture(16, 16), align="always") == []


def test_never_takes_the_picture_as_it_is(drawn_face):
    (face,) = prepare(drawn_face, align="never", low_res=32)
    want = reduce_square(drawn_face, 32, "bicubic")
    assert torch.equal(face.low_res, want)


def test_faces_of_a_photograph_come_largest_first(scene):
    faces = prepare(scene, align="always")
    assert [(face.number, face.count) for face in faces] == [(1, 2), (2, 2)]
    widths = [np.ptp(np.array(face.quad)[:, 0]) for face in faces]
    assert widths[0] > 1.2 * widths[1]
    for face in faces:
        assert face.aligned.size == (RESOLUTION, RESOLUTION)
        assert face.low_res.shape == (3, 16, 16)
        assert "aligned by landmarks" in face.notes[0]


def test_largest_leaves_the_others_out(scene):
    (face,) = prepare(scene, align="always", faces="largest")
    assert (face.number, face.count) == (1, 1)


def test_low_res_sets_the_size_of_a_photographs_face(scene):
    (face,) = prepare(scene, align="always", faces="largest", low_res=24)
    assert face.low_res.shape == (3, 24, 24)
    assert torch.equal(face.low_res, reduce_square(face.aligned, 24, "bicubic"))


@pytest.mark.parametrize("resample", [Image.Resampling.BICUBIC, Image.Resampling.NEAREST])
def test_an_enlarged_picture_is_searched_at_its_true_size_with_a_warning(low_res_folder, resample):
    """The viral demo compared a sharp face with a blurred one; this is that upload."""
    small = Image.open(low_res_folder / "imagined-03.png").convert("RGB")
    (face,) = prepare(small.resize((1024, 1024), resample))
    assert face.warnings[0].startswith("looks enlarged: 1024 px a side, but about ")
    assert "--low-res sets another size" in face.warnings[0]
    # the estimate is within 0.75 to 1.31 of the truth (see test_enlarged)
    assert 12 <= face.low_res.shape[-1] <= 21


def test_a_true_low_resolution_picture_is_not_warned_about(low_res_folder):
    for path in sorted(low_res_folder.glob("*.png")):
        (face,) = prepare_faces(read_picture(path), RESOLUTION, FaceSettings())
        assert face.warnings == ()
        assert face.low_res.shape == (3, 16, 16)


def test_the_same_pixels_have_the_same_identity(drawn_face):
    one, two = prepare(drawn_face, align="never"), prepare(drawn_face.copy(), align="never")
    assert one[0].picture == two[0].picture


def test_portraits_each_have_one_face(portraits):
    for path in portraits[:4]:
        (face,) = prepare_faces(read_picture(path), RESOLUTION, FaceSettings())
        assert face.low_res.shape == (3, 16, 16)
        assert face.warnings == ()
