from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from picture_files import as_nobody

from pulse.errors import PulseError
from pulse.files import (
    cache_dir,
    make_folder,
    printable_path,
    write_bytes_atomically,
    write_text_atomically,
)

REMEDY = "check the folder, its permissions and the free space"


def message_of(path: Path, data: bytes = b"new") -> str:
    with pytest.raises(PulseError) as caught:
        write_bytes_atomically(path, data)
    return str(caught.value)


@pytest.mark.parametrize("old", [None, b"a longer old content"])
def test_a_file_is_written_or_replaced(tmp_path, old):
    path = tmp_path / "run.json"
    if old:
        path.write_bytes(old)
    write_bytes_atomically(path, b"new\r\n\0")
    assert path.read_bytes() == b"new\r\n\0"
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_utf_8_and_its_lines_stay(tmp_path):
    path = tmp_path / "run.json"
    write_text_atomically(path, "é\n\u9854\r\n")
    assert path.read_bytes() == b"\xc3\xa9\n\xe9\xa1\x94\r\n"


def failing(number: int):
    def fail(*_args, **_kwargs):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("module", "call", "number"),
    [(os, "fsync", errno.ENOSPC), (os, "fsync", errno.EIO), (Path, "replace", errno.EXDEV)],
)
def test_the_old_file_stays_whole_when_writing_fails(tmp_path, monkeypatch, module, call, number):
    path = tmp_path / "run.json"
    path.write_bytes(b"old")
    monkeypatch.setattr(module, call, failing(number))
    assert message_of(path) == f"cannot write {path}: {os.strerror(number)}; {REMEDY}"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_appears_only_once_it_is_on_the_disk(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    path.write_bytes(b"old")
    seen = []

    def synchronise(descriptor):
        seen.append((path.read_bytes(), os.fstat(descriptor).st_size))

    monkeypatch.setattr(os, "fsync", synchronise)
    write_bytes_atomically(path, b"brand new")
    assert seen == [(b"old", 9)]


def test_an_interrupted_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(_descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes_atomically(tmp_path / "run.json", b"new")
    assert not list(tmp_path.iterdir())


def test_an_error_without_a_number_is_told_in_its_own_words(tmp_path, monkeypatch):
    def fail(_descriptor):
        raise OSError("the cable is out")

    monkeypatch.setattr(os, "fsync", fail)
    path = tmp_path / "run.json"
    assert message_of(path) == f"cannot write {path}: the cable is out; {REMEDY}"


def test_a_missing_folder(tmp_path):
    path = tmp_path / "nowhere" / "run.json"
    assert message_of(path) == f"cannot write {path}: No such file or directory; {REMEDY}"


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    path = tmp_path / "file" / "run.json"
    assert message_of(path) == f"cannot write {path}: Not a directory; {REMEDY}"
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_folder_in_place_of_the_file(tmp_path):
    path = tmp_path / "run.json"
    path.mkdir()
    assert message_of(path) == f"cannot write {path}: Is a directory; {REMEDY}"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_that_is_too_long(tmp_path):
    path = tmp_path / ("a" * 256)
    assert message_of(path) == f"cannot write {path}: File name too long; {REMEDY}"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", [0o555, 0o000], ids=["read-only", "closed"])
def test_a_folder_without_the_right_to_write(tmp_path, mode):
    path = tmp_path / "locked" / "run.json"
    path.parent.mkdir()
    path.write_bytes(b"old")
    path.parent.chmod(mode)
    with as_nobody(tmp_path):
        message = message_of(path)
    path.parent.chmod(0o755)
    assert message == f"cannot write {path}: Permission denied; {REMEDY}"
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("faces/a b.png", "faces/a b.png"),
        ("Gesicht-ü-\u9854.png", "Gesicht-ü-\u9854.png"),
        ("it's.png", "it's.png"),
        ("two\nlines.png", r"two\nlines.png"),
        ("it's\ttwo.png", r"it's\ttwo.png"),
        ("'\"\n.png", r"\'" + r'"\n.png'),
        ("colour\x1b[31m.png", r"colour\x1b[31m.png"),
        ("not-utf8-\udcff.png", r"not-utf8-\udcff.png"),
        ("turned\u202e.png", r"turned\u202e.png"),
    ],
)
def test_paths_are_shown_on_one_line(path, shown):
    assert printable_path(Path(path)) == shown


def test_the_cache_is_the_users_unless_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PULSE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.setenv("PULSE_HOME", "")
    users = cache_dir()
    assert users.is_absolute()
    assert users.name == "pulse"
    monkeypatch.delenv("PULSE_HOME")
    assert cache_dir() == users


def test_folders_are_made_below_one_that_has_to_be_there(tmp_path):
    base = tmp_path / "out"
    with pytest.raises(
        PulseError, match=r"cannot make the folder .*a/b: No such file or directory"
    ):
        make_folder(base / "a" / "b", within=base)
    assert not base.exists()
    base.mkdir()
    for _ in range(2):
        make_folder(base / "a" / "b", within=base)
    assert (base / "a" / "b").is_dir()
