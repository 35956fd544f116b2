"""A folder of pictures, its groups and its cache."""

from __future__ import annotations

import shutil
from collections import Counter

import pytest
import torch
from PIL import Image

from pulse.errors import PulseError
from pulse.training.data import load_pictures
from pulse.training.randomness import stream


@pytest.fixture
def folder(faces, tmp_path):
    copy = tmp_path / "faces"
    shutil.copytree(faces, copy)
    return copy


def load(folder, tmp_path, resolution=32, labels=None):
    return load_pictures(folder, resolution, labels, tmp_path / "cache")


def test_pictures_come_in_the_networks_range(pictures, faces):
    x = pictures.take([3])
    with Image.open(faces / pictures.names[3]) as image:
        red = image.getpixel((5, 7))[0]
    assert x.shape == (1, 3, 32, 32)
    assert x[0, 0, 7, 5] == pytest.approx(red / 127.5 - 1)


def test_every_group_is_drawn_as_often(pictures):
    """16 dark of 64: without balance one in four."""
    assert {group: len(places) for group, places in pictures.members.items()} == {
        "dark": 16, "light": 48,
    }  # fmt: skip
    rng = stream(0, "test", 0)
    x = pictures.draw(400, rng, mirror=False)
    dark = {tuple(pictures.take([i]).flatten().tolist()) for i in pictures.members["dark"]}
    counts = Counter(tuple(picture.flatten().tolist()) in dark for picture in x)
    assert 160 < counts[True] < 240  # 200 expected, four deviations of 10


def test_half_of_the_pictures_are_mirrored(pictures):
    plain = pictures.draw(200, stream(0, "test", 0), mirror=False)
    drawn = pictures.draw(200, stream(0, "test", 0), mirror=True)
    turned = (drawn == plain.flip(3)).flatten(1).all(1)
    same = (drawn == plain).flatten(1).all(1)
    assert (turned | same).all()
    assert 70 < turned.sum() < 130


def test_the_fixed_pictures_are_spread_over_each_group(pictures):
    places = pictures.fixed(4)
    assert [pictures.groups[place] for place in places] == ["dark"] * 4 + ["light"] * 4
    assert places == sorted(set(places), key=places.index)


def test_labels_are_found_by_the_stem_and_before_the_face(folder, tmp_path):
    (folder / "00.png").rename(folder / "00.face-1.png")
    text = (folder / "labels.csv").read_text().replace("01.png", "01.jpg")
    (folder / "labels.csv").write_text(text)
    found = load(folder, tmp_path)
    groups = dict(zip(found.names, found.groups, strict=True))
    assert (groups["00.face-1.png"], groups["01.png"]) == ("dark", "light")


def test_without_labels_all_are_of_one_group(folder, tmp_path):
    (folder / "labels.csv").unlink()
    assert set(load(folder, tmp_path).groups) == {"all"}


def test_what_was_read_is_kept_until_a_file_changes(folder, tmp_path):
    first = load(folder, tmp_path)
    kept = tmp_path / "cache" / "data-32.safetensors"
    written = kept.stat().st_mtime_ns
    assert torch.equal(load(folder, tmp_path).pixels, first.pixels)
    assert kept.stat().st_mtime_ns == written
    Image.new("RGB", (40, 40), (9, 9, 9)).save(folder / "00.png")
    assert load(folder, tmp_path).pixels[0].unique().tolist() == [9]
    kept.write_bytes(b"damaged")
    assert load(folder, tmp_path).pixels[0].unique().tolist() == [9]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("file,group\n00.png,dark", r"has no row for 01.png and 62 more; add a row for each"),
        ("name,tone\n00.png,dark", r"has no columns 'file' and 'group'; give it a first line"),
        ("", r"has no columns 'file' and 'group'"),
    ],
)
def test_labels_that_do_not_fit(folder, tmp_path, labels, message):
    (folder / "labels.csv").write_text(labels)
    with pytest.raises(PulseError, match=message):
        load(folder, tmp_path)


def test_labels_that_are_not_there(folder, tmp_path):
    with pytest.raises(PulseError, match=r"cannot read .*mine.csv: .*; save it as CSV"):
        load(folder, tmp_path, labels=tmp_path / "mine.csv")


def test_too_few_and_too_small_pictures(folder, tmp_path):
    with pytest.raises(PulseError, match=r"00.png is 32 px a side, smaller than the .* of 64"):
        load(folder, tmp_path, resolution=64)
    for i in range(7, 64):
        (folder / f"{i:02}.png").unlink()
    with pytest.raises(PulseError, match=r"has 7 pictures, too few to train on; give 8 or more"):
        load(folder, tmp_path)
