from __future__ import annotations

import io
import re
import struct
import zlib

import numpy as np
import pytest
from picture_files import (
    ADOBE,
    DISPLAY_P3,
    GAMMA,
    JPEG_TOLERANCE,
    MUTED,
    SCENE,
    SRGB,
    difference,
    encoded,
    grey_profile,
    icc_profile,
    message_of,
    pixels_of,
    rgb_profile,
    sampled_curve,
    tiff_of_16_bits,
)
from PIL import Image, ImageCms

import pulse.images.read
from pulse.images import read_picture


@pytest.mark.parametrize(
    ("kind", "suffix", "options", "tolerance"),
    [
        ("PNG", ".png", {}, 0),
        ("BMP", ".bmp", {}, 0),
        ("TIFF", ".tif", {}, 0),
        ("TIFF", ".tiff", {"compression": "tiff_lzw"}, 0),
        ("WEBP", ".webp", {"lossless": True}, 0),
        ("JPEG", ".jpg", {"quality": 95, "subsampling": 0}, JPEG_TOLERANCE),
        ("JPEG", ".jpeg", {"quality": 95, "progressive": True, "subsampling": 0}, JPEG_TOLERANCE),
        ("HEIF", ".heic", {"quality": 100}, 6),  # chroma of half the resolution, at the edges
    ],
)
def test_every_format_is_read(tmp_path, kind, suffix, options, tolerance):
    path = tmp_path / f"scene{suffix}"
    path.write_bytes(encoded(Image.fromarray(SCENE), kind, **options))
    assert difference(pixels_of(path), SCENE) <= tolerance
    assert read_picture(path).notes == ()


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera stores; EXIF says on which side of the scene row 0 and column 0 lie."""
    turned = upright.transpose(1, 0, 2)
    return {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: turned,
        6: turned[::-1],
        7: turned[::-1, ::-1],
        8: turned[:, ::-1],
    }[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}, JPEG_TOLERANCE),
        ("PNG", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("TIFF", {}, 0),
        ("HEIF", {"quality": 100}, 6),
    ],
)
def test_exif_orientation_is_applied(tmp_path, orientation, kind, options, tolerance):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored(SCENE, orientation)))
    exif = exif.tobytes()
    path = tmp_path / "turned"
    path.write_bytes(encoded(image, kind, exif=exif, **options))
    picture = read_picture(path)
    assert difference(np.asarray(picture.image), SCENE) <= tolerance
    if kind != "HEIF":  # there the decoder turns it, and says nothing
        noted = () if orientation == 1 else (f"EXIF orientation {orientation} applied",)
        assert picture.notes == noted


def test_an_unknown_orientation_is_none(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 9
    path = tmp_path / "nine.png"
    Image.fromarray(SCENE).save(path, exif=exif)
    assert difference(pixels_of(path), SCENE) == 0
    assert read_picture(path).notes == ()


@pytest.mark.parametrize(
    ("exif", "notes"),
    [
        (b"Exif\0\0no TIFF header", ("EXIF data damaged, orientation unknown",)),
        (b"Exif\0\0II*\0\xff\xff\xff\xff", ()),
    ],
)
def test_damaged_exif_is_passed_over(tmp_path, exif, notes):
    path = tmp_path / "exif.png"
    Image.fromarray(SCENE).save(path, exif=exif)
    assert difference(pixels_of(path), SCENE) == 0
    assert read_picture(path).notes == notes


GREY = np.array([[0, 51, 128], [200, 254, 255]], dtype=np.uint8)


def test_grey_is_repeated_in_every_colour(tmp_path):
    path = tmp_path / "grey.png"
    Image.fromarray(GREY).save(path)
    assert np.array_equal(pixels_of(path), np.stack([GREY] * 3, axis=-1))
    assert read_picture(path).notes == ()


def test_one_bit_is_black_and_white(tmp_path):
    path = tmp_path / "bits.png"
    Image.fromarray(GREY > 127).save(path)
    assert np.array_equal(pixels_of(path)[..., 1], np.where(GREY > 127, 255, 0))


@pytest.mark.parametrize("colours", [4, 256])
def test_a_palette_is_looked_up(tmp_path, colours):
    path = tmp_path / "palette.png"
    image = Image.fromarray(SCENE).quantize(colours)
    image.save(path)
    with Image.open(path) as written:
        assert written.mode == "P"
    assert np.array_equal(pixels_of(path), np.asarray(image.convert("RGB")))
    assert read_picture(path).notes == ()


DEEP = np.array([[0, 257, 129], [32768, 65535 - 128, 65535]], dtype=np.uint16)


DEEP_AS_8 = np.array([[0, 1, 1], [128, 255, 255]])  # divided by 257 and rounded


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: (Image.fromarray(DEEP), "PNG"), DEEP_AS_8),
        (lambda: (Image.fromarray(DEEP), "TIFF"), DEEP_AS_8),
        (lambda: (Image.fromarray(DEEP.astype(">u2")), "TIFF"), DEEP_AS_8),
        (lambda: (Image.fromarray(DEEP.astype(np.int32)), "TIFF"), DEEP_AS_8),
        (lambda: (Image.fromarray(GREY.astype(np.int32)), "TIFF"), GREY),
        (
            lambda: (Image.fromarray(GREY.astype(np.int32) - 51), "TIFF"),
            np.clip(GREY, 51, 255) - 51,
        ),
        (lambda: (Image.fromarray(np.int32([[0, 10**6, 4 * 10**6]])), "TIFF"), [[0, 64, 255]]),
        (lambda: (Image.fromarray(np.float32([[0, 0.2, 1]])), "TIFF"), [[0, 51, 255]]),
        (lambda: (Image.fromarray(np.float32([[-1, 0.2, 0.4]])), "TIFF"), [[0, 51, 102]]),
        (lambda: (Image.fromarray(np.float32([[0, 1, 4]])), "TIFF"), [[0, 64, 255]]),
        (
            lambda: (Image.fromarray(np.float32([[np.nan, np.inf, -np.inf, 0.2]])), "TIFF"),
            [[0, 255, 0, 51]],
        ),
    ],
    ids=[
        "16-bit PNG",
        "16-bit TIFF",
        "big-endian TIFF",
        "16 bits in 32",
        "8 bits in 32",
        "negative",
        "32-bit",
        "float",
        "negative float",
        "bright float",
        "not finite",
    ],
)
def test_deep_greys_are_reduced_to_8_bits(tmp_path, make, expected):
    image, kind = make()
    path = tmp_path / "deep"
    path.write_bytes(encoded(image, kind))
    assert np.array_equal(pixels_of(path), np.stack([expected] * 3, axis=-1))
    assert read_picture(path).notes == ("reduced to 8 bits",)


def png_of_16_bits(values: np.ndarray) -> bytes:
    """RGB of 16 bits, which Pillow reads and does not write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        checked = kind + body
        return struct.pack(">I", len(body)) + checked + struct.pack(">I", zlib.crc32(checked))

    height, width, _ = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("encode", [png_of_16_bits, tiff_of_16_bits])
