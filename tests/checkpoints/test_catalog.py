from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pulse.checkpoints.catalog import CATALOG, find_entry, unknown_name_text
from pulse.checkpoints.load import EMBEDDED_SHA256, embedded_path
from pulse.settings import EMBEDDED

HOSTS = {"github.com", "nvlabs-fi-cdn.nvidia.com", "api.ngc.nvidia.com"}


@pytest.mark.parametrize("field", ["name", "file_name", "address"])
def test_no_two_rows_share_a_name_a_file_or_an_address(field):
    counts = Counter(getattr(entry, field).lower() for entry in CATALOG if getattr(entry, field))
    assert [value for value, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.name)
def test_a_row_says_where_the_file_is_and_what_it_is(entry):
    assert (entry.address is None) != (entry.by_hand is None)
    if entry.address:
        parts = urlsplit(entry.address)
        assert parts.scheme == "https"
        assert parts.hostname in HOSTS
    assert Path(entry.file_name).name == entry.file_name  # no folder in it
    assert entry.architecture in ("stylegan1", "stylegan2", "stylegan3")
    assert entry.architecture in entry.name or entry.name == EMBEDDED
    assert str(entry.resolution) in entry.name
    assert entry.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
    assert entry.size_bytes is None or 10_000_000 < entry.size_bytes < 500_000_000
    assert entry.licence
    assert entry.note
    assert entry.non_commercial == (entry.name != EMBEDDED)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (
            "stylegan2-ada-ffhq-1024",
            "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/ffhq.pkl",
        ),
        (
            "stylegan2-celebahq-256",
            "https://api.ngc.nvidia.com/v2/models/nvidia/research/stylegan2/versions/1/files/"
            "stylegan2-celebahq-256x256.pkl",
        ),
        (
            "stylegan3-r-ffhqu-256",
            "https://api.ngc.nvidia.com/v2/models/nvidia/research/stylegan3/versions/1/files/"
            "stylegan3-r-ffhqu-256x256.pkl",
        ),
    ],
)
def test_addresses_are_those_that_nvidia_gives(name, address):
    assert find_entry(name).address == address


def test_the_embedded_generator_is_the_file_that_comes_with_pulse():
    entry = find_entry(EMBEDDED)
    assert entry.sha256 == EMBEDDED_SHA256
    assert entry.file_name == embedded_path().name
    assert entry.size_bytes == embedded_path().stat().st_size


def test_an_entry_is_found_by_its_name():
    assert find_entry("stylegan2-ffhq-256").resolution == 256
    assert find_entry("StyleGAN2-FFHQ-256") is find_entry("stylegan2-ffhq-256")
    assert find_entry("stylegan2-ffhq") is None


def test_an_unknown_name_is_met_with_the_nearest():
    assert unknown_name_text("stylegan2-fhq-512").startswith(
        "there is no generator 'stylegan2-fhq-512' in the catalogue; did you mean "
        "stylegan2-ffhq-512 or "
    )


def test_a_name_near_to_none_is_sent_to_the_list():
    text = unknown_name_text("zzz")
    assert text == "there is no generator 'zzz' in the catalogue; see: pulse weights list"
