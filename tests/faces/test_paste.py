"""Faces back in their photograph: known places, colours and noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pulse.downscale import Downscale
from pulse.errors import PictureError
from pulse.faces.align import align_faces, crop_face, quad_size_px
from pulse.faces.detect import detect_faces
from pulse.faces.paste import Patch, mask_of, match_colours, noise_of, paste_faces
from pulse.images import read_picture, to_tensor

SIZE = 64


def square(center, side_px, degrees=0.0):
    """A quad: top left, bottom left, bottom right, top right, turned clockwise."""
    turn = np.radians(degrees)
    x = np.array([np.cos(turn), np.sin(turn)]) * side_px / 2
    y = np.array([-x[1], x[0]])
    return np.array(center) + np.stack([-x - y, -x + y, x + y, x - y])


def waves(size=SIZE):
    """A smooth picture (3, size, size) without any symmetry."""
    v, u = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    return torch.stack([0.2 + 0.6 * u, 0.8 - 0.5 * v, 0.5 + 0.3 * torch.sin(5 * u + 3 * v)])


def patch_of(image, quad, seed=0):
    """A face that fits its low-resolution picture exactly."""
    A = Downscale(tuple(image.shape[1:]), (8, 8))
    return Patch(image, A(image[None])[0], "bicubic", quad, seed)


def in_crop(size=SIZE):
    """The mask over a crop."""
    at = (np.arange(size, dtype=np.float32) + 0.5) / size
    return mask_of(*np.broadcast_arrays(at[None, :], at[:, None]))


def flat(width=200, height=160, colour=(90, 120, 60)):
    """A painted photograph: it has no noise."""
    return Image.new("RGB", (width, height), colour)


QUADS = {
    "upright": square((100, 80), 90),
    "turned": square((100, 80), 90, 37),
    "on its head": square((90, 85), 70, 180),
    "beyond left and top": square((25, 20), 90, -15),
    "beyond right and bottom": square((180, 140), 100, 8),
    "larger than the photograph": square((100, 80), 260, 5),
    "smaller than the face": square((100.3, 80.7), 30, 20),
}


@pytest.mark.parametrize("scale", [1, 2.5, 0.75])
@pytest.mark.parametrize("name", list(QUADS))
def test_a_pasted_face_is_found_where_it_was_cut_out(name, scale):
    photograph, quad, image = flat(), QUADS[name], waves()
    pasted = paste_faces(photograph, [patch_of(image, quad)], scale)
    assert pasted.size == (round(200 * scale), round(160 * scale))
    got = np.asarray(crop_face(pasted, quad * scale, SIZE), float)
    expected = image.permute(1, 2, 0).numpy() * 255
    at = (np.arange(SIZE) + 0.5) / SIZE
    places = quad[0] + at[None, :, None] * (quad[3] - quad[0])
    places = places + at[:, None, None] * (quad[1] - quad[0])  # (SIZE, SIZE, 2) in the photograph
    margin = 0.12 * quad_size_px(quad)  # the border's blur reaches into the picture
    inside = ((places > margin) & (places < np.array([200, 160]) - margin)).all(axis=2)
    core = (in_crop() > 0.999) & inside
    assert core.sum() > 50
    difference = (got - expected)[core]
    # Twice resampled, in part linearly: the fewer pixels there are, the less a curve is followed.
    assert np.abs(difference).max() <= 3 + 60 / (quad_size_px(quad) * scale)
    # Cutting out rounds down. Half a pixel beside its place makes a level on average over a ramp.
    assert np.abs(difference.mean(axis=0) + 0.5).max() <= 0.4


def test_beyond_the_mask_the_photograph_is_untouched():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (160, 200, 3), dtype=np.uint8)
    photograph = Image.fromarray(pixels)
    quad = square((100, 80), 90)  # from 55, 35
    pasted = np.asarray(paste_faces(photograph, [patch_of(waves(), quad)], 1))
    assert (np.asarray(photograph) == pixels).all()  # the input is not drawn on
    changed = (pasted != pixels).any(axis=2)
    at = (np.arange(90, dtype=np.float32) + 0.5) / 90
    reach = np.zeros((160, 200), bool)
    reach[35:125, 55:145] = mask_of(*np.broadcast_arrays(at[None, :], at[:, None])) > 0
    assert not changed[~reach].any()
    assert changed[reach].mean() > 0.8


def test_the_mask_fades_before_the_crop_ends():
    mask = in_crop()
    assert mask[SIZE // 2, SIZE // 2] == 1
    for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]):
        assert edge.max() == 0
    assert np.abs(np.diff(mask, axis=0)).max() < 0.2  # no edge: no step of a fifth
    assert np.abs(np.diff(mask, axis=1)).max() < 0.2
    assert 0.2 < mask.mean() < 0.5


def test_a_cast_over_the_face_is_taken_away():
    image, quad = waves(), QUADS["turned"]
    A = Downscale((SIZE, SIZE), (8, 8))
    cast = (image + torch.tensor([0.1, -0.08, 0.05])[:, None, None]).clamp(0, 1)
    matched = match_colours(cast, A(image[None])[0], "bicubic")
    # an even cast passes every step whole, so nothing of it stays
    assert (matched - image).abs().max() < 1 / 255
    patch = Patch(cast, A(image[None])[0], "bicubic", quad, 0)
    clean = np.asarray(paste_faces(flat(), [patch_of(image, quad)], 1), int)
    assert np.abs(np.asarray(paste_faces(flat(), [patch], 1), int) - clean).max() <= 1


def test_light_from_one_side_is_taken_over():
    image = waves()
    light = 0.2 * torch.linspace(-1, 1, SIZE)[None, None, :]
    A = Downscale((SIZE, SIZE), (8, 8))
    lit = A((image + light)[None])[0]
    matched = match_colours(image, lit, "bicubic")
    before = (A(image[None])[0] - lit).abs().max()
    # the blur leaves a part of a slope at the outermost of eight pixels, and less inside
    assert (A(matched[None])[0] - lit).abs().max() < before / 4


def noisy(sigma, size=(300, 260), coarse=1, seed=1):
    """A ramp with noise of one brightness, in grains of some pixels."""
    rng = np.random.default_rng(seed)
    width, height = size
    field = rng.normal(0, sigma, (-(-height // coarse), -(-width // coarse)))
    field = field.repeat(coarse, 0).repeat(coarse, 1)[:height, :width]
    ramp = np.linspace(80, 180, width)[None, :] + np.linspace(0, 20, height)[:, None]
    return np.rint((ramp + field)[:, :, None].repeat(3, 2)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("sigma", [2, 6, 12])
def test_noise_is_measured_on_ramps_and_beside_edges(sigma):
    pixels = noisy(sigma)
    pixels[:60] = 255 - pixels[:60]  # an edge across
    where = np.ones(pixels.shape[:2], bool)
    # some hundred blocks of 64 pixels tell it to a few per cent; whole levels add 0.3
    assert noise_of(pixels.astype(np.float32), where) == pytest.approx([sigma] * 3, rel=0.1)


def test_noise_is_not_measured_where_there_is_none_to_see():
    pixels = noisy(6).astype(np.float32)
    pixels[:, :250] = 255  # blown out
    where = np.ones(pixels.shape[:2], bool)
    assert noise_of(pixels, where) == pytest.approx([6] * 3, rel=0.15)
    half_blown = noisy(6).astype(np.float32)
    half_blown[:, :150] = np.minimum(half_blown[:, :150] * 0 + 253 + noisy(6)[:, :150] - 90, 255)
    assert noise_of(half_blown, where) == pytest.approx([6] * 3, rel=0.15)
    painted = noisy(6)
    painted[:, :120] = 90
    assert noise_of(painted.astype(np.float32), where) == pytest.approx([6] * 3, rel=0.15)
    assert (noise_of(pixels, np.zeros_like(where)) == 0).all()
    assert (noise_of(pixels[:5, :5], where[:5, :5]) == 0).all()
    assert (noise_of(np.full_like(pixels, 100), where) == 0).all()


@pytest.mark.parametrize("coarse", [1, 2])
@pytest.mark.parametrize("sigma", [0, 4, 10])
def test_the_face_gets_the_grain_of_its_surroundings(sigma, coarse):
    """Of grains of one pixel and of two, measured one by one and in pairs."""
    photograph = noisy(sigma, coarse=coarse)
    quad = square((150, 130), 200)
    face = patch_of(torch.full((3, SIZE, SIZE), 0.5), quad, seed=3)
    pasted = np.asarray(paste_faces(Image.fromarray(photograph), [face], 1), np.float32)
    core = np.zeros((260, 300), bool)
    core[130 - 45 : 130 + 45, 150 - 25 : 150 + 25] = True
    for halved in (False, True):
        if halved:
            photograph, pasted = (
                x.reshape(130, 2, 150, 2, 3).mean(axis=(1, 3), dtype=np.float32)
                for x in (photograph, pasted)
            )
            core = core[::2, ::2]
        want = noise_of(photograph.astype(np.float32), np.ones_like(core))
        got = noise_of(pasted, core)
        # a few blocks, grain of two sizes for any, and whole levels
        assert got == pytest.approx(want, rel=0.25, abs=0.6)


def test_texture_of_a_small_photograph_is_no_noise():
    """Where a face has few pixels, stripes of hair and cloth are all that is around it."""
    v, u = np.indices((66, 66))
    stripes = np.rint(120 + 40 * np.sin(0.9 * u + 0.5 * v))[:, :, None].repeat(3, 2)
    face = patch_of(torch.full((3, SIZE, SIZE), 0.5), square((33, 33), 36))
    pasted = np.asarray(paste_faces(Image.fromarray(stripes.astype(np.uint8)), [face], 4), int)
    core = pasted[110:150, 120:144]
    assert np.ptp(core) <= 1  # grey as it was


def test_grain_follows_from_the_seed():
    photograph, quad = Image.fromarray(noisy(8)), square((150, 130), 200)
    a, b, c = (
        paste_faces(photograph, [patch_of(waves(), quad, seed)], 1).tobytes() for seed in (1, 1, 2)
    )
    assert a == b
    assert a != c


def test_grain_is_enlarged_with_the_photograph():
    photograph, quad = Image.fromarray(noisy(8)), square((150, 130), 200)
    pasted = paste_faces(photograph, [patch_of(torch.full((3, SIZE, SIZE), 0.5), quad)], 3)
    large = np.asarray(pasted, np.float32)[390 - 120 : 390 + 120, 450 - 70 : 450 + 70, 0]
    beside = np.diff(large, axis=1).std() / large.std()
    assert beside < 0.8  # of independent pixels the difference is 1.4 times as strong


def test_several_faces_and_one_that_is_nowhere():
    quads = [square((50, 80), 60), square((150, 80), 60, 10), square((-300, -300), 50)]
    patches = [patch_of(waves(), quad) for quad in quads]
    together = np.asarray(paste_faces(flat(), patches, 1))
    for i in (0, 1):
        alone = np.asarray(paste_faces(flat(), [patches[i]], 1))
        half = slice(100 * i, 100 * i + 100)
        assert (together[:, half] == alone[:, half]).all()
        assert (alone[:, half] != np.asarray(flat())[:, half]).any()
    assert (np.asarray(paste_faces(flat(), [patches[2]], 2)) == np.asarray(flat(400, 320))).all()


@pytest.mark.weights
def test_a_persons_own_face_goes_back_without_a_trace(portraits):
    """Cut out, and pasted again: nothing may tell where."""
    for path in portraits[:3]:
        photograph = read_picture(path).image.resize((450, 450), Image.Resampling.LANCZOS)
        (face, *_) = align_faces(photograph, detect_faces(photograph), 256)
        pasted = paste_faces(photograph, [patch_of(to_tensor(face.image), face.quad)], 1)
        change = np.abs(np.asarray(pasted, int) - np.asarray(photograph, int))
        # 280 px at 256, so the finest detail is lost: a level on average, more at eyelashes
        assert change.mean() < 0.5
        assert np.quantile(change[change > 0], 0.99) < 20


def test_a_picture_too_large_is_refused_by_its_size():
    with pytest.raises(PictureError, match=r"a scale of 200 makes 40000 x 32000 pixels.*--scale"):
        paste_faces(flat(), [], 200)


def test_other_modes_are_a_programmers_error():
    with pytest.raises(ValueError, match="got a picture in mode L, expected RGB"):
        paste_faces(flat().convert("L"), [], 1)