def test_colours_of_16_bits_are_reduced(tmp_path, encode):
    path = tmp_path / "deep"
    path.write_bytes(encode(SCENE.astype(np.uint16) * 257))
    assert np.array_equal(pixels_of(path), SCENE)


def test_lab_is_converted(tmp_path):
    path = tmp_path / "lab.tif"
    lab = ImageCms.profileToProfile(
        Image.fromarray(MUTED), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )  # fmt: skip
    lab.info.clear()
    lab.save(path)
    # 8 bits hold whole values of a* and b*: half a step of each moves the blue by 6 levels of red.
    assert difference(pixels_of(path), MUTED) <= 6
    assert read_picture(path).notes == ("LAB converted",)


def test_ycbcr_tiff_is_converted(tmp_path):
    path = tmp_path / "ycbcr.tif"
    Image.fromarray(SCENE).convert("YCbCr").save(path)
    assert difference(pixels_of(path), SCENE) <= JPEG_TOLERANCE


def without_adobe_marker(jpeg: bytes) -> bytes:
    start = jpeg.index(b"\xff\xee")
    return jpeg[:start] + jpeg[start + 2 + struct.unpack(">H", jpeg[start + 2 : start + 4])[0] :]


@pytest.mark.parametrize("adobe", [True, False])
def test_cmyk_jpeg_is_converted(tmp_path, adobe):
    """With Adobe's marker the inks are stored inverted; without it they are not."""
    ink = np.zeros((16, 16, 4), dtype=np.uint8)
    ink[..., 0] = 200
    image = Image.frombytes("CMYK", (16, 16), ink.tobytes())
    data = encoded(image, "JPEG", quality=100, subsampling=0)
    if not adobe:
        inverted = Image.frombytes("CMYK", (16, 16), (255 - ink).tobytes())
        data = without_adobe_marker(encoded(inverted, "JPEG", quality=100, subsampling=0))
    path = tmp_path / "ink.jpg"
    path.write_bytes(data)
    expected = np.broadcast_to(np.uint8([55, 255, 255]), (16, 16, 3))
    assert difference(pixels_of(path), expected) <= JPEG_TOLERANCE
    assert read_picture(path).notes == ("CMYK converted",)


