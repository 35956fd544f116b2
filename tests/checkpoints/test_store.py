from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pulse.checkpoints.catalog import CATALOG
from pulse.checkpoints.store import (
    is_present,
    known_sha256,
    path_of,
    record_sha256,
    verify,
)
from pulse.errors import WeightsError

CONTENT = b"weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ENTRY = replace(CATALOG[1], file_name="weights.pkl", sha256=None)
REPOSITORY = Path(__file__).parents[2]


def message_of(entry, folder) -> str:
    with pytest.raises(WeightsError) as caught:
        verify(entry, folder)
    message = str(caught.value)
    assert message.isprintable()
    return message


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "weights.pkl").write_bytes(CONTENT)
    return tmp_path


def test_a_file_is_present_once_it_has_its_name(tmp_path):
    path = path_of(ENTRY, tmp_path)
    assert path == tmp_path / "weights.pkl"
    path.with_name("weights.pkl.part").write_bytes(b"weig")
    assert not is_present(ENTRY, tmp_path)
    path.write_bytes(CONTENT)
    assert is_present(ENTRY, tmp_path)


def test_a_file_of_which_nothing_is_known_is_taken_as_it_is(folder):
    assert known_sha256(ENTRY, folder) is None
    assert verify(ENTRY, folder) == SHA256


def test_the_catalogue_decides_before_the_record(folder):
    record_sha256(ENTRY, folder, "f" * 64)
    assert known_sha256(ENTRY, folder) == "f" * 64
    assert verify(replace(ENTRY, sha256=SHA256), folder) == SHA256


@pytest.mark.parametrize("where", ["catalogue", "record"])
def test_a_file_that_is_not_what_it_was_is_refused(folder, where):
    entry = replace(ENTRY, sha256=SHA256 if where == "catalogue" else None)
    record_sha256(ENTRY, folder, SHA256)
    path_of(entry, folder).write_bytes(b"altered")
    altered = hashlib.sha256(b"altered").hexdigest()
    assert message_of(entry, folder) == (
        f"the generator {folder / 'weights.pkl'} has SHA-256 {altered}, expected {SHA256}: it was "
        "damaged or replaced; delete it and download it again"
    )


def test_a_missing_file(tmp_path):
    assert message_of(ENTRY, tmp_path) == (
        f"cannot read the generator {tmp_path / 'weights.pkl'}: No such file or directory"
    )


@pytest.mark.parametrize("text", ["{", "[]", '{"weights.pkl": 1}', "\xff"])
def test_a_damaged_record_is_told_and_not_overwritten(folder, text):
    record = folder / "known_hashes.json"
    record.write_text(text, encoding="latin-1")
    expected = (
        f"{record} is damaged: it should give a SHA-256 for each file name; correct it, or delete "
        "it to trust the files as they are"
    )
    assert message_of(ENTRY, folder) == expected
    with pytest.raises(WeightsError, match="is damaged"):
        record_sha256(ENTRY, folder, SHA256)
    assert record.read_text(encoding="latin-1") == text


def test_a_record_that_cannot_be_read(folder):
    (folder / "known_hashes.json").mkdir()
    assert message_of(ENTRY, folder) == (
        f"cannot read {folder / 'known_hashes.json'}: Is a directory"
    )


def test_a_record_that_cannot_be_written(tmp_path):
    folder = tmp_path / "missing"
    with pytest.raises(WeightsError) as caught:
        record_sha256(ENTRY, folder, SHA256)
    assert str(caught.value) == (
        f"cannot write {folder / 'known_hashes.json'}: No such file or directory; check the "
        "folder, its permissions and the free space"
    )


RECORD_MANY = """
import sys
from dataclasses import replace
from pathlib import Path
from pulse.checkpoints.catalog import CATALOG
from pulse.checkpoints.store import record_sha256
for k in range(25):
    entry = replace(CATALOG[1], file_name=f"{sys.argv[2]}-{k}")
    record_sha256(entry, Path(sys.argv[1]), "0" * 64)
"""


def test_processes_that_record_at_once_lose_nothing(tmp_path):
    processes = [
        subprocess.Popen([sys.executable, "-c", RECORD_MANY, tmp_path, name], cwd=REPOSITORY)
        for name in ("first", "second")
    ]
    assert [process.wait(30) for process in processes] == [0, 0]
    assert len(json.loads((tmp_path / "known_hashes.json").read_text())) == 50
