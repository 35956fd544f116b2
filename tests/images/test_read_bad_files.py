"""Files that are damaged, hostile, or no pictures at all: a picture or a clear line comes out."""

from __future__ import annotations

import os
import signal
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from picture_files import (
    ADOBE,
    SCENE,
    as_nobody,
    encoded,
    message_of,
    pixels_of,
    rgb_profile,
    tiff_of_16_bits,
)
from PIL import Image

import pulse.images.read
from pulse.errors import PictureError
from pulse.images import read_picture

KINDS = {
    "PNG": {},
    "JPEG": {"quality": 80},
    "WEBP": {},
    "BMP": {},
    "TIFF": {},
    "lzw": {"compression": "tiff_lzw"},
    "HEIF": {},
}


def with_everything(kind: str) -> bytes:
    """A picture with EXIF data and a profile, so that there is more to damage."""
    exif = Image.Exif()
    exif[0x0112] = 6
    extra = {} if kind == "BMP" else {"exif": exif, "icc_profile": rgb_profile(ADOBE)}
    real = "TIFF" if kind == "lzw" else kind
    return encoded(Image.fromarray(SCENE), real, **KINDS[kind], **extra)


def assert_read_or_refused(path: Path) -> str | None:
    try:
        picture = read_picture(path)
    except PictureError as error:
        message = str(error)
    else:
        assert picture.image.mode == "RGB"
        return None
    assert str(path) in message
    assert message.isprintable()
    return message


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files_are_read_or_refused(tmp_path, kind):
    data = with_everything(kind)
    path = tmp_path / "cut"
    offsets = {*range(1, min(len(data), 300), 3), *range(300, len(data), len(data) // 60 + 1)}
    refused = 0
    for offset in sorted(offsets):
        path.write_bytes(data[:offset])
        refused += assert_read_or_refused(path) is not None
    assert refused > len(offsets) // 3  # a file without its last bytes may be complete


@pytest.mark.parametrize("kind", KINDS)
def test_files_with_wrong_bytes_are_read_or_refused(tmp_path, kind):
    data = with_everything(kind)
    path = tmp_path / "wrong"
    rng = np.random.default_rng(5)
    messages = set()
    for _ in range(60):
        damaged = bytearray(data)
        for place in rng.integers(0, min(len(data), 600), size=3):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        messages.add(assert_read_or_refused(path))
    assert len(messages) > 1


@pytest.mark.parametrize(("kind", "share"), [("PNG", 0.7), ("JPEG", 0.9), ("BMP", 0.5)])
def test_a_picture_cut_short_says_so(tmp_path, kind, share):
    data = encoded(Image.fromarray(SCENE), kind)
    path = tmp_path / "cut"
    path.write_bytes(data[: int(len(data) * share)])
    message = message_of(path)
    assert message.startswith(f"{path} is damaged or cut short (")
    assert message.endswith("); copy or download it again")


@pytest.mark.parametrize(
    ("data", "guess"),
    [
        (b"hello\n", ""),
        (b"\n <!DOCTYPE html><html>", ": it is a web page, perhaps a failed download"),
        (b"<HTML>", ": it is a web page, perhaps a failed download"),
        (b"%PDF-1.7\n", ": it is a PDF document"),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            ": it is the placeholder of a Git LFS file that was not fetched",
        ),
        (bytes(100), ""),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path, data, guess):
    path = tmp_path / "face.png"
    path.write_bytes(data)
    assert message_of(path) == (
        f"{path} is not a picture that PULSE can read{guess}; "
        "give PNG, JPEG, WebP, BMP, TIFF or HEIC"
    )


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "face.png"
    path.touch()
    assert message_of(path) == f"{path} is empty: 0 bytes; copy or download it again"


def bomb(width: int, height: int) -> bytes:
    data = bytearray(encoded(Image.new("RGB", (1, 1)), "PNG"))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


@pytest.mark.parametrize(
    ("size", "limit", "claim"),
    [
        ((60000, 60000), {}, "more than 178,956,970 pixels"),
        ((60000, 60000), {"max_pixels": 10**12}, "more than 178,956,970 pixels"),
        ((12000, 12000), {"max_pixels": 10**8}, "12000 x 12000 pixels, more than 100,000,000"),
    ],
)
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path, size, limit, claim):
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(*size))
    start = time.process_time()
    message = message_of(path, **limit)
    # To decode even the smaller takes a second and 400 MB; to read a header, a millisecond.
    assert time.process_time() - start < 0.2
    assert message == f"{path} claims {claim}; crop or reduce it if it is real"