def test_alpha_is_laid_over_the_background(tmp_path):
    path = tmp_path / "alpha.png"
    rgba = np.uint8([[[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 51]]])
    Image.fromarray(rgba).save(path)
    # One fifth of the colour and four fifths of the background.
    assert pixels_of(path).tolist() == [[[200, 100, 0], [255, 255, 255], [244, 224, 204]]]
    assert read_picture(path).notes == ("transparency laid over rgb(255, 255, 255)",)
    on_blue = pixels_of(path, background=(0, 0, 250))
    assert on_blue.tolist() == [[[200, 100, 0], [0, 0, 250], [40, 20, 200]]]
    assert read_picture(path, background=(0, 0, 250)).notes == (
        "transparency laid over rgb(0, 0, 250)",
    )


def test_an_alpha_that_hides_nothing_is_not_noted(tmp_path):
    path = tmp_path / "opaque.png"
    Image.fromarray(SCENE).convert("RGBA").save(path)
    assert np.array_equal(pixels_of(path), SCENE)
    assert read_picture(path).notes == ()


def test_grey_with_alpha(tmp_path):
    path = tmp_path / "la.png"
    Image.fromarray(np.uint8([[[200, 255], [200, 0], [0, 51]]]), "LA").save(path)
    assert pixels_of(path)[..., 0].tolist() == [[200, 255, 204]]


@pytest.mark.parametrize("transparency", [1, b"\xff\x00"])
def test_a_transparent_palette(tmp_path, transparency):
    path = tmp_path / "p.png"
    image = Image.fromarray(np.uint8([[0, 1]])).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(path, transparency=transparency)
    assert pixels_of(path).tolist() == [[[10, 20, 30], [255, 255, 255]]]


@pytest.mark.parametrize(("mode", "key"), [("L", 7), ("RGB", (7, 7, 7))])
def test_a_transparent_colour(tmp_path, mode, key):
    path = tmp_path / "key.png"
    Image.fromarray(np.uint8([[7, 8]])).convert(mode).save(path, transparency=key)
    assert pixels_of(path)[..., 2].tolist() == [[255, 8]]


def cmyk_profile() -> bytes:
    """Paper is white; full cyan alone is a grey of L* = 60; everything else is black."""
    colours = np.zeros((2, 2, 2, 2, 3), dtype=np.uint8)
    colours[..., 1:] = 128  # a* = b* = 0
    colours[0, 0, 0, 0, 0] = 255
    colours[1, 0, 0, 0, 0] = 153  # of 255 for L* = 100
    matrix = b"".join(struct.pack(">i", v) for v in np.eye(3, dtype=int).ravel() * 65536)
    ramp = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + ramp * 4
    table += colours.tobytes() + ramp * 3
    return icc_profile(b"CMYK", {b"A2B0": table})


