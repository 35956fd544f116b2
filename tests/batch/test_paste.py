"""Runs that paste candidates back into their photographs."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from helpers import tree_of
from PIL import Image

from pulse.batch.jobs import OutputFolders, Source
from pulse.batch.journal import Journal
from pulse.batch.paste import DESCRIPTION
from pulse.batch.runner import Runner
from pulse.batch.watcher import Watcher
from pulse.errors import PulseError
from pulse.images import read_origin, read_picture
from pulse.images.info import read_info
from pulse.images.origin import COMPOSITE
from pulse.settings import PasteSettings, RunSettings, SearchSettings, UpscaleSettings

SETTINGS = UpscaleSettings(candidates=2, search=SearchSettings(steps=3))
PASTE = PasteSettings()


@pytest.fixture
def folder(tmp_path):
    """A square picture of 8 px and a wide one."""
    base = tmp_path / "in"
    base.mkdir()
    image = Image.linear_gradient("L").resize((8, 8)).convert("RGB")
    image.save(base / "a.png")
    wide = Image.new("RGB", (14, 8), (200, 30, 60))
    wide.paste(image, (3, 0))
    wide.save(base / "wide.png")
    return base


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def run(small_generator, folder, out):
    def run_it(paste=PASTE, settings=SETTINGS, inputs=None, watcher=None, **run_settings):
        run_settings = RunSettings(batch_size=2, paste=paste, **run_settings)
        runner = Runner(out, small_generator, settings, run_settings, watcher)
        return runner.run(inputs or [folder])

    return run_it


def pasted_in(folder):
    return sorted(path.name for path in folder.glob("pasted*"))


@pytest.mark.parametrize(
    ("pick", "scale", "names"),
    [
        ("best", 1.0, ["pasted.png"]),
        ("all", 1.0, ["pasted-01.png", "pasted-02.png"]),
        (2, 4.0, ["pasted-02-x4.png"]),
        ("best", 2.5, ["pasted-x2.5.png"]),
    ],
)
def test_names_say_what_was_picked_and_the_size(run, out, pick, scale, names):
    run(PasteSettings(pick, scale))
    for name, (width, height) in (("a", (8, 8)), ("wide", (14, 8))):
        assert pasted_in(out / name) == names
        for path in names:
            size = read_picture(out / name / path).image.size
            assert size == (round(width * scale), round(height * scale))


def test_the_best_candidate_is_pasted(run, out):
    run(PasteSettings("all", 4))
    run(PasteSettings("best", 4))
    for name in ("a", "wide"):
        records = [r for r in Journal(out).read() if r.folder == name]
        best = min(records, key=lambda record: record.error).candidate
        one = read_picture(out / name / f"pasted-{best:02d}-x4.png").image.tobytes()
        other = read_picture(out / name / f"pasted-{3 - best:02d}-x4.png").image.tobytes()
        assert read_picture(out / name / "pasted-x4.png").image.tobytes() == one != other
        origin = read_origin(out / name / "pasted-x4.png")
        assert origin.settings["faces"] == [{"face": 1, "candidate": best}]


def test_a_face_taken_as_it_is_goes_into_the_central_square(run, out, folder):
    run(PasteSettings("best", 1.0))
    before = np.asarray(read_picture(folder / "wide.png").image, int)
    after = np.asarray(read_picture(out / "wide/pasted.png").image, int)
    changed = np.abs(after - before).max(axis=2) > 0
    assert changed[:, 3:11].any()
    assert not changed[:, :3].any()
    assert not changed[:, 11:].any()


def test_a_pasted_picture_says_what_it_is(run, out, small_generator):
    run(PasteSettings("best", 2))
    origin = read_origin(out / "a/pasted-x2.png")
    assert origin.digital_source_type == COMPOSITE
    assert origin.description == DESCRIPTION
    assert origin.generator_sha256 == small_generator.sha256
    assert (origin.seed, origin.settings["scale"]) == (0, 2)
    assert "candidate" not in origin.settings


@pytest.mark.parametrize("format_", ["png", "jpg", "webp"])
def test_of_exif_the_capture_time_alone_is_copied(run, out, folder, format_):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    exif.get_ifd(0x8825).update({1: "N", 2: (51.0, 30.0, 0.0)})
    exif.get_ifd(0x8769).update({0x9003: "2019:07:01 12:30:59", 0xA431: "SERIAL-4711"})
    image = Image.linear_gradient("L").resize((14, 8)).convert("RGB")
    image.save(folder / "photo.jpg", exif=exif, quality=100)
    run(inputs=[folder / "photo.jpg"], format=format_)
    pasted = read_info(out / f"photo/pasted.{format_}")
    assert pasted.captured == "2019:07:01 12:30:59"
    assert (pasted.width, pasted.height) == (8, 14)  # upright
    assert pasted.camera is None
    assert not pasted.has_place
    for path in (out / "photo").iterdir():
        data = path.read_bytes()
        assert b"SERIAL-4711" not in data
        assert b"Maker" not in data
        assert (b"2019:07:01" in data) == (path.stem == "pasted")


def test_several_faces_go_into_one_picture(run, out, drawn_scene):
    run(PasteSettings("all"), inputs=[drawn_scene])
    assert {path.name for path in out.iterdir() if path.is_dir()} == {
        "scene", "scene.face-1", "scene.face-2",
    }  # fmt: skip
    assert pasted_in(out / "scene") == ["pasted-01.png", "pasted-02.png"]
    before = np.asarray(read_picture(drawn_scene).image, int)
    after = np.asarray(read_picture(out / "scene/pasted-01.png").image, int)
    changed = np.abs(after - before).max(axis=2) > 2
    assert changed[200:300, 190:290].mean() > 0.5  # the middle of the large face
    assert changed[200:300, 640:740].mean() > 0.5  # and of the other
    assert not changed[:, :60].any()
    faces = read_origin(out / "scene/pasted-01.png").settings["faces"]
    assert faces == [{"face": 1, "candidate": 1}, {"face": 2, "candidate": 1}]


@pytest.mark.parametrize("format_", ["png", "jpg"])
@pytest.mark.parametrize("lost", ["scene/pasted.{}", "scene.face-2/candidate-01.{}"])
def test_what_is_missing_is_made_again_the_same(run, out, drawn_scene, lost, format_, one_thread):
    run(inputs=[drawn_scene], format=format_)
    before = tree_of(out)
    path = out / lost.format(format_)
    path.unlink()
    summary = run(inputs=[drawn_scene], format=format_)
    assert summary.done_before == 0
    after = tree_of(out)
    for tree in (before, after):
        del tree["journal.jsonl"]
    assert after == before
    assert run(inputs=[drawn_scene], format=format_).done_before == 1


def test_pasting_back_can_be_asked_for_later(run, out):
    run(None)
    records = list(Journal(out).read())
    assert not list(out.rglob("pasted*"))
    assert run(PasteSettings("all", 2)).is_complete
    assert len(list(out.rglob("pasted-*-x2.png"))) == 4
    assert run(PasteSettings("best")).is_complete
    assert len(list(out.rglob("pasted*"))) == 6  # another size does not replace the first
    assert list(Journal(out).read()) == records  # nothing was searched for again


def test_more_candidates_make_an_older_best_go(run, out):
    run()
    run(None, replace(SETTINGS, candidates=4))
    assert not list(out.rglob("pasted*"))
    assert run(PASTE, replace(SETTINGS, candidates=4)).done_before == 0
    assert len(list(out.rglob("pasted.png"))) == 2


def test_an_older_pasted_picture_does_not_pass_for_the_new_one(run, out):
    """Ended between the candidates and the pasted picture."""
    run()

    def stop(record):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(settings=replace(SETTINGS, candidates=4), watcher=Watcher(on_record=stop))
    assert run(settings=replace(SETTINGS, candidates=4)).is_complete
    for name in ("a", "wide"):
        records = [r for r in Journal(out).read() if r.folder == name]
        best = min(records, key=lambda record: (record.error, record.candidate)).candidate
        faces = read_origin(out / name / "pasted.png").settings["faces"]
        assert faces == [{"face": 1, "candidate": best}]


def test_the_input_is_never_written_over(run, tmp_path, monkeypatch):
    """An input whose own name and place are those of its pasted picture."""
    (tmp_path / "out/pasted").mkdir(parents=True)
    path = tmp_path / "out/pasted/pasted.png"
    Image.linear_gradient("L").resize((8, 8)).convert("RGB").save(path)
    before = path.read_bytes()
    summary = run(inputs=[path])
    assert summary.counts["failed"] == 1
    assert path.read_bytes() == before
    (record,) = [r for r in Journal(tmp_path / "out").read() if r.status == "failed"]
    assert record.reason == (
        f"not pasted back: {path} is where its pasted picture belongs; choose another folder "
        "with -o"
    )


def test_a_photograph_that_changed_meanwhile_is_not_pasted_into(run, out, folder):
    path = folder / "a.png"

    def change(_progress):
        Image.new("RGB", (8, 8), "green").save(path)
        os.utime(path, ns=(0, 0))

    summary = run(inputs=[path], watcher=Watcher(on_step=change))
    assert summary.counts["failed"] == 1
    assert not pasted_in(out / "a")
    reasons = [record.reason for record in Journal(out).read() if record.reason]
    assert reasons == [f"not pasted back: {path} has changed during the run; run it again"]


def test_a_result_too_large_fails_alone_and_is_told_of(run, out, folder, monkeypatch):
    monkeypatch.setattr("pulse.faces.paste.MAX_PIXELS", 8 * 8 * 4)
    summary = run(PasteSettings("best", 2))
    assert summary.counts["failed"] == 1  # the wide one
    assert pasted_in(out / "a") == ["pasted-x2.png"]
    assert not pasted_in(out / "wide")
    reasons = [record.reason for record in Journal(out).read() if record.reason]
    assert reasons[0].startswith("not pasted back: a scale of 2 makes 28 x 16 pixels")


def test_a_candidate_that_is_not_asked_for_cannot_be_picked(run, out):
    with pytest.raises(PulseError, match=r"candidate 3 is to be pasted back, but each face has 2;"):
        run(PasteSettings(3))
    assert not out.exists()


@pytest.mark.parametrize(
    "stem", ["pasted.png", "pasted-02.jpg", "Pasted-x2.5.webp", "pasted-01-x2.a"]
)
def test_no_folder_takes_a_pasted_pictures_name(tmp_path, stem):
    folder = OutputFolders().of(Source(tmp_path / f"{stem}.jpg", tmp_path.relative_to(tmp_path)))
    assert str(folder) != stem


@pytest.mark.parametrize(
    ("pick", "scale", "message"),
    [
        (0, 1, "got pick 0, expected best, all or a number from 1"),
        ("worst", 1, "got pick 'worst', expected best, all or a number from 1"),
        ("best", 0, "got scale 0, expected above 0 and 16 at most"),
        ("best", 17, "got scale 17, expected above 0 and 16 at most"),
        ("best", float("nan"), "got scale nan, expected above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(pick, scale, message):
    with pytest.raises(ValueError, match=message):
        PasteSettings(pick, scale)


def test_picks_are_read_as_they_are_written():
    assert PasteSettings.parse("3", 2) == PasteSettings(3, 2)
    assert PasteSettings.parse("all", 1) == PasteSettings("all")
    for text in ("-1", "1.5", "", "²"):
        with pytest.raises(ValueError, match="expected best, all or a number from 1"):
            PasteSettings.parse(text, 1)
