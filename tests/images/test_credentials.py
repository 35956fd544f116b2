"""Signed credentials, verified by the C2PA library itself."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from pulse.errors import PulseError
from pulse.images import Origin, read_origin, write_picture
from pulse.images.credentials import Signer, read_credentials
from pulse.images.origin import COMPOSITE, TRAINED_ALGORITHMIC_MEDIA

c2pa = pytest.importorskip("c2pa", reason="the C2PA library is not here: pulse[c2pa]")
certificates = pytest.importorskip("certificates", reason="no cryptography to make certificates")

MIMES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}
ORIGIN = Origin("faces", "ab" * 32, 7, {"steps": 3, "class": None})


@pytest.fixture
def image():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def given(tmp_path, image):
    """An input that tells its place and its camera."""
    path = tmp_path / "somebody.jpg"
    exif = Image.Exif()
    exif[0x010F] = "Maker of cameras"
    exif.get_ifd(0x8825).update({1: "N", 2: (51.0, 30.0, 0.0)})
    exif.get_ifd(0x8769)[0xA431] = "SERIAL-4711"
    image.resize((8, 8)).save(path, exif=exif)
    return path


@pytest.fixture
def signer(tmp_path):
    return Signer(*certificates.write_certificate(tmp_path))


def manifest_of(path):
    """The active manifest, as the library reads and verifies it."""
    with c2pa.Reader(MIMES[path.suffix], io.BytesIO(path.read_bytes())) as reader:
        assert reader.get_validation_state() == "Valid"
        store = json.loads(reader.json())
    return store["manifests"][store["active_manifest"]]


def actions_of(manifest):
    (actions,) = [a for a in manifest["assertions"] if a["label"].startswith("c2pa.actions")]
    return actions["data"]["actions"]


@pytest.mark.parametrize("suffix", list(MIMES))
def test_a_candidate_is_created_from_the_input(tmp_path, image, given, signer, suffix):
    path = tmp_path / f"face{suffix}"
    write_picture(image, path, origin=ORIGIN, sign=signer.for_input(given))
    manifest = manifest_of(path)
    (action,) = actions_of(manifest)
    assert action["action"] == "c2pa.created"
    assert action["digitalSourceType"] == TRAINED_ALGORITHMIC_MEDIA
    assert action["softwareAgent"]["name"] == "PULSE"
    (ingredient,) = manifest["ingredients"]
    assert (ingredient["relationship"], ingredient["format"]) == ("inputTo", "image/jpeg")
    assert manifest["signature_info"]["issuer"] == certificates.ISSUER
    settings = [a["data"] for a in manifest["assertions"] if "settings" in a["label"]]
    assert settings == [json.loads(ORIGIN.settings_json())]
    assert read_origin(path) == ORIGIN  # the plain marks are there as well


def test_a_pasted_picture_is_the_input_changed(tmp_path, image, given, signer):
    path = tmp_path / "pasted.png"
    origin = Origin("faces", "ab" * 32, 7, {}, "Pasted.", COMPOSITE)
    write_picture(image, path, origin=origin, sign=signer.for_input(given))
    manifest = manifest_of(path)
    opened, edited = actions_of(manifest)
    assert (opened["action"], edited["action"]) == ("c2pa.opened", "c2pa.edited")
    assert edited["digitalSourceType"] == COMPOSITE
    assert manifest["ingredients"][0]["relationship"] == "parentOf"


def test_the_input_gives_away_neither_name_nor_place_nor_camera(tmp_path, image, given, signer):
    path = tmp_path / "face.png"
    write_picture(image, path, origin=ORIGIN, sign=signer.for_input(given))
    data = path.read_bytes()
    for secret in (b"somebody", b"SERIAL-4711", b"Maker of cameras"):
        assert secret in given.read_bytes() + b"somebody"
        assert secret not in data
    assert not manifest_of(path)["ingredients"][0].get("thumbnail")


@pytest.mark.parametrize("secret", [None, "GPSLatitude", "exifEX:BodySerialNumber"])
def test_credentials_of_the_input_travel_along_unless_they_tell_too_much(
    tmp_path, image, given, signer, secret
):
    """A camera's credentials may hold what is never copied."""
    first = tmp_path / "camera.png"
    origin = Origin("camera", "", 0, {secret: "51,30N"} if secret else {})
    write_picture(image, first, origin=origin, sign=signer.for_input(given))
    path = tmp_path / "face.png"
    write_picture(image, path, origin=ORIGIN, sign=signer.for_input(first))
    with c2pa.Reader("image/png", io.BytesIO(path.read_bytes())) as reader:
        assert reader.get_validation_state() == "Valid"
        text = reader.detailed_json()
        assert len(json.loads(text)["manifests"]) == (1 if secret else 2)
    assert "51,30N" not in text


@pytest.mark.parametrize("suffix", list(MIMES))
def test_a_changed_picture_is_found_out(tmp_path, image, given, signer, suffix):
    path = tmp_path / f"face{suffix}"
    write_picture(image, path, origin=ORIGIN, sign=signer.for_input(given))
    data = path.read_bytes()
    credentials = read_credentials(data, MIMES[suffix])
    assert credentials.is_intact
    assert not credentials.is_trusted  # nobody knows the tests' authority
    assert credentials.ingredients == ("input",)
    start = {".png": b"IDAT", ".jpg": b"\xff\xda", ".webp": b"VP8L"}[suffix]
    place = data.index(start) + 40
    changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    assert not read_credentials(changed, MIMES[suffix]).is_intact


@pytest.mark.parametrize("kind", list(certificates.KEYS))
def test_every_kind_of_key_signs(tmp_path, image, given, kind):
    path = tmp_path / "face.png"
    signer = Signer(*certificates.write_certificate(tmp_path, kind))
    write_picture(image, path, origin=ORIGIN, sign=signer.for_input(given))
    assert manifest_of(path)["signature_info"]["issuer"] == certificates.ISSUER


def test_files_that_cannot_sign_are_told_of_before_anything_is_signed(tmp_path):
    chain, key = certificates.write_certificate(tmp_path)
    _, other = certificates.write_certificate(tmp_path, stem="other")
    for pair in ((chain, other), (key, chain), (chain, chain)):
        with pytest.raises(PulseError, match=r"cannot sign with .*; give a PEM certificate fit"):
            Signer(*pair)
    with pytest.raises(PulseError, match=r"cannot read .*none: No such file.*; check the path"):
        Signer(tmp_path / "none", key)


def test_without_the_library_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "c2pa", None)
    monkeypatch.setattr("pulse.images.credentials.find_spec", lambda _name: None)
    with pytest.raises(PulseError, match=r"signing needs the C2PA library; pip install 'pulse\["):
        Signer(tmp_path / "a", tmp_path / "b")


def test_a_picture_without_credentials_has_none(tmp_path, image):
    path = tmp_path / "face.png"
    write_picture(image, path, origin=ORIGIN)
    assert read_credentials(path.read_bytes(), "image/png") is None


def test_a_signer_needs_an_origin(tmp_path, image, signer, given):
    with pytest.raises(ValueError, match="got a signer without an origin"):
        write_picture(image, tmp_path / "a.png", sign=signer.for_input(given))
