from __future__ import annotations

import errno
import os
import sys
import xml.etree
from dataclasses import replace
from types import MappingProxyType
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pulse.errors import PictureError, PulseError
from pulse.images import Origin, read_origin, read_picture, write_picture

SUFFIXES = [".png", ".jpg", ".jpeg", ".webp", ".PNG"]
PIXELS = np.add.outer(np.arange(24), [[0, 90, 180]] * 32).astype(np.uint8)  # (24, 32, 3)
ORIGIN = Origin(
    generator="faces & <friends> 'é'",
    generator_sha256="ab" * 32,
    seed=-5,
    settings={"steps": 100, "tolerance": 0.1, "kernel": "bicubic", "noise": None, "size": [1, 2]},
)
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"


@pytest.fixture
def image():
    return Image.fromarray(PIXELS)


@pytest.mark.parametrize("origin", [None, ORIGIN])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_pixels_come_back(tmp_path, image, suffix, origin):
    path = tmp_path / f"face{suffix}"
    write_picture(image, path, origin=origin)
    read = read_picture(path)
    assert read.notes == ()
    got = np.asarray(read.image).astype(int)
    # The ramps are smooth, so JPEG of quality 95 with colours in full moves them little.
    assert np.abs(got - PIXELS).max() <= (4 if "jp" in suffix else 0)
    with Image.open(path) as opened:
        assert opened.format == {"j": "JPEG", "w": "WEBP", "p": "PNG"}[suffix[1].lower()]
    assert list(tmp_path.iterdir()) == [path]


def test_jpeg_keeps_fine_detail_and_colours_in_full(tmp_path):
    noise = np.random.default_rng(3).integers(100, 150, size=(64, 64, 3), dtype=np.uint8)
    path = tmp_path / "noise.jpg"
    write_picture(Image.fromarray(noise), path)
    error = np.abs(np.asarray(read_picture(path).image).astype(int) - noise)
    # White noise loses 3.3 levels at quality 95, 6.3 at 90, and 9.4 where colours are halved.
    assert error.mean() < 4


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_origin_comes_back(tmp_path, image, suffix):
    path = tmp_path / f"face{suffix}"
    write_picture(image, path, origin=ORIGIN)
    assert read_origin(path) == ORIGIN


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_other_tools_find_the_digital_source_type(tmp_path, image, suffix):
    """The packet is parsed here as a reader of the XMP and IPTC standards would."""
    path = tmp_path / f"face{suffix}"
    write_picture(image, path, origin=ORIGIN)
    with Image.open(path) as opened:
        root = ElementTree.fromstring(opened.info["xmp"])
    assert root.tag == "{adobe:ns:meta/}xmpmeta"
    (description,) = root.findall(f"{RDF}RDF/{RDF}Description")
    assert description.get(f"{RDF}about") == ""
    assert (
        description.findtext("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
        == "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    )
    assert description.findtext("{http://ns.adobe.com/xap/1.0/}CreatorTool") == "PULSE"
    (text,) = description.findall(
        f"{{http://purl.org/dc/elements/1.1/}}description/{RDF}Alt/{RDF}li"
    )
    assert text.get("{http://www.w3.org/XML/1998/namespace}lang") == "x-default"
    assert text.text == "Imagined face, drawn by a neural network: not a photograph of a person."


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_pillow_finds_the_digital_source_type(tmp_path, image, suffix, monkeypatch):
    # Pillow asks for defusedxml, on import or later; for our own packet the plain parser will do.
    monkeypatch.setattr(Image, "ElementTree", ElementTree, raising=False)
    monkeypatch.setitem(sys.modules, "defusedxml", xml.etree)
    path = tmp_path / f"face{suffix}"
    write_picture(image, path, origin=ORIGIN)
    with Image.open(path) as opened:
        description = opened.getxmp()["xmpmeta"]["RDF"]["Description"]
    assert description["DigitalSourceType"].endswith("/trainedAlgorithmicMedia")


def test_png_says_it_in_text_as_well(tmp_path, image):
    path = tmp_path / "face.png"
    write_picture(image, path, origin=ORIGIN)
    with Image.open(path) as opened:
        text = opened.text
    assert text["Software"] == "PULSE"
    assert text["Description"] == ORIGIN.description
    assert text["pulse"] == ORIGIN.settings_json()
    assert '"seed": -5' in text["pulse"]


def test_a_frozen_mapping_of_settings_is_written(tmp_path, image):
    path = tmp_path / "face.png"
    write_picture(image, path, origin=replace(ORIGIN, settings=MappingProxyType({"steps": 3})))
    assert read_origin(path) == replace(ORIGIN, settings={"steps": 3})


def test_a_picture_without_origin_has_no_text(tmp_path, image):
    path = tmp_path / "face.png"
    write_picture(image, path)
    with Image.open(path) as opened:
        assert opened.info == {}
    assert read_origin(path) is None


FOREIGN = [
    b"",
    b"no packet at all",
    b"\xff\xfe\x00",
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>',
    ORIGIN.to_xmp().replace(b"settings>", b"other>"),
    ORIGIN.to_xmp().replace(b"DigitalSourceType", b"Kind"),
    ORIGIN.to_xmp().replace(b"dc:description", b"dc:title"),
    ORIGIN.to_xmp().replace(b'{"generator"', b'{"generator'),
    ORIGIN.to_xmp().replace(b'"generator_sha256"', b'"hash"'),
    ORIGIN.to_xmp().replace(ORIGIN.to_xmp().split(b"settings>")[1], b"[1]</pulse:"),
    ORIGIN.to_xmp().replace(ORIGIN.to_xmp().split(b"settings>")[1], b'{"seed": 1}</pulse:'),
]


@pytest.mark.parametrize("packet", FOREIGN, ids=range(len(FOREIGN)))
def test_a_picture_from_somebody_else_has_no_origin(tmp_path, image, packet):
    assert Origin.from_xmp(packet) is None
    path = tmp_path / "face.webp"
    image.save(path, xmp=packet)
    assert read_origin(path) is None


def test_text_of_somebody_else_is_no_origin(tmp_path, image):
    path = tmp_path / "face.png"
    text = PngInfo()
    text.add_text("pulse", ORIGIN.settings_json())
    image.save(path, pnginfo=text)
    assert read_origin(path) is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty: 0 bytes; copy or download it again"),
        (b"hello", "is not a picture that PULSE can read; give PNG, JPEG, WebP, BMP, TIFF or HEIC"),
    ],
)
def test_read_origin_refuses_what_is_no_picture(tmp_path, data, message):
    path = tmp_path / "face.png"
    path.write_bytes(data)
    with pytest.raises(PictureError) as caught:
        read_origin(path)
    assert str(caught.value) == f"{path} {message}"