def test_a_picture_at_the_limit_is_read(tmp_path):
    path = tmp_path / "scene.png"
    Image.fromarray(SCENE).save(path)
    assert np.array_equal(pixels_of(path, max_pixels=32 * 48), SCENE)
    assert "claims 48 x 32 pixels" in message_of(path, max_pixels=32 * 48 - 1)


def test_a_picture_without_pixels_is_refused(tmp_path):
    path = tmp_path / "none.tif"
    data = bytearray(tiff_of_16_bits(SCENE.astype(np.uint16)))
    data[10 + 8 : 10 + 10] = bytes(2)  # the width, in the first entry
    path.write_bytes(data)
    assert message_of(path).startswith(f"{path} is not a picture that PULSE can read;")


def test_a_file_too_long_for_a_picture_is_not_read(tmp_path):
    path = tmp_path / "long.png"
    with path.open("wb") as file:
        file.truncate(2**31 + 1)  # takes no room on the disk
    start = time.process_time()
    message = message_of(path)
    assert time.process_time() - start < 0.2
    assert message == f"{path} has 2,147,483,649 bytes, too many for a picture; crop or reduce it"


def test_too_little_memory_is_said(tmp_path, monkeypatch):
    def exhausted(_image, _background):
        raise MemoryError

    path = tmp_path / "scene.png"
    Image.fromarray(SCENE).save(path)
    monkeypatch.setattr(pulse.images.read, "upright_srgb", exhausted)
    assert message_of(path) == (
        f"{path} needs more memory than there is; crop or reduce it, or free memory"
    )


def test_a_missing_file(tmp_path):
    path = tmp_path / "face.png"
    assert message_of(path) == f"cannot read {path}: No such file or directory; check the path"


def test_a_folder_with_the_name_of_a_picture(tmp_path):
    path = tmp_path / "x.png"
    path.mkdir()
    assert message_of(path) == (
        f"{path} is a folder where a picture is expected; rename or move it"
    )


def test_links(tmp_path):
    Image.fromarray(SCENE).save(tmp_path / "scene.png")
    good, broken, loop = tmp_path / "good.png", tmp_path / "broken.png", tmp_path / "loop.png"
    good.symlink_to("scene.png")
    broken.symlink_to("nowhere.png")
    loop.symlink_to("loop.png")
    assert np.array_equal(pixels_of(good), SCENE)
    assert message_of(broken) == (
        f"cannot read {broken}: it is a link to a file that is not there; mend or remove the link"
    )
    assert message_of(loop) == (
        f"cannot read {loop}: it is a link that leads back to itself; remove the link"
    )


def test_a_pipe_is_not_waited_for(tmp_path):
    def overdue(_signal, _frame):
        pytest.fail("the pipe was opened")

    path = tmp_path / "pipe.png"
    os.mkfifo(path)
    before = signal.signal(signal.SIGALRM, overdue)
    signal.alarm(5)
    try:
        message = message_of(path)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert message == (
        f"{path} is a pipe or a device where a picture is expected; save it as a file first"
    )


@pytest.mark.parametrize("locked", ["the file", "its folder"])
def test_a_file_without_the_right_to_read_it(tmp_path, locked):
    path = tmp_path / "closed" / "secret.png"
    path.parent.mkdir()
    Image.fromarray(SCENE).save(path)
    target = path if locked == "the file" else path.parent
    target.chmod(0)
    with as_nobody(tmp_path):
        message = message_of(path)
    target.chmod(0o755)
    assert message == (
        f"cannot read {path}: Permission denied; ask its owner for the right to read it"
    )


NAMES = {
    b"a face.png": "a face.png",
    "Gesicht-\u00fc-\u9854.png".encode(): "Gesicht-\u00fc-\u9854.png",
    b"two\nlines.png": r"two\nlines.png",
    b"not-utf8-\xff.png": r"not-utf8-\udcff.png",
}


@pytest.mark.parametrize(("name", "shown"), NAMES.items(), ids=list(NAMES.values()))
def test_names_of_every_kind(tmp_path, name, shown):
    path = tmp_path / os.fsdecode(name)
    Image.fromarray(SCENE).save(path, "PNG")
    assert np.array_equal(pixels_of(path), SCENE)
    path.write_bytes(b"")
    assert message_of(path) == f"{tmp_path}/{shown} is empty: 0 bytes; copy or download it again"


@pytest.mark.parametrize(
    ("name", "reason"), [("a\0b.png", "embedded null byte"), ("a" * 300, "File name too long")]
)
def test_impossible_names(tmp_path, name, reason):
    path = tmp_path / name
    shown = str(path).replace("\0", r"\x00")
    assert message_of(path) == f"cannot read {shown}: {reason}; check the path"
