"""Whole runs over a folder, with a generator small enough to be quick."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import tree_of
from PIL import Image

from pulse.batch.journal import Journal
from pulse.batch.runner import Runner
from pulse.batch.watcher import Watcher
from pulse.errors import PulseError
from pulse.images import read_origin
from pulse.settings import FaceSettings, RunSettings, SearchSettings, Shard, UpscaleSettings

SETTINGS = UpscaleSettings(candidates=2, search=SearchSettings(steps=3))


@pytest.fixture
def folder(tmp_path):
    """Three 8x8 pictures in a tree."""
    base = tmp_path / "in"
    (base / "sub").mkdir(parents=True)
    for i, name in enumerate(["a.png", "b.png", "sub/a.png"]):
        image = Image.linear_gradient("L").resize((8, 8)).rotate(90 * i).convert("RGB")
        image.putpixel((0, 0), (255, 0, 40 * i))
        image.save(base / name)
    return base


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def run(small_generator, folder, out):
    def run_it(settings=SETTINGS, watcher=None, inputs=None, **run_settings):
        runner = Runner(out, small_generator, settings, RunSettings(**run_settings), watcher)
        return runner.run(inputs or [folder])

    return run_it


def test_every_face_has_its_files(run, out):
    summary = run()
    for name in ("a", "b", "sub/a"):
        assert {path.name for path in (out / name).iterdir()} == {
            "low_res.png", "candidate-01.png", "candidate-02.png", "sheet.png",
            "downscaled.png", "disagreement.png",
        }  # fmt: skip
    assert (summary.pictures, summary.faces, len(summary.errors)) == (3, 3, 6)
    assert summary.is_complete
    assert not list(out.rglob(".*"))


def test_low_res_is_the_input(run, out, folder):
    run()
    low_res, given = Image.open(out / "b/low_res.png"), Image.open(folder / "b.png")
    assert low_res.tobytes() == given.convert("RGB").tobytes()


def test_run_json_tells_what_made_the_pictures(run, out, small_generator):
    run()
    content = json.loads((out / "run.json").read_text())
    assert content["settings"]["generator_sha256"] == small_generator.sha256
    assert content["settings"]["search"]["steps"] == 3
    assert content["device"] == "cpu"
    assert set(content["versions"]) == {"pulse", "python", "torch"}


def test_records_tell_of_every_candidate(run, out):
    run()
    records = list(Journal(out).read())
    assert [(r.folder, r.face, r.candidate) for r in records] == [
        (folder, 1, number) for folder in ("a", "b", "sub/a") for number in (1, 2)
    ]
    for record in records:
        assert record.status in ("saved", "above-tolerance")
        assert (record.status == "saved") == (record.error <= 1e-3)
        assert (out / record.output).stat().st_size == record.output_bytes
        assert (record.steps, record.seed, record.low_res_px) == (3, 0, 8)


def test_a_miss_is_saved_all_the_same(run, out):
    """The first tool threw pictures away whose error was above its threshold."""
    summary = run(replace(SETTINGS, search=SearchSettings(steps=1, tolerance=0.0)))
    assert summary.counts == {"above-tolerance": 6}
    assert summary.is_complete
    assert len(list(out.rglob("candidate-*.png"))) == 6


def test_the_same_command_again_does_nothing(run, out):
    run()
    before = tree_of(out)
    summary = run()
    assert (summary.done_before, summary.faces, len(summary.errors)) == (3, 0, 6)
    assert tree_of(out) == before


@pytest.mark.parametrize("lost", ["a/candidate-02.png", "b/sheet.png", "sub/a/low_res.png"])
def test_what_is_missing_is_done_again_the_same(run, out, lost, one_thread):
    run(batch_size=1)
    before = tree_of(out)
    (out / lost).unlink()
    summary = run(batch_size=1)
    assert (summary.done_before, summary.faces) == (2, 1)
    after = tree_of(out)
    assert {k: v for k, v in after.items() if k != "journal.jsonl"} == {
        k: v for k, v in before.items() if k != "journal.jsonl"
    }


def test_a_cut_picture_is_not_taken_for_done(run, out):
    run()
    path = out / "a/candidate-01.png"
    path.write_bytes(path.read_bytes()[:100])
    assert run().done_before == 2
    Image.open(path).load()


def test_more_candidates_are_added_to_those_that_are_there(run, out):
    run()
    first = (out / "a/candidate-01.png").read_bytes()
    summary = run(replace(SETTINGS, candidates=3))
    assert (summary.done_before, summary.faces, len(summary.errors)) == (0, 3, 9)
    assert (out / "a/candidate-01.png").read_bytes() == first
    assert len([r for r in Journal(out).read() if r.candidate == 3]) == 3
    assert run().done_before == 3


def test_other_settings_do_not_mix(run, out):
    run()
    before = tree_of(out)
    other = replace(SETTINGS, search=SearchSettings(steps=4))
    with pytest.raises(
        PulseError, match=r"run with other settings \(search.steps is 4, was 3\); .* --overwrite"
    ):
        run(other)
    assert tree_of(out) == before
    summary = run(other, overwrite=True)
    assert (summary.done_before, summary.faces) == (0, 3)
    assert json.loads((out / "run.json").read_text())["settings"]["search"]["steps"] == 4


def test_pictures_of_other_settings_are_not_taken_for_done(run, out):
    """An overwriting run that was stopped leaves pictures of two runs in one folder."""
    run()
    other = replace(SETTINGS, search=SearchSettings(steps=4))

    seen = []

    def interrupt(progress):
        seen.append(progress)
        if len(seen) == 6:  # the second face has taken two steps of four
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(other, Watcher(on_step=interrupt), overwrite=True, batch_size=2)
    summary = run(other)
    assert (summary.done_before, summary.faces) == (1, 2)
    last = {(r.folder, r.candidate): r.steps for r in Journal(out).read()}
    assert set(last.values()) == {4}


def test_overwrite_does_everything_again(run):
    run()
    assert run(overwrite=True).faces == 3


def test_a_changed_input_is_done_again(run, folder):
    run()
    Image.new("RGB", (8, 8), "red").save(folder / "a.png")
    summary = run()
    assert (summary.done_before, summary.faces) == (2, 1)


def test_bad_pictures_are_recorded_and_the_rest_goes_on(run, out, folder):
    (folder / "empty.png").write_bytes(b"")
    (folder / "folder.png").mkdir()
    Image.effect_noise((300, 200), 50).save(folder / "no_face.png")
    summary = run()
    assert summary.counts["failed"] == 2
    assert summary.counts["no-face"] == 1
    assert not summary.is_complete
    assert summary.faces == 3
    by_name = {r.source.rsplit("/", 1)[-1]: r for r in Journal(out).read() if r.candidate is None}
    assert by_name["empty.png"].reason.endswith("is empty: 0 bytes; copy or download it again")
    assert "is a folder where a picture is expected" in by_name["folder.png"].reason
    assert by_name["no_face.png"].status == "no-face"
    assert "--align never" in by_name["no_face.png"].reason
    again = run()  # no face is an answer; a failure is tried again
    assert again.counts["no-face"] == 1
    assert again.counts["failed"] == 2
    assert again.done_before == 4


def test_a_mended_picture_is_no_longer_a_failure(run, folder):
    whole = (folder / "a.png").read_bytes()
    (folder / "a.png").write_bytes(b"")
    assert run().counts["failed"] == 1
    (folder / "a.png").write_bytes(whole)
    assert run().is_complete
    assert run().is_complete


def test_the_batch_size_changes_nothing_to_be_seen(run, out, tmp_path):
    run(batch_size=1)
    alone = out.rename(tmp_path / "alone")
    run(batch_size=5)
    for path in sorted(alone.rglob("candidate-*.png")):
        pairs = zip(
            Image.open(path).tobytes(),
            Image.open(out / path.relative_to(alone)).tobytes(),
            strict=True,
        )
        differences = [abs(a - b) for a, b in pairs]
        assert sum(differences) / len(differences) < 1


@pytest.mark.parametrize("batch_size", [1, 16])
def test_copies_of_one_picture_get_the_same_faces(run, out, folder, batch_size):
    """And its candidates differ, also where each has a batch of its own."""
    shutil.copy(folder / "a.png", folder / "copy.png")
    run(batch_size=batch_size)
    for name in ("candidate-01.png", "candidate-02.png"):
        assert (out / "a" / name).read_bytes() == (out / "copy" / name).read_bytes()
    first, second = (out / "a" / f"candidate-0{i}.png" for i in (1, 2))
    assert first.read_bytes() != second.read_bytes()


@pytest.mark.parametrize("format_", ["png", "jpg", "webp"])
def test_every_picture_carries_its_origin(run, out, format_):
    run(format=format_)
    for path in [*out.rglob(f"candidate-*.{format_}"), *out.rglob("sheet.png")]:
        origin = read_origin(path)
        assert origin.generator == "ada-plain"
        assert origin.digital_source_type.endswith("trainedAlgorithmicMedia")
    assert read_origin(out / "a/low_res.png") is None  # it is the input, not imagined


def test_a_watcher_hears_of_everything(run, folder):
    (folder / "empty.png").write_bytes(b"")
    totals, records, steps, done = [], [], [], []
    watcher = Watcher(
        on_total=totals.append,
        on_record=lambda record: records.append(record.status),
        on_step=lambda progress: steps.append(max(progress.taken)),
        on_face_done=lambda: done.append(1),
    )
    run(watcher=watcher, batch_size=2)
    assert totals == [4]
    assert len(records) == 7
    assert len(done) == 4
    assert steps == [1, 2, 3] * 3  # six searches, two at a time


def test_an_interrupted_run_goes_on_where_it_was(run, out, small_generator, folder, one_thread):
    run(batch_size=2)
    whole = tree_of(out)
    shutil.rmtree(out)
    seen = []

    def interrupt(progress):
        seen.append(progress)
        if len(seen) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(watcher=Watcher(on_step=interrupt), batch_size=2)
    assert len(list(out.rglob("candidate-*.png"))) == 2
    assert run(batch_size=2).done_before == 1
    assert tree_of(out) == whole


def test_an_output_folder_that_cannot_be_used_is_named(run, out):
    out.write_text("a file")
    with pytest.raises(PulseError, match=r"cannot use the output folder '.*out': .*with -o"):
        run()


def test_a_spoiled_run_json_is_named(run, out):
    out.mkdir()
    (out / "run.json").write_text("{")
    with pytest.raises(PulseError, match="cannot use the output folder"):
        run()


def test_several_faces_of_one_picture_have_folders_of_their_own(
    small_generator, drawn_scene, tmp_path, out
):
    runner = Runner(out, small_generator, SETTINGS)
    assert runner.run([drawn_scene]).faces == 2
    folders = sorted(path.name for path in out.iterdir() if path.is_dir())
    assert folders == ["scene.face-1", "scene.face-2"]
    assert next(runner.plan([drawn_scene])).is_done
    only = replace(SETTINGS, face=FaceSettings(faces="largest"))
    runner = Runner(tmp_path / "largest", small_generator, only)
    assert runner.run([drawn_scene]).faces == 1
    assert (tmp_path / "largest/scene/sheet.png").exists()


def test_every_picture_is_in_exactly_one_shard(small_generator, folder, tmp_path):
    """Told apart by content: a copy goes with its original."""
    shutil.copy(folder / "a.png", folder / "copy.png")
    for i in range(8):
        Image.new("RGB", (8, 8), (30 * i, 0, 90)).save(folder / f"{i}.png")
    (folder / "empty.png").write_bytes(b"")
    (folder / "gone.png").symlink_to(folder / "nowhere")
    seen, quick = [], replace(SETTINGS, candidates=1, search=SearchSettings(steps=1))
    for number in (1, 2, 3):
        out = tmp_path / f"shard-{number}"
        run_settings = RunSettings(shard=Shard(number, 3), batch_size=1)
        summary = Runner(out, small_generator, quick, run_settings).run([folder])
        records = list(Journal(out).read())
        assert summary.pictures == len(records) < 10
        assert summary.passed_over == 14 - len(records)
        seen.append([Path(record.source).name for record in records])
    assert sorted(sum(seen, [])) == sorted(path.name for path in [  # noqa: RUF017
        *folder.glob("*.png"), folder / "sub/a.png"
    ])  # fmt: skip
    assert any({"a.png", "copy.png"} <= set(names) for names in seen)


def test_fail_fast_stops_at_the_first_failure(run, out, folder):
    (folder / "aa.png").write_bytes(b"")
    with pytest.raises(PulseError, match=r"stopped at the first failure, .*aa.png: .* is empty"):
        run(fail_fast=True)
    failed = [record for record in Journal(out).read() if record.status == "failed"]
    assert len(failed) == 1
    (folder / "aa.png").unlink()
    assert run(fail_fast=True).is_complete


def test_the_faces_worth_a_look_are_named(run, out):
    summary = run(replace(SETTINGS, search=SearchSettings(steps=3, tolerance=0)))
    records = list(Journal(out).read())
    best = {}
    for r in records:
        best[r.folder] = min(r.error, best.get(r.folder, 1))
    assert [(e.name, e.value) for e in summary.worst] == sorted(
        best.items(), key=lambda item: -item[1]
    )
    assert {e.name for e in summary.slowest} == {"a", "b", "sub/a"}
    assert summary.slowest == sorted(summary.slowest, reverse=True)


def test_a_picture_touched_but_not_changed_is_still_done(run, folder):
    run()
    path = folder / "a.png"
    os.utime(path, ns=(1, 1))
    assert run().done_before == 3


def test_a_large_folder_that_is_done_is_not_read_again(run, folder, monkeypatch):
    """Size and time tell; only a file that differs in them is hashed."""
    run()
    hashed = []
    real = hashlib.file_digest
    monkeypatch.setattr(
        "pulse.batch.plan.hashlib.file_digest",
        lambda file, kind: (hashed.append(Path(file.name).name), real(file, kind))[1],
    )
    assert run().done_before == 3
    assert hashed == []
    os.utime(folder / "b.png", ns=(1, 1))
    assert run().done_before == 3
    assert hashed == ["b.png"]


def test_half_written_files_of_a_killed_run_are_cleared_away(run, out):
    run()
    stale = f".candidate-01.{'0' * 16}.part"
    for folder in (out, out / "a"):
        (folder / stale).write_bytes(b"half")
    (out / "a/sheet.png").unlink()
    (out / "a/.keep.part").write_text("the user's")
    run()
    assert [path.name for path in out.rglob(".*")] == [".keep.part"]