@pytest.mark.parametrize("name", ["face.gif", "face", "face.tiff", ".png"])
def test_another_suffix_is_refused(tmp_path, image, name):
    path = tmp_path / name
    with pytest.raises(PictureError) as caught:
        write_picture(image, path)
    assert str(caught.value) == (
        f"cannot write {path}: the suffix must be .png, .jpg, .jpeg or .webp"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_another_mode_is_refused(tmp_path, mode):
    with pytest.raises(ValueError, match=f"^got a picture in mode {mode}, expected RGB$"):
        write_picture(Image.new(mode, (2, 2)), tmp_path / "face.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("suffix", "width"), [(".webp", 16384), (".jpg", 65536)])
def test_a_picture_too_wide_for_its_format_is_refused(tmp_path, suffix, width):
    path = tmp_path / f"wide{suffix}"
    with pytest.raises(PictureError) as caught:
        write_picture(Image.new("RGB", (width, 1)), path)
    message = str(caught.value)
    assert message.startswith(f"cannot write {path}: {width} x 1 pixels do not fit in the format (")
    assert message.endswith("); choose .png")
    assert message.isprintable()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_full_disk_leaves_nothing_behind(tmp_path, image, monkeypatch, suffix):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / f"two\nlines{suffix}"
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PulseError) as caught:
        write_picture(image, path, origin=ORIGIN)
    assert str(caught.value) == (
        rf"cannot write {tmp_path}/two\nlines{suffix}: No space left on device; "
        "check the folder, its permissions and the free space"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stem", ["a" * 251, "\u9854" * 83 + "ab", "\udcff" * 251])
def test_the_longest_names_work(tmp_path, image, stem):
    path = tmp_path / f"{stem}.png"
    assert len(os.fsencode(path.name)) == 255
    write_picture(image, path, origin=ORIGIN)
    assert list(tmp_path.iterdir()) == [path]
    assert read_origin(path) == ORIGIN
