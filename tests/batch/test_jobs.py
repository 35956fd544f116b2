from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

import pytest
from picture_files import as_nobody

from pulse.batch.jobs import OutputFolders, Source, face_folder, list_sources
from pulse.errors import PictureError
from pulse.images import read_picture


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(inputs, out=Path("/nowhere")):
    return [(source.path.name, str(source.folder)) for source in list_sources(inputs, out)]


def test_folders_are_listed_with_all_below_them_in_a_stable_order(tmp_path):
    touch(tmp_path / "b.JPG", tmp_path / "a.png", tmp_path / "sub/deep/c.webp", tmp_path / "d.heic")
    touch(tmp_path / "notes.txt", tmp_path / ".hidden.png", tmp_path / ".cache/e.png")
    want = [("a.png", "."), ("b.JPG", "."), ("d.heic", "."), ("c.webp", "sub/deep")]
    assert names([tmp_path]) == want


def test_a_file_given_by_name_is_listed_whatever_its_suffix(tmp_path):
    touch(tmp_path / "scan.data")
    assert names([tmp_path / "scan.data"]) == [("scan.data", ".")]


def test_nothing_is_listed_twice(tmp_path):
    touch(tmp_path / "in/a.png")
    assert names([tmp_path / "in", tmp_path / "in/a.png"]) == [("a.png", "in")]


def test_several_folders_keep_their_names(tmp_path):
    touch(tmp_path / "one/a.png", tmp_path / "two/a.png")
    assert names([tmp_path / "one", tmp_path / "two"]) == [("a.png", "one"), ("a.png", "two")]


def test_two_folders_of_one_name_stay_apart(tmp_path):
    touch(tmp_path / "x/faces/a.png", tmp_path / "y/faces/a.png")
    sources = list_sources([tmp_path / "x/faces", tmp_path / "y/faces"], Path("/nowhere"))
    folders = OutputFolders()
    assert [str(folders.of(source)) for source in sources] == ["faces/a", "faces/a.png"]


def test_outputs_of_runs_are_no_inputs(tmp_path):
    touch(tmp_path / "a.png", tmp_path / "out/candidate-01.png")
    touch(tmp_path / "old/run.json", tmp_path / "old/journal.jsonl", tmp_path / "old/x/sheet.png")
    assert names([tmp_path], out=tmp_path / "out") == [("a.png", ".")]


def test_odd_things_are_listed_to_be_refused_by_name(tmp_path):
    (tmp_path / "folder.png").mkdir()
    touch(tmp_path / "folder.png/inside.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    want = [("folder.png", "."), ("inside.png", "folder.png"), ("gone.png", ".")]
    assert names([tmp_path]) == want


def test_links_to_folders_are_not_followed_in_circles(tmp_path):
    touch(tmp_path / "a.png")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert names([tmp_path]) == [("a.png", ".")]


def test_a_missing_input_is_named(tmp_path):
    with pytest.raises(PictureError, match=r"there is no file or folder '.*nowhere'"):
        list(list_sources([tmp_path / "nowhere"], tmp_path))


def test_a_folder_that_cannot_be_listed_does_not_keep_the_others_from_it(tmp_path):
    touch(tmp_path / "in/a.png", tmp_path / "in/locked/b.png", tmp_path / "in/z/c.png")
    (tmp_path / "in/locked").chmod(0)
    with as_nobody(tmp_path):
        assert names([tmp_path / "in"]) == [("a.png", "."), ("locked", "."), ("c.png", "z")]
        with pytest.raises(PictureError, match=r"locked is a folder that cannot be listed: Perm"):
            read_picture(tmp_path / "in/locked")
        with pytest.raises(PictureError, match=r"cannot list the folder '.*locked': Permission"):
            list(list_sources([tmp_path / "in/locked"], tmp_path))
    (tmp_path / "in/locked").chmod(0o755)


def test_names_in_bytes_that_are_no_text_are_listed(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    try:
        touch(tmp_path / name)
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    (source,) = list_sources([tmp_path], Path("/nowhere"))
    folder = OutputFolders().of(source)
    assert str(folder) == "caf_"
    source.key.encode("utf-8", "surrogateescape")


def folders_of(*paths):
    folders = OutputFolders()
    return [str(folders.of(Source(Path(p), PurePosixPath(p).parent))) for p in paths]


def test_pictures_of_one_stem_never_meet():
    assert folders_of("a.jpg", "a.png", "b/a.png") == ["a", "a.png", "b/a"]
    assert folders_of("A.jpg", "a.jpg") == ["A", "a.jpg"]
    assert folders_of("\u00e9.jpg", "e\u0301.jpg") == ["\u00e9", "e\u0301.jpg"]
    assert folders_of("a.png.jpg", "a.jpg", "a.png", "A.PNG")[:3] == ["a.png", "a", "a.png-2"]


@pytest.mark.parametrize("name", ["run.json", "journal.jsonl", "report.html"])
def test_a_run_s_own_files_are_no_folders(name):
    assert folders_of(f"{name}.png") == [f"{name}.png"]


def test_a_folder_of_candidates_is_no_candidate():
    assert folders_of("candidate-01.png.png", "low_res.png.png", "x.face-2.png") == [
        "candidate-01.png.png-2",
        "low_res.png.png-2",
        "x.face-2.png",
    ]


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("two words.png", "two words"),
        ("line\nbreak.png", "line_break"),
        ("тест 顔.png", "тест 顔"),
        ('<>:"|?*.png', "_______"),
        ("dots...png", "dots"),
    ],
)
def test_odd_names_become_names_that_every_system_takes(name, folder):
    assert folders_of(name) == [folder]


def test_long_names_are_cut_and_stay_different():
    one, two = folders_of("x" * 300 + "1.png", "x" * 300 + "2.png")
    assert one != two
    assert len(one.encode()) < 220
    assert len(folders_of("顔" * 100 + ".png")[0].encode()) < 220


def test_a_source_keeps_its_folder_from_run_to_run():
    folders = OutputFolders([(os.path.abspath("b/a.png"), "a")])  # noqa: PTH100
    assert str(folders.of(Source(Path("a.jpg"), PurePosixPath()))) == "a.jpg"
    assert str(folders.of(Source(Path("b/a.png"), PurePosixPath()))) == "a"


def test_face_folders():
    assert face_folder(PurePosixPath("x/a"), 1, 1) == PurePosixPath("x/a")
    assert face_folder(PurePosixPath("x/a"), 2, 3) == PurePosixPath("x/a.face-2")
