"""dlib's detector on drawn faces, on photographs where they are at hand, and its model file."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pulse.errors import PulseError
from pulse.faces import detect, models
from pulse.faces.align import align_faces
from pulse.faces.detect import Detection, detect_faces
from pulse.faces.models import LANDMARKS
from pulse.generators.stylegan2 import StyleGAN2

ROOT = Path(__file__).parents[2]
PORTRAITS = ROOT.parent / "shared" / "faces" / "london"
needs_portraits = pytest.mark.skipif(
    not PORTRAITS.is_dir(), reason=f"the portraits are not at {PORTRAITS}"
)
REMEDY = "run: pip install --force-reinstall face-recognition-models==0.3.0"
LEFT_PUPIL, RIGHT_PUPIL, MOUTH = slice(36, 42), slice(42, 48), slice(48, 68)


@pytest.fixture(scope="module")
def drawn_faces():
    """Two faces of 128 x 128 px, drawn by the embedded generator: nobody real."""
    G = StyleGAN2.from_state_dict(load_file(ROOT / "weights" / "portraits-128.safetensors"))
    z = np.random.default_rng(0).standard_normal((2, G.z_dim))
    with torch.no_grad():
        w = G.truncate(G.mapping(torch.from_numpy(z).float()), 0.7)
        x = G.render(G.broadcast(w), G.stored_noise())  # (2, 3, 128, 128)
    pixels = (x.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(face) for face in pixels]


def portrait(name):
    return Image.open(PORTRAITS / f"{name}.jpg").convert("RGB")


def place_of(detection, picture):
    """Centres of eyes and mouth as shares of the picture's size."""
    points = [detection.landmarks[part].mean(0) for part in (LEFT_PUPIL, RIGHT_PUPIL, MOUTH)]
    return np.array(points) / picture.size


def test_a_drawn_face_is_found_where_the_generator_puts_faces(drawn_faces):
    picture = drawn_faces[0].resize((512, 512), Image.Resampling.BICUBIC)
    (face,) = detect_faces(picture)
    # the generator was trained on faces in FFHQ's places: pupils at about 0.38 and 0.62 of the
    # width, 0.48 of the height; people differ by a few hundredths
    np.testing.assert_allclose(
        place_of(face, picture), [[0.38, 0.48], [0.62, 0.48], [0.5, 0.72]], atol=0.05
    )
    left, top, right, bottom = face.box
    assert left < face.landmarks[30, 0] < right
    assert top < face.landmarks[30, 1] < bottom
    assert face.confidence > 1


def test_an_aligned_face_is_aligned_to_itself(drawn_faces):
    picture = drawn_faces[0].resize((512, 512), Image.Resampling.BICUBIC)
    (face,) = align_faces(picture, detect_faces(picture), 256)
    corners = np.array([[0, 0], [0, 512], [512, 512], [512, 0]])
    # landmarks wobble by about a hundredth of the face
    np.testing.assert_allclose(face.quad, corners, atol=20)


def test_landmarks_lie_at_the_same_places_at_every_scale(drawn_faces):
    places = []
    for size in (96, 128, 512, 3500):  # enlarged by 2, by 1, by 1, shrunk
        picture = drawn_faces[0].resize((size, size), Image.Resampling.BICUBIC)
        places.append(place_of(detect_faces(picture)[0], picture))
    # a wrong half pixel or scale would show at 96 px as 0.005 and more; the model itself moves 0.01
    assert np.ptp(places, axis=0).max() < 0.015


def test_small_faces_are_found_by_the_retry(drawn_faces):
    picture = Image.new("RGB", (300, 240), (190, 190, 195))
    picture.paste(drawn_faces[0].resize((60, 60), Image.Resampling.BICUBIC), (200, 100))
    assert detect_faces(picture, max_upsample=1) == []
    (face,) = detect_faces(picture)
    left, top, right, bottom = face.box
    assert 25 < right - left < 50
    assert (left + right) / 2 == pytest.approx(230, abs=6)
    assert (top + bottom) / 2 == pytest.approx(132, abs=8)


def test_two_faces_come_largest_first(drawn_faces):
    picture = Image.new("RGB", (800, 500), (190, 190, 195))
    picture.paste(drawn_faces[0].resize((250, 250)), (20, 100))
    picture.paste(drawn_faces[1].resize((480, 480)), (300, 10))
    large, small = detect_faces(picture)
    assert large.area_px > 2 * small.area_px
    assert small.box[2] < 300 < large.box[0]


def test_equal_faces_come_in_reading_order():
    faces = [detection(*at, 1.0) for at in ((50, 80, 40), (70, 10, 40), (0, 10, 40), (9, 99, 60))]
    ordered = sorted(faces, key=detect._reading_order)
    assert [face.box[:2] for face in ordered] == [(9, 99), (0, 10), (70, 10), (50, 80)]


def test_pictures_without_a_face_give_nothing():
    noise = np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)
    assert detect_faces(Image.fromarray(noise)) == []


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (9000, 2)])
def test_odd_sizes_give_nothing(size):
    assert detect_faces(Image.new("RGB", size)) == []


