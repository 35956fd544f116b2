"""Picture files made for the tests: known colours, encodings and colour profiles."""

from __future__ import annotations

import io
import os
import struct
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pulse.errors import PictureError
from pulse.images import read_picture

JPEG_TOLERANCE = 3  # levels: flat blocks of 16 px lose little but rounding in YCbCr


COLOURS = np.array(
    [
        [[250, 20, 30], [20, 240, 40], [30, 20, 250]],
        [[128, 128, 128], [250, 250, 20], [10, 10, 10]],
    ],
    dtype=np.uint8,
)


SCENE = COLOURS.repeat(16, axis=0).repeat(16, axis=1)  # (32, 48, 3): no symmetry at all


# Colours inside every gamut.
MUTED = np.uint8([[[200, 100, 90], [90, 150, 80], [60, 80, 180], [128, 128, 128], [0, 0, 0]]])


def pixels_of(path: Path, **options) -> np.ndarray:
    picture = read_picture(path, **options)
    assert picture.image.mode == "RGB"
    assert picture.path == path
    return np.asarray(picture.image)


def difference(got: np.ndarray, expected: np.ndarray) -> int:
    assert got.shape == expected.shape
    return int(np.abs(got.astype(int) - expected.astype(int)).max())


def message_of(path: Path, **options) -> str:
    with pytest.raises(PictureError) as caught:
        read_picture(path, **options)
    message = str(caught.value)
    assert message.isprintable()  # one line of plain characters
    return message


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# Columns are the primaries in XYZ, adapted to D50, as the profiles of these names have them.
SRGB = np.array(
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
)


ADOBE = np.array(
    [[0.60974, 0.31111, 0.14922], [0.20528, 0.62567, 0.06322], [0.01949, 0.06087, 0.74457]]
)


DISPLAY_P3 = np.array(
    [[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]
)


GAMMA = 2.19921875  # 563 / 256, exact in the profile's number format


def icc_profile(space: bytes, tags: dict[bytes, bytes], description: bytes = b"test") -> bytes:
    """A profile of ICC.1:2001-04, the smallest that a colour engine accepts."""
    text = description + b"\0"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78),
        b"wtpt": xyz([0.9642, 1.0, 0.8249]),
        **tags,
    }
    offset, table, bodies = 128 + 4 + 12 * len(tags), b"", b""
    for name, body in tags.items():
        table += name + struct.pack(">II", offset + len(bodies), len(body))
        bodies += body + bytes(-len(body) % 4)
    size = offset + len(bodies)
    kind = b"prtr" if space == b"CMYK" else b"mntr"
    connection = b"Lab " if space == b"CMYK" else b"XYZ "
    header = struct.pack(">I4xI", size, 0x02400000) + kind + space + connection
    header += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + bodies


def xyz(values) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(struct.pack(">i", round(v * 65536)) for v in values)


def curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def sampled_curve(linear: np.ndarray) -> bytes:
    values = np.rint(linear * 65535).astype(">u2")
    return b"curv" + bytes(4) + struct.pack(">I", len(values)) + values.tobytes()


def rgb_profile(
    primaries: np.ndarray, transfer: float | bytes = GAMMA, description: bytes = b"test"
) -> bytes:
    body = transfer if isinstance(transfer, bytes) else curve(transfer)
    tags = {b"%cXYZ" % name: xyz(column) for name, column in zip(b"rgb", primaries.T, strict=True)}
    tags |= {b"%cTRC" % name: body for name in b"rgb"}
    return icc_profile(b"RGB ", tags, description)


def grey_profile(gamma: float) -> bytes:
    return icc_profile(b"GRAY", {b"kTRC": curve(gamma)})


@contextmanager
def as_nobody(folder: Path):
    """Without root's rights to read everything; pytest's closed folders are opened meanwhile.

    Pillow loads its formats when they are first needed, and for good passes over those that it
    cannot load: here they are loaded before, for packages in folders that are root's alone.
    """
    Image.init()
    parents = [] if os.geteuid() else [folder, *folder.parents]
    modes = {parent: parent.stat().st_mode for parent in parents if not parent.stat().st_mode & 1}
    for parent in modes:
        parent.chmod(0o755)
    try:
        os.seteuid(os.geteuid() or 65534)
    except OSError:
        pytest.skip("root, and there is no other user to become")
    try:
        yield
    finally:
        os.seteuid(os.getuid())
        for parent, mode in modes.items():
            parent.chmod(mode)


def tiff_of_16_bits(values: np.ndarray) -> bytes:
    height, width, _ = values.shape
    entries = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, 8 + 2 + 9 * 12 + 4), (259, 3, 1, 1),
        (262, 3, 1, 2), (273, 4, 1, 8 + 2 + 9 * 12 + 4 + 6), (277, 3, 1, 3), (278, 3, 1, height),
        (279, 4, 1, values.size * 2),
    ]  # fmt: skip
    folder = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    bits = struct.pack("<HHH", 16, 16, 16)
    start = b"II*\0" + struct.pack("<IH", 8, len(entries))
    return start + folder + bytes(4) + bits + values.astype("<u2").tobytes()
