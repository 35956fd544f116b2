"""The page as a file: what goes in, from which records, and when it is written."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shlex
from dataclasses import asdict, replace

import pytest
from click.testing import CliRunner
from PIL import Image

from pulse.batch.journal import Journal
from pulse.batch.runner import Runner
from pulse.cli import main
from pulse.errors import PulseError
from pulse.report import page as page_module
from pulse.report.command import options_of
from pulse.report.page import Page, report_on_run
from pulse.report.runs import Run
from pulse.settings import (
    PUBLISHED,
    FaceSettings,
    LossWeights,
    RunSettings,
    SearchSettings,
    Shard,
    UpscaleSettings,
)

SETTINGS = UpscaleSettings(candidates=2, search=SearchSettings(steps=2))


@pytest.fixture
def folder(tmp_path):
    """Three pictures, one of them in a folder below, and one that is none."""
    base = tmp_path / "in"
    (base / "sub").mkdir(parents=True)
    for name, colour in (("a.png", "red"), ("b.png", "blue"), ("sub/<c>.png", "green")):
        Image.new("RGB", (8, 8), colour).save(base / name)
    (base / "bad.png").write_bytes(b"")
    return base


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def run(small_generator, folder, out):
    def run_it(settings=SETTINGS, to=out, generator=small_generator, **run_settings):
        run_settings = RunSettings(**{"batch_size": 2} | run_settings)
        Runner(to, generator, settings, run_settings).run([folder])
        return to

    return run_it


def data_of(path, name="face-data"):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(rf'<script id="{name}"[^>]*>(.*?)</script>', text, re.DOTALL)[1])


def faces_by_name(path):
    return {face["name"]: face for face in data_of(path)}


def test_every_face_is_there_with_what_its_records_say(run, out, folder):
    run()
    page = report_on_run(out)
    assert page == out / "report.html"
    faces = faces_by_name(page)
    assert list(faces) == ["a", "b", "bad", "sub/_c_"]  # in the order of their folders
    records = [record for record in Journal(out).read() if record.folder == "a"]
    assert faces["a"]["candidates"] == [
        [record.candidate, record.error, record.steps, record.status == "saved", record.output[2:]]
        for record in sorted(records, key=lambda record: record.candidate)
    ]
    assert faces["a"]["source"] == str(folder / "a.png")
    assert faces["bad"]["status"] == "failed"
    assert "bad.png" in faces["bad"]["reason"]
    assert "candidates" not in faces["bad"]
    for face in ("a", "b", "sub/_c_"):
        links = [faces[face][name] for name in ("input", "again", "map")]
        for link in [*links, *(candidate[-1] for candidate in faces[face]["candidates"])]:
            Image.open(page.parent / faces[face]["folder"] / link).load()


def test_names_cannot_break_out_of_the_data(run, out):
    run()
    text = report_on_run(out).read_text()
    assert "<c>.png" not in text
    assert faces_by_name(out / "report.html")["sub/_c_"]["source"].endswith("sub/<c>.png")


def test_the_page_does_not_depend_on_the_course_of_the_run(run, embedded, tmp_path):
    """Another batch size, another order of the records and other times, the same page.

    With the generator and the precision whose bits no batch size changes: see `test_pool`.
    """
    settings = replace(SETTINGS, search=replace(SETTINGS.search, precision="single"))
    first = run(settings, tmp_path / "one", embedded)
    second = run(settings, tmp_path / "two", embedded, batch_size=4)
    journal = second / "journal.jsonl"
    lines = [json.loads(line) | {"seconds": 99.0} for line in journal.read_text().splitlines()]
    journal.write_text("".join(f"{json.dumps(line)}\n" for line in reversed(lines)))
    pages = [report_on_run(folder).read_bytes() for folder in (first, second)]
    assert pages[0] == pages[1]


def test_a_page_is_written_only_when_something_was_recorded(run, out, folder):
    run()
    page = report_on_run(out)
    os.utime(page, ns=(time_ns := page.stat().st_mtime_ns + 10**9, time_ns))
    report_on_run(out)
    assert page.stat().st_mtime_ns == time_ns
    Image.new("RGB", (8, 8), "white").save(folder / "new.png")
    run()
    os.utime(out / "journal.jsonl", ns=(time_ns + 1, time_ns + 1))
    report_on_run(out)
    assert "new" in faces_by_name(page)


def test_other_settings_make_the_page_anew(run, out):
    run(replace(SETTINGS, candidates=3))
    page = report_on_run(out)
    assert len(faces_by_name(page)["a"]["candidates"]) == 3
    run()  # nothing new is recorded, but two candidates are asked for
    os.utime(page)
    report_on_run(out)
    assert [candidate[0] for candidate in faces_by_name(page)["a"]["candidates"]] == [1, 2]
    run(replace(SETTINGS, candidates=1))
    report_on_run(out)
    face = faces_by_name(page)["a"]
    assert len(face["candidates"]) == 1
    assert "map" not in face  # the one in the folder is of three candidates


def test_shards_come_together_on_one_page(run, out, tmp_path):
    parts = [run(to=tmp_path / f"part-{k}", shard=Shard(k, 2)) for k in (1, 2)]
    run()
    page = tmp_path / "pages" / "all.html"
    page.parent.mkdir()
    result = CliRunner().invoke(main, ["report", *map(str, parts), "-o", str(page), "--json"])
    assert result.exit_code == 0, result.output
    whole, merged = faces_by_name(report_on_run(out)), faces_by_name(page)
    assert list(merged) == list(whole)
    for name, face in merged.items():
        others = whole[name].get("candidates", [])
        for mine, other in zip(face.get("candidates", []), others, strict=True):
            assert mine[0] == other[0]
            assert mine[1] == pytest.approx(other[1], rel=1e-4)  # rounding depends on the batch
            assert face["folder"] == f"../part-{face['run'] + 1}/{name}"
            assert mine[-1] == other[-1]
            Image.open(page.parent / face["folder"] / mine[-1]).load()
    told = json.loads(result.stdout)
    assert told["pictures"] == 4
    assert sum(told["counts"].values()) == 7
    assert told["report"] == str(page)


def test_a_later_run_replaces_an_earlier_one(run, tmp_path):
    earlier = run(to=tmp_path / "earlier")
    later = run(replace(SETTINGS, seed=1), to=tmp_path / "later")
    page = tmp_path / "all.html"
    for runs, seed in (((earlier, later), 1), ((later, earlier), 0)):
        Page([Run.open(path) for path in runs], page).write()
        assert {face["run"] for face in data_of(page)} == {1}
        assert data_of(page, "run-data")[1]["seed"] == seed
        assert len(faces_by_name(page)["a"]["candidates"]) == 2


def test_candidates_of_the_same_settings_come_together(run, tmp_path):
    more = run(replace(SETTINGS, candidates=3), to=tmp_path / "more")
    fewer = run(to=tmp_path / "fewer")
    page = tmp_path / "all.html"
    Page([Run.open(more), Run.open(fewer)], page).write()
    face = faces_by_name(page)["a"]
    links = [candidate[-1] for candidate in face["candidates"]]
    assert face["folder"] == "fewer/a"
    assert links == ["candidate-01.png", "candidate-02.png", "more/a/candidate-03.png"]
    assert "map" not in face  # none shows these three


def test_a_failure_is_forgotten_once_it_is_mended(run, out, folder):
    run()
    Image.new("RGB", (8, 8), "white").save(folder / "bad.png")
    run()
    face = faces_by_name(report_on_run(out))["bad"]
    assert face["status"] != "failed"
    assert len(face["candidates"]) == 2
    (folder / "bad.png").write_bytes(b"bad again")
    run()
    assert faces_by_name(report_on_run(out))["bad"]["status"] == "failed"


def test_a_failure_of_the_same_bytes_is_forgotten_too(run, out):
    """Such as a picture for which memory ran out at first."""
    run()
    journal = out / "journal.jsonl"
    record = next(record for record in Journal(out).read() if record.folder == "a")
    nothing = {"face": None, "candidate": None, "output": None, "error": None}
    failed = replace(record, status="failed", reason="no memory", **nothing)
    journal.write_text(f"{failed.to_json()}\n{journal.read_text()}")
    assert [face["name"] for face in data_of(report_on_run(out))] == ["a", "b", "bad", "sub/_c_"]
    with journal.open("a") as file:
        file.write(f"{failed.to_json()}\n")
    os.utime(journal, ns=(time_ns := (out / "report.html").stat().st_mtime_ns + 1, time_ns))
    face = faces_by_name(report_on_run(out))["a"]
    assert (face["status"], face["reason"]) == ("failed", "no memory")


def test_pictures_that_are_gone_are_not_linked(run, out):
    run()
    (out / "a/candidate-01.png").unlink()
    (out / "a/disagreement.png").unlink()
    face = faces_by_name(report_on_run(out))["a"]
    assert face["candidates"][0][-1] is None
    assert face["candidates"][1][-1] == "candidate-02.png"
    assert "map" not in face


def test_faces_of_earlier_settings_are_told_apart(run, out, folder):
    run()
    (folder / "a.png").unlink()
    run(replace(SETTINGS, seed=3), overwrite=True)
    faces = faces_by_name(report_on_run(out))
    assert faces["a"]["earlier"]
    assert "earlier" not in faces["b"]


def test_embedded_pictures_are_the_files(run, out):
    run(replace(SETTINGS, candidates=1), format="webp")
    page = out / "alone.html"
    result = CliRunner().invoke(main, ["report", str(out), "--embed", "-o", str(page)])
    assert result.exit_code == 0, result.output
    face = faces_by_name(page)["a"]
    link = face["candidates"][0][-1]
    assert link.startswith("data:image/webp;base64,")
    data = base64.b64decode(link.partition(",")[2])
    assert data == (out / "a/candidate-01.webp").read_bytes()
    assert Image.open(io.BytesIO(base64.b64decode(face["input"].partition(",")[2]))).size == (8, 8)
    assert "map" not in face  # one candidate disagrees with nobody


def test_too_much_to_embed_is_refused_and_leaves_nothing(run, out, monkeypatch):
    run()
    monkeypatch.setattr(page_module, "MOST_EMBEDDED_BYTES", 1000)
    with pytest.raises(PulseError, match=r"more than the 0 MB that browsers open in one page"):
        Page([Run.open(out)], out / "alone.html", embed=True).write()
    assert not list(out.glob("*alone*"))


def report(*arguments):
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def test_what_is_no_run_is_told(tmp_path, run, out):
    result = report(tmp_path)
    assert result.exit_code == 1
    assert result.stderr == (
        f"pulse: '{tmp_path}' is no output folder of a run: it has no run.json and journal.jsonl; "
        "name the folder that `pulse upscale -o` wrote\n"
    )
    run()
    (out / "run.json").write_text('{"settings": {"seed": 0}}')
    result = report(out)
    assert result.exit_code == 1
    assert f"{out / 'run.json'} cannot be read as the settings of a run" in result.stderr


def test_a_file_of_other_making_is_not_written_over(run, out, tmp_path):
    run()
    other = tmp_path / "thesis.html"
    other.write_text("my thesis")
    result = report(out, "-o", other)
    assert result.exit_code == 1
    assert "thesis.html is there and is no report of PULSE; choose another file" in result.stderr
    assert other.read_text() == "my thesis"


def test_upscale_writes_the_page_unless_told_not_to(data, folder, out):
    generator = data / "generators" / "ada-plain.safetensors"
    command = ["upscale", folder, "-o", out, "--steps", 1, "-n", 1, "--generator", generator]
    command = [str(word) for word in [*command, "--device", "cpu", "--json"]]
    told = json.loads(CliRunner().invoke(main, [*command, "--no-report"]).stdout)
    assert told["report"] is None
    assert not (out / "report.html").exists()
    told = json.loads(CliRunner().invoke(main, command).stdout)
    assert told["report"] == str(out / "report.html")
    assert len(data_of(out / "report.html")) == 4


@pytest.mark.parametrize(
    "settings",
    [
        UpscaleSettings(),
        UpscaleSettings(candidates=7, seed=-3, face=FaceSettings("never", "largest", 24, "area")),
        UpscaleSettings(search=PUBLISHED),
        UpscaleSettings(search=replace(PUBLISHED, steps=40, tolerance=1e-3, tile_latent=True)),
        UpscaleSettings(
            search=SearchSettings(
                method="descent", step_size=0.1, noise="zero", loss=LossWeights(0, 1.5, 0.05)
            )
        ),
    ],
)
@pytest.mark.parametrize("format_", ["png", "webp"])
def test_the_command_gives_the_settings_again(monkeypatch, settings, format_):
    """Parsed by the command line itself."""
    seen = []
    monkeypatch.setattr(
        "pulse.cli.upscale.run_upscale", lambda *arguments: seen.append(arguments) or True
    )
    values = asdict(settings) | {"generator": "stylegan2-ada-ffhq-1024", "class": 3}
    options = options_of(values | {"format": format_})
    result = CliRunner().invoke(main, ["upscale", "x.png", *shlex.split(options)])
    assert result.exit_code == 0, result.output
    _, _, method, where, output = seen[0]
    assert method == settings
    assert (where.generator, where.class_index) == ("stylegan2-ada-ffhq-1024", 3)
    assert output.run.format == format_


def test_the_usual_settings_need_few_options():
    values = asdict(UpscaleSettings()) | {"generator": "portraits-128", "class": None}
    assert options_of(values | {"format": "png"}) == "-n 4 --seed 0"