def test_other_modes_are_refused():
    with pytest.raises(ValueError, match="got a picture in mode RGBA, expected RGB"):
        detect_faces(Image.new("RGBA", (8, 8)))


def test_threads_may_detect_at_once(drawn_faces):
    pictures = [face.resize((400, 400)) for face in drawn_faces] * 3
    with ThreadPoolExecutor(3) as pool:
        at_once = list(pool.map(detect_faces, pictures))
    for found, picture in zip(at_once, pictures, strict=True):
        np.testing.assert_array_equal(found[0].landmarks, detect_faces(picture)[0].landmarks)


def test_work_is_bounded():
    assert detect._scales(900, 4) == [1, 2, 4]
    assert detect._scales(2000, 4) == [1, 2]
    assert detect._scales(12_000, 4) == [0.25, 0.5]
    assert detect._scales(900, 1) == [1]


def detection(left, top, side, confidence):
    box = (float(left), float(top), float(left + side), float(top + side))
    return Detection(box, np.zeros((68, 2)), confidence)


def test_of_two_finds_of_one_face_the_surer_stays():
    weak, sure, other = (
        detection(0, 0, 100, 0.2),
        detection(10, 5, 90, 1.5),
        detection(80, 0, 90, 1),
    )
    assert detect._without_repeats([weak, sure, other]) == [sure, other]


def test_the_landmark_model_is_the_known_one():
    assert LANDMARKS.checked_path() == LANDMARKS.path()


@pytest.fixture
def fake_package(tmp_path, monkeypatch):
    """A package without or with a wrong model in place of the installed one."""
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: spec)
    (tmp_path / "models").mkdir()
    return tmp_path / "models" / LANDMARKS.name


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(models, "MODEL_PACKAGE", "no_such_package_of_models")
    with pytest.raises(PulseError, match=f"landmark model is not installed; {REMEDY}"):
        LANDMARKS.path()


def test_a_missing_model_is_named(fake_package):
    with pytest.raises(PulseError, match=f"{re.escape(str(fake_package))} is missing; {REMEDY}"):
        LANDMARKS.path()


def test_a_cut_model_is_named(fake_package):
    fake_package.write_bytes(b"cut short")
    text = f"{re.escape(str(fake_package))} is damaged: it has 9 bytes, expected 99693937; {REMEDY}"
    with pytest.raises(PulseError, match=text):
        LANDMARKS.path()


def test_an_altered_model_is_not_loaded(fake_package):
    fake_package.touch()
    os.truncate(fake_package, LANDMARKS.size_bytes)  # the right size, all zero
    detect._predictor.cache_clear()
    with pytest.raises(PulseError, match=f"damaged: its SHA-256 is [0-9a-f]+, expected .*{REMEDY}"):
        detect._predictor()


def test_dlib_and_the_package_are_imported_when_needed_only():
    code = (
        "import sys, pulse.faces.detect, pulse.faces.models as m; assert 'dlib' not in sys.modules;"
        "m.LANDMARKS.path(); assert m.MODEL_PACKAGE not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=ROOT)


@pytest.mark.weights
@needs_portraits
def test_portraits_are_aligned_alike():
    eyes = []
    for name in ("001", "010", "020", "025", "042"):
        picture = portrait(name)
        (face,) = align_faces(picture, detect_faces(picture), 256)
        (again,) = detect_faces(face.image)
        eyes.append(place_of(again, face.image)[:2] * 256)
    # the quad is fitted to eyes and mouth together, so eyes differ with the shape of the face
    np.testing.assert_allclose(eyes, np.broadcast_to(np.mean(eyes, axis=0), (5, 2, 2)), atol=6)


@pytest.mark.weights
@needs_portraits
@pytest.mark.parametrize("degrees", [-15, 15])
def test_a_tilted_portrait_is_aligned_like_the_upright_one(degrees):
    picture = portrait("010")
    tilted = picture.rotate(degrees, Image.Resampling.BICUBIC)
    (upright,) = align_faces(picture, detect_faces(picture), 64)
    (turned,) = align_faces(tilted, detect_faces(tilted), 64)
    # the face itself, away from the corners that the rotation left black
    a, b = (np.asarray(face.image, dtype=float)[20:56, 16:48] for face in (upright, turned))
    assert np.abs(a - b).mean() < 8


@pytest.mark.weights
@needs_portraits
def test_portraits_side_by_side_come_largest_first():
    picture = Image.new("RGB", (1200, 700), (200, 200, 200))
    picture.paste(portrait("010").resize((500, 500)), (0, 100))
    picture.paste(portrait("003").resize((700, 700)), (500, 0))
    large, small = detect_faces(picture)
    assert small.box[2] < 500 < large.box[0]
    assert large.area_px > small.area_px


@pytest.mark.weights
@needs_portraits
def test_a_small_portrait_is_found():
    picture = portrait("003").resize((120, 120), Image.Resampling.LANCZOS)  # a face of 41 px
    assert detect_faces(picture, max_upsample=1) == []
    assert len(detect_faces(picture)) == 1