def srgb_levels(linear: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1."""
    linear = np.clip(linear, 0, 1)
    encoded_ = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(encoded_ * 255).astype(int)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "HEIF"])
@pytest.mark.parametrize("primaries", [ADOBE, DISPLAY_P3], ids=["Adobe", "P3"])
def test_colours_are_converted_to_srgb(tmp_path, kind, primaries):
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}
    options["HEIF"] = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}  # without loss
    image = Image.fromarray(MUTED.repeat(8, axis=0).repeat(8, axis=1))
    path = tmp_path / "wide"
    profile = rgb_profile(primaries, description=b"wide\ngamut")
    path.write_bytes(encoded(image, kind, icc_profile=profile, **options.get(kind, {})))
    linear = (MUTED / 255) ** GAMMA @ primaries.T @ np.linalg.inv(SRGB).T
    # One level for the engine's whole-number arithmetic, and what JPEG loses.
    tolerance = JPEG_TOLERANCE if kind == "JPEG" else 1
    assert difference(pixels_of(path)[4::8, 4::8], srgb_levels(linear)) <= tolerance
    assert read_picture(path).notes == ("colours converted from the profile 'wide gamut'",)


def test_the_conversion_can_be_seen():
    """The colours above differ from what a reader without profiles would show."""
    for primaries in (ADOBE, DISPLAY_P3):
        linear = (MUTED / 255) ** GAMMA @ primaries.T @ np.linalg.inv(SRGB).T
        assert difference(MUTED, srgb_levels(linear)) > 10


def test_an_srgb_profile_changes_nothing(tmp_path):
    """Whatever its name."""
    path = tmp_path / "srgb.png"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(SCENE).save(path, icc_profile=profile)
    assert np.array_equal(pixels_of(path), SCENE)
    assert read_picture(path).notes == ()


def test_small_differences_between_srgb_profiles_change_nothing(tmp_path):
    path = tmp_path / "srgb.png"
    steps = np.linspace(0, 1, 64)
    linear = np.where(steps <= 0.04045, steps / 12.92, ((steps + 0.055) / 1.055) ** 2.4)
    profile = rgb_profile(SRGB.round(4), sampled_curve(linear))
    target = ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(
        Image.fromarray(SCENE), ImageCms.ImageCmsProfile(io.BytesIO(profile)), target
    )
    assert difference(np.asarray(converted), SCENE) == 1
    Image.fromarray(SCENE).save(path, icc_profile=profile)
    assert np.array_equal(pixels_of(path), SCENE)
    assert read_picture(path).notes == ()


def test_a_profile_near_srgb_is_not_srgb(tmp_path):
    path = tmp_path / "near.png"
    Image.fromarray(MUTED // 8).save(path, icc_profile=rgb_profile(SRGB))
    expected = srgb_levels((MUTED // 8 / 255) ** GAMMA)
    assert 4 < difference(MUTED // 8, expected) < 10
    assert difference(pixels_of(path), expected) <= 1


def test_a_profile_named_after_srgb_is_judged_by_its_colours(tmp_path):
    path = tmp_path / "linear.png"
    profile = rgb_profile(SRGB, 1.0, description=b"Linear sRGB")
    Image.fromarray(MUTED).save(path, icc_profile=profile)
    assert difference(pixels_of(path), srgb_levels(MUTED / 255)) <= 1
    assert read_picture(path).notes == ("colours converted from the profile 'Linear sRGB'",)


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_a_grey_profile(tmp_path, mode):
    path = tmp_path / "grey.png"
    Image.fromarray(GREY).convert(mode).save(path, icc_profile=grey_profile(1.0))
    expected = np.stack([srgb_levels(GREY / 255)] * 3, axis=-1)
    assert difference(pixels_of(path), expected) <= 1
    assert read_picture(path).notes[0] == "colours converted from the profile 'test'"


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_a_colour_profile_on_a_picture_without_colour_channels(tmp_path, mode):
    path = tmp_path / "grey.png"
    image = Image.fromarray(GREY).convert(mode)
    image.save(path, icc_profile=rgb_profile(SRGB, 1.0))
    values = np.asarray(image.convert("L"))
    expected = np.stack([srgb_levels(values / 255)] * 3, axis=-1)
    assert difference(pixels_of(path), expected) <= 1
    assert read_picture(path).notes == ("colours converted from the profile 'test'",)


def test_a_grey_profile_on_one_bit(tmp_path):
    path = tmp_path / "bits.png"
    Image.fromarray(GREY > 127).save(path, icc_profile=grey_profile(1.0))
    assert np.array_equal(pixels_of(path)[..., 0], np.where(GREY > 127, 255, 0))
    assert read_picture(path).notes == ("colours converted from the profile 'test'",)


def test_a_profile_under_transparency(tmp_path):
    """The colours are converted, then laid over a background that is sRGB already."""
    path = tmp_path / "alpha.png"
    rgba = np.uint8([[[128, 128, 128, 255], [128, 128, 128, 0]]])
    Image.fromarray(rgba).save(path, icc_profile=rgb_profile(SRGB, 1.0))
    grey = srgb_levels(np.array(128 / 255))
    got = pixels_of(path, background=(128, 128, 128))
    assert difference(got, np.array([[[grey] * 3, [128] * 3]])) <= 1


def test_a_cmyk_profile(tmp_path):
    path = tmp_path / "ink.tif"
    image = Image.frombytes("CMYK", (2, 1), bytes([0, 0, 0, 0, 255, 0, 0, 0]))
    image.save(path, icc_profile=cmyk_profile())
    grey = srgb_levels(np.array(((60 + 16) / 116) ** 3))  # CIE 1976: L* = 60
    assert difference(pixels_of(path), np.array([[[255] * 3, [grey] * 3]])) <= 2
    assert read_picture(path).notes == ("colours converted from the profile 'test'",)


@pytest.mark.parametrize(
    "profile",
    [b"no profile", rgb_profile(ADOBE)[:200], cmyk_profile(), b"\0" * 128, grey_profile(1.0)],
    ids=["text", "cut short", "for inks", "zeros", "for greys"],
)
def test_a_bad_profile_is_passed_over(tmp_path, profile):
    path = tmp_path / "bad.png"
    Image.fromarray(SCENE).save(path, icc_profile=profile)
    assert np.array_equal(pixels_of(path), SCENE)
    assert read_picture(path).notes == ("colour profile damaged or of another kind, passed over",)


def test_only_pixels_are_handed_on(tmp_path):
    """A profile, a place or a comment must not reach the pictures that are written."""
    exif = Image.Exif()
    exif[0x9286] = "my home"
    path = tmp_path / "talkative.jpg"
    Image.fromarray(SCENE).save(path, exif=exif, comment=b"mine", icc_profile=b"no profile")
    assert read_picture(path).image.info == {}
    assert not read_picture(path).image.getexif()


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})]
)
def test_the_first_frame_is_taken(tmp_path, kind, options):
    path = tmp_path / "frames"
    others = [Image.fromarray(255 - SCENE), Image.fromarray(SCENE[::-1].copy())]
    data = encoded(Image.fromarray(SCENE), kind, save_all=True, append_images=others, **options)
    path.write_bytes(data)
    assert np.array_equal(pixels_of(path), SCENE)
    assert read_picture(path).notes == ("first of 3 frames",)


def test_a_gif_is_refused(tmp_path):
    path = tmp_path / "moving.gif"
    Image.fromarray(SCENE).save(path)
    assert message_of(path) == (
        f"{path} is not a picture that PULSE can read: it is a GIF; "
        "give PNG, JPEG, WebP, BMP, TIFF or HEIC"
    )


@pytest.mark.parametrize(
    ("kind", "suffix", "note"),
    [
        ("PNG", ".jpg", "a PNG file under the suffix .jpg"),
        ("JPEG", ".PNG", "a JPEG file under the suffix .PNG"),
        ("BMP", ".tiff", "a BMP file under the suffix .tiff"),
        ("PNG", ".heic", None),  # known as a suffix only once the extra package is loaded
    ],
)
def test_the_content_decides_and_not_the_suffix(tmp_path, kind, suffix, note):
    path = tmp_path / f"scene{suffix}"
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    path.write_bytes(encoded(Image.fromarray(SCENE), kind, **options))
    assert difference(pixels_of(path), SCENE) <= JPEG_TOLERANCE
    if note:
        assert read_picture(path).notes == (note,)


def test_heic_without_its_package(tmp_path, monkeypatch):
    heic, garbage, png = tmp_path / "a.jpg", tmp_path / "b.heic", tmp_path / "c.heic"
    heic.write_bytes(encoded(Image.fromarray(SCENE), "HEIF"))
    garbage.write_bytes(b"nothing of the kind")
    Image.fromarray(SCENE).save(png, "PNG")
    monkeypatch.setattr(pulse.images.read, "find_spec", lambda _: None)
    assert message_of(heic) == f"{heic} is a HEIC picture; pip install 'pulse[heic]' to read it"
    assert "is not a picture that PULSE can read" in message_of(garbage)
    assert np.array_equal(pixels_of(png), SCENE)


def test_a_text_file_is_refused_before_heic_was_ever_loaded(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_text("hello")
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    assert "is not a picture that PULSE can read" in message_of(path)


def test_content_hash_follows_size_and_pixels(tmp_path):
    paths = [tmp_path / "a.png", tmp_path / "b.bmp", tmp_path / "c.png", tmp_path / "d.png"]
    Image.fromarray(SCENE).save(paths[0])
    Image.fromarray(SCENE).save(paths[1])
    Image.frombytes("RGB", (32, 48), SCENE.tobytes()).save(paths[2])  # the same bytes in all
    changed = SCENE.copy()
    changed[5, 7, 1] += 1
    Image.fromarray(changed).save(paths[3])
    hashes = [read_picture(path).content_hash for path in paths]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3
    assert re.fullmatch("[0-9a-f]{64}", hashes[0])
