"""True sizes of pictures whose true size is known, because the test enlarged them itself."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from pulse.faces.enlarged import true_size_px

PORTRAITS = Path(__file__).parents[2].parent / "shared" / "faces" / "london"
needs_portraits = pytest.mark.skipif(
    not PORTRAITS.is_dir(), reason=f"the portraits are not at {PORTRAITS}"
)
NEAREST = Image.Resampling.NEAREST
SMOOTH = [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS]
JPEG_QUALITIES = [None, 85]

# on 36 portraits the estimates lie between 0.72 and 1.4 times the truth
WITHIN = 1.6


def natural_noise(width, height, seed=0):
    """Noise whose amplitude falls as 1 / frequency, as it does in photographs (Field 1987)."""
    white = np.random.default_rng(seed).standard_normal((height, width))
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    radius[0, 0] = np.inf
    pixels = np.fft.irfft2(np.fft.rfft2(white) / radius, s=(height, width))
    return Image.fromarray(np.uint8(np.clip(128 + 45 * pixels / pixels.std(), 0, 255)))


def drawn_shapes(size):
    image = Image.new("L", (size, size), 230)
    draw = ImageDraw.Draw(image)
    for i in range(7):
        x, y, r = (size * f for f in (0.1 + 0.12 * i, 0.5 + 0.35 * np.sin(i), 0.05 + 0.01 * i))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=30 * i)
    return image


def as_jpeg(image, quality):
    if quality is None:
        return image
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue()))


def enlarged(image, size, factor_size, kernel, quality):
    """Reduce to `size`, then enlarge to `factor_size`."""
    small = image.resize((size, size), Image.Resampling.LANCZOS)
    return as_jpeg(small.resize((factor_size, factor_size), kernel), quality)


@pytest.mark.parametrize("quality", JPEG_QUALITIES)
@pytest.mark.parametrize(("width", "height"), [(64, 64), (128, 128), (500, 333), (200, 700)])
def test_sharp_pictures_have_their_own_size(width, height, quality):
    for seed in range(3):
        picture = as_jpeg(natural_noise(width, height, seed), quality)
        assert true_size_px(picture) == max(width, height)


def test_drawings_have_their_own_size():
    assert true_size_px(drawn_shapes(300)) == 300


@pytest.mark.parametrize("quality", JPEG_QUALITIES)
@pytest.mark.parametrize("kernel", SMOOTH, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize(("size", "to"), [(16, 256), (32, 300), (64, 256), (64, 1024), (150, 450)])
def test_smoothly_enlarged_pictures_are_recognised(size, to, kernel, quality):
    picture = enlarged(natural_noise(512, 512), size, to, kernel, quality)
    assert size / WITHIN < true_size_px(picture) < size * WITHIN


@pytest.mark.parametrize("quality", JPEG_QUALITIES)
@pytest.mark.parametrize(("size", "to"), [(16, 256), (16, 300), (32, 200), (64, 512), (60, 150)])
def test_repeated_pixels_are_counted_exactly(size, to, quality):
    assert true_size_px(enlarged(natural_noise(512, 512), size, to, NEAREST, quality)) == size


def test_a_pixel_art_drawing_is_counted_exactly():
    assert true_size_px(drawn_shapes(24).resize((384, 384), NEAREST)) == 24


@pytest.mark.parametrize("kernel", [NEAREST, *SMOOTH], ids=lambda kernel: kernel.name)
@pytest.mark.parametrize(("width", "height"), [(60, 90), (160, 32)])
def test_the_longer_side_is_estimated(width, height, kernel):
    picture = natural_noise(width, height).resize((5 * width, 5 * height), kernel)
    true = max(width, height)
    assert true / WITHIN < true_size_px(picture) < true * WITHIN


def test_detail_along_the_shorter_side_counts_in_its_proportion():
    # stripes across 200 px that were 50, in a picture 800 px long: as much as 200 along 800
    stripes = natural_noise(1, 50).resize((1, 200), Image.Resampling.BICUBIC)
    estimate = true_size_px(stripes.resize((800, 200), NEAREST))
    assert 200 / WITHIN < estimate < 200 * WITHIN


def test_a_blurred_picture_holds_less_than_its_pixels():
    blurred = natural_noise(512, 512).filter(ImageFilter.GaussianBlur(6))
    assert true_size_px(blurred) < 256


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (31, 31), (32, 32), (400, 300)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_flat_pictures_have_their_own_size(size, mode):
    assert true_size_px(Image.new(mode, size, 77)) == max(size)


def test_one_straight_edge_is_no_grid_of_blocks():
    picture = Image.new("L", (256, 256), 40)
    picture.paste(200, (128, 0, 256, 256))
    assert true_size_px(picture) == 256


def test_white_noise_has_its_own_size():
    noise = np.random.default_rng(0).integers(0, 256, (200, 200), dtype=np.uint8)
    assert true_size_px(Image.fromarray(noise)) == 200


@pytest.mark.weights
@needs_portraits
@pytest.mark.parametrize("quality", JPEG_QUALITIES)
@pytest.mark.parametrize("name", ["003", "010", "025", "042"])
def test_portraits_are_told_from_enlarged_ones(name, quality):
    portrait = Image.open(PORTRAITS / f"{name}.jpg")
    face = portrait.crop((170, 150, 730, 710))
    for picture in (portrait, *(face.resize((side, side)) for side in (64, 128, 256))):
        assert true_size_px(as_jpeg(picture, quality)) == picture.width
    for size, to in ((16, 256), (32, 1024), (64, 512)):
        assert true_size_px(enlarged(face, size, to, NEAREST, quality)) == size
        for kernel in SMOOTH:
            estimate = true_size_px(enlarged(face, size, to, kernel, quality))
            assert size / WITHIN < estimate < size * WITHIN
