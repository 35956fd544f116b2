"""What files say about their making, read back by exiftool and by `read_info`."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pulse.images import Origin, read_picture, write_picture
from pulse.images.info import read_info
from pulse.images.origin import (
    COMPOSITE,
    DESCRIPTION,
    TRAINED_ALGORITHMIC_MEDIA,
    digital_source_type_of,
)

SUFFIXES = [".png", ".jpg", ".webp"]
ORIGIN = Origin("faces", "ab" * 32, -3, {"steps": 3})
CAPTURED = "2019:07:01 12:30:59"


@pytest.fixture(scope="module")
def exiftool():
    """Everything that exiftool finds in a file, group and name to value."""
    program = shutil.which("exiftool")
    if program is None:
        pytest.skip("exiftool is not here: Debian's package libimage-exiftool-perl")

    def read(path):
        command = [program, "-json", "-G1", "-a", "-struct", str(path)]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        (tags,) = json.loads(result.stdout)
        return tags

    return read


@pytest.fixture
def image():
    return Image.new("RGB", (24, 16), (10, 200, 90))


@pytest.mark.parametrize("source_type", [TRAINED_ALGORITHMIC_MEDIA, COMPOSITE])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_exiftool_reads_the_marks(tmp_path, image, exiftool, suffix, source_type):
    path = tmp_path / f"face{suffix}"
    origin = Origin("faces", "ab" * 32, -3, {"steps": 3}, digital_source_type=source_type)
    write_picture(image, path, origin=origin)
    tags = exiftool(path)
    assert tags["XMP-iptcExt:DigitalSourceType"] == source_type
    assert tags["XMP-dc:Description"] == DESCRIPTION
    assert tags["XMP-xmp:CreatorTool"] == "PULSE"
    settings = tags["XMP-pulse:Settings"]
    settings = settings if isinstance(settings, dict) else json.loads(settings)
    assert settings["generator"] == "faces"
    assert settings["generator_sha256"] == "ab" * 32
    assert (settings["seed"], settings["settings"]) == (-3, {"steps": 3})


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_exiftool_finds_the_capture_time_and_no_other_exif(tmp_path, image, exiftool, suffix):
    path = tmp_path / f"pasted{suffix}"
    write_picture(image, path, origin=ORIGIN, captured=CAPTURED)
    exif = {name: value for name, value in exiftool(path).items() if "IFD" in name or "GPS" in name}
    assert exif["ExifIFD:DateTimeOriginal"] == CAPTURED
    layout = {
        "IFD0:XResolution",
        "IFD0:YResolution",
        "IFD0:ResolutionUnit",
        "IFD0:YCbCrPositioning",
    }
    assert set(exif) - layout == {"ExifIFD:DateTimeOriginal"}


def photograph(path, captured=CAPTURED):
    """A photograph that tells of its camera, place and time, lying on its side."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112] = "Maker", "Model 5", 6
    exif[0x0131] = "Firmware 2"
    exif.get_ifd(0x8825).update({1: "N", 2: (51.0, 30.0, 0.0)})
    exif.get_ifd(0x8769).update({0x9003: captured, 0xA431: "SERIAL-4711"})
    Image.new("RGB", (30, 20), "red").save(path, exif=exif)


def test_of_a_photographs_exif_only_time_and_orientation_are_kept(tmp_path):
    path = tmp_path / "in.jpg"
    photograph(path)
    picture = read_picture(path)
    assert picture.captured == CAPTURED
    assert picture.image.size == (20, 30)
    assert not picture.image.info
    assert not picture.image.getexif()


@pytest.mark.parametrize("captured", ["yesterday at Ann's", "2019:07:01", "", "0" * 5000])
def test_a_capture_time_that_is_none_is_passed_over(tmp_path, captured):
    path = tmp_path / "in.jpg"
    photograph(path, captured)
    assert read_picture(path).captured is None


def test_a_photograph_is_told_for_what_it_is(tmp_path):
    path = tmp_path / "in.jpg"
    photograph(path)
    info = read_info(path)
    assert info.origin is None
    assert info.digital_source_type is None
    assert (info.format, info.width, info.height) == ("JPEG", 30, 20)
    assert (info.camera, info.software, info.captured) == ("Maker Model 5", "Firmware 2", CAPTURED)
    assert info.has_place
    assert info.credentials is None
    assert not info.has_unread_credentials


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_pictures_of_pulse_are_known(tmp_path, image, suffix):
    path = tmp_path / f"face{suffix}"
    write_picture(image, path, origin=ORIGIN)
    info = read_info(path)
    assert info.origin == ORIGIN
    assert info.digital_source_type == TRAINED_ALGORITHMIC_MEDIA
    assert not info.has_place


def test_text_of_others_is_one_plain_line(tmp_path, image):
    text = PngInfo()
    text.add_text("Software", "Paint\n\x1b[31m 3\x00")
    image.save(tmp_path / "a.png", pnginfo=text)
    assert read_info(tmp_path / "a.png").software == "Paint \\x1b[31m 3"


XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    'xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"{}</rdf:RDF></x:xmpmeta>'
)


@pytest.mark.parametrize(
    ("inside", "found"),
    [
        (' e:DigitalSourceType="a/print"/>', "a/print"),
        (">\n<e:DigitalSourceType> a/print\n</e:DigitalSourceType></rdf:Description>", "a/print"),
        ("><e:DigitalSourceType/></rdf:Description>", None),
        ("/>", None),
        (">", None),  # no XML
    ],
)
def test_the_source_type_is_found_in_other_peoples_xmp(inside, found):
    assert digital_source_type_of(XMP.format(inside).encode()) == found


def test_damaged_bytes_are_no_xmp():
    assert digital_source_type_of(b"\xff\xfe\x00") is None
