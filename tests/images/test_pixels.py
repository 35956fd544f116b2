from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from pulse.errors import PictureError
from pulse.images import picture_from, to_image, to_tensor

ALL_VALUES = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)


def test_every_value_survives_the_way_there_and_back():
    x = to_tensor(Image.fromarray(ALL_VALUES))
    assert x.shape == (3, 16, 16)
    assert x.dtype == torch.float32
    assert torch.equal(x[0].flatten(), torch.arange(256) / 255)
    assert np.array_equal(np.asarray(to_image(x)), ALL_VALUES)


def test_channels_rows_and_columns_keep_their_places():
    pixels = np.arange(30, dtype=np.uint8).reshape(2, 5, 3)
    x = to_tensor(Image.fromarray(pixels))
    assert x.shape == (3, 2, 5)
    assert x[2, 1, 3] == pixels[1, 3, 2] / np.float32(255)
    assert np.array_equal(np.asarray(to_image(x)), pixels)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (-3.0, 0),
        (0.0, 0),
        (0.49 / 255, 0),
        (0.51 / 255, 1),
        (0.5, 128),
        (254.51 / 255, 255),
        (9.0, 255),
    ],
)
def test_values_are_rounded_and_clamped(value, expected):
    x = torch.full((3, 1, 1), value)
    assert np.asarray(to_image(x)).tolist() == [[[expected] * 3]]


def test_to_image_takes_what_a_search_returns():
    x = torch.rand(3, 4, 4, dtype=torch.float16).requires_grad_()
    assert to_image(x).size == (4, 4)


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_to_tensor_takes_rgb_only(mode):
    with pytest.raises(ValueError, match=f"^got a picture in mode {mode}, expected RGB$"):
        to_tensor(Image.new(mode, (2, 2)))


@pytest.mark.parametrize("shape", [(1, 4, 4), (4, 4), (1, 3, 4, 4)])
def test_to_image_takes_one_picture_of_three_colours(shape):
    with pytest.raises(ValueError, match=r"x has shape .*, expected \(3, any, any\)"):
        to_image(torch.zeros(shape))


def pictures_of_all_values():
    return [
        Image.fromarray(ALL_VALUES),
        ALL_VALUES,
        ALL_VALUES[::-1, ::-1][::-1, ::-1],
        torch.from_numpy(ALL_VALUES).permute(2, 0, 1) / 255,
        (torch.from_numpy(ALL_VALUES).permute(2, 0, 1) / 255).double(),
    ]


@pytest.mark.parametrize("image", pictures_of_all_values())
def test_a_picture_from_memory(image):
    picture = picture_from(image)
    assert picture.image.mode == "RGB"
    assert np.array_equal(np.asarray(picture.image), ALL_VALUES)
    assert picture.path is None
    assert picture.notes == ()
    assert picture.content_hash == picture_from(ALL_VALUES).content_hash


def test_a_picture_does_not_follow_what_it_came_from():
    pixels = ALL_VALUES.copy()
    image = Image.fromarray(ALL_VALUES)
    pictures = [picture_from(pixels), picture_from(image)]
    pixels[:] = 7
    image.putpixel((0, 0), (9, 9, 9))
    for picture in pictures:
        assert np.array_equal(np.asarray(picture.image), ALL_VALUES)


@pytest.mark.parametrize(
    "mode",
    ["1", "L", "P", "RGB", "RGBA", "RGBa", "RGBX", "LA", "La", "PA", "CMYK", "YCbCr", "LAB", "HSV",
     "I", "I;16", "I;16L", "I;16B", "F"],
)  # fmt: skip
def test_a_pil_image_of_any_mode(mode):
    assert picture_from(Image.new(mode, (3, 2))).image.size == (3, 2)


def test_values_that_are_no_numbers_are_black_without_a_warning():
    image = Image.fromarray(np.float32([[np.nan, np.inf, 1.0]]))
    assert np.asarray(picture_from(image).image)[0, :, 0].tolist() == [0, 255, 255]


def test_premultiplied_colours_are_taken_out_of_their_alpha():
    image = Image.new("RGBa", (1, 1), (40, 20, 0, 51))  # one fifth of (200, 100, 0)
    assert picture_from(image).image.getpixel((0, 0)) == (244, 224, 204)
    grey = Image.new("La", (1, 1), (40, 51))
    assert picture_from(grey).image.getpixel((0, 0)) == (244, 244, 244)


def jpeg_lying_on_its_side() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (32, 16)).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def test_an_opened_file_is_turned_as_a_path_is():
    with Image.open(io.BytesIO(jpeg_lying_on_its_side())) as image:
        picture = picture_from(image)
    assert picture.image.size == (16, 32)
    assert picture.notes == ("EXIF orientation 6 applied",)


def test_an_opened_file_may_be_damaged():
    cut = io.BytesIO(jpeg_lying_on_its_side()[:-8])
    with Image.open(cut) as image, pytest.raises(PictureError) as caught:
        picture_from(image)
    assert str(caught.value).startswith("the picture from memory is damaged or cut short (image")
    assert str(caught.value).endswith("); read it again")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            ALL_VALUES.astype(np.float32),
            r"got an array \(16, 16, 3\) of float32, expected \(H, W, 3\) of uint8",
        ),
        (
            ALL_VALUES[..., 0],
            r"got an array \(16, 16\) of uint8, expected \(H, W, 3\) of uint8",
        ),
        (
            np.zeros((4, 4, 4), np.uint8),
            r"got an array \(4, 4, 4\) of uint8, expected \(H, W, 3\) of uint8",
        ),
        (
            np.zeros((0, 4, 3), np.uint8),
            r"got an array \(0, 4, 3\) of uint8, expected \(H, W, 3\) of uint8",
        ),
        (torch.zeros(1, 3, 4, 4), r"image has shape \(1, 3, 4, 4\), expected \(3, any, any\)"),
        (
            torch.zeros(3, 4, 4, dtype=torch.uint8),
            r"got a tensor \(3, 4, 4\) of torch.uint8, expected \(3, H, W\) of float",
        ),
        (
            torch.zeros(3, 0, 4),
            r"got a tensor \(3, 0, 4\) of torch.float32, expected \(3, H, W\) of float",
        ),
        (torch.full((3, 2, 2), 1.5), r"got values from 1.5 to 1.5, expected \[0, 1\]"),
        (torch.full((3, 2, 2), -0.25), r"got values from -0.25 to -0.25, expected \[0, 1\]"),
        (torch.full((3, 2, 2), torch.nan), r"got values from nan to nan, expected \[0, 1\]"),
        (Image.new("RGB", (0, 4)), "got a picture of 0 x 4, expected some pixels"),
        ("face.png", "got str, expected a PIL image, an array or a tensor"),
        (None, "got NoneType, expected a PIL image, an array or a tensor"),
    ],
)
def test_what_is_no_picture_is_refused(image, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        picture_from(image)
