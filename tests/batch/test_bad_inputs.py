"""One folder with every kind of bad input: each gets one record, the rest goes on."""

from __future__ import annotations

import os
import shutil
import struct
import zlib

import pytest
from picture_files import as_nobody

from pulse.batch.journal import Journal
from pulse.batch.runner import Runner
from pulse.batch.watcher import Watcher
from pulse.settings import SearchSettings, UpscaleSettings

SETTINGS = UpscaleSettings(candidates=1, search=SearchSettings(steps=1))
ODD_NAMES = (
    "two words.png",
    "\u0442\u0435\u0441\u0442 \u9854.png",
    "new\nline.png",
    "tab\t'quote\".png",
)
WHY = {
    "truncated.png": "is damaged or cut short",
    "empty.png": "is empty: 0 bytes",
    "bomb.png": "more than 178,956,970 pixels",
    "text.jpg": "is not a picture that PULSE can read",
    "locked.png": "Permission denied; ask its owner",
    "locked folder": "is a folder that cannot be listed: Permission denied",
    "x.png": "is a folder where a picture is expected",
    "broken link.png": "it is a link to a file that is not there",
    "empty\nodd.png": "is empty: 0 bytes",
}


def bomb():
    """A few bytes of PNG that claim 60,000 x 60,000 pixels."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(1000))),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


@pytest.fixture
def folder(tmp_path, low_res_folder):
    base = tmp_path / "in"
    base.mkdir()
    good = sorted(low_res_folder.glob("*.png"))
    for name, path in zip((*ODD_NAMES, "png inside.jpg", "locked.png"), good, strict=False):
        shutil.copy(path, base / name)
    (base / "truncated.png").write_bytes(good[0].read_bytes()[:400])
    (base / "bomb.png").write_bytes(bomb())
    (base / "text.jpg").write_text("no picture")
    for name in ("empty.png", "empty\nodd.png"):
        (base / name).write_bytes(b"")
    for name in ("x.png", "locked folder"):
        (base / name).mkdir()
        shutil.copy(good[-1], base / name / "inside.png")
    (base / "broken link.png").symlink_to("nowhere")
    for name in ("locked.png", "locked folder"):
        (base / name).chmod(0)
    yield base
    (base / "locked folder").chmod(0o755)


def test_each_bad_input_gets_one_record_and_the_rest_goes_on(
    folder, tmp_path, small_generator, pulse_home
):
    # what is loaded at the first use is loaded while everything can be read
    Runner(tmp_path / "first", small_generator, SETTINGS).run([folder / "two words.png"])
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o777)
    heard = []
    with as_nobody(tmp_path):
        watcher = Watcher(on_record=heard.append)
        summary = Runner(out, small_generator, SETTINGS, watcher=watcher).run([folder])
    records = list(Journal(out).read())
    assert heard == records
    failed = {os.path.relpath(r.source, folder): r for r in records if r.status == "failed"}
    assert failed.keys() == WHY.keys()
    for name, record in failed.items():
        assert WHY[name] in record.reason
        assert ascii(name)[1:-1] in record.reason  # it names the file,
        assert record.reason.isprintable()  # on one line
    saved = {os.path.relpath(r.source, folder) for r in records if r.output}
    assert saved == {*ODD_NAMES, "png inside.jpg", "x.png/inside.png"}
    assert len(records) == len(failed) + len(saved)
    assert all((out / r.output).is_file() for r in records if r.output)
    assert not summary.is_complete
