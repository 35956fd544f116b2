"""The commands as a user types them: what they print, where, and their exit status."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from pulse.cli import main
from pulse.cli.options import PRESETS
from pulse.images import read_picture
from pulse.settings import (
    PUBLISHED,
    FaceSettings,
    RunSettings,
    SearchSettings,
    Shard,
    UpscaleSettings,
)

QUICK = ("--steps", "2", "-n", "1")


@pytest.fixture(scope="module")
def small(data):
    return str(data / "generators" / "ada-plain.safetensors")


@pytest.fixture
def pulse_command(small):
    """Run `pulse` in this process, with a quick generator unless the arguments name one."""

    def run(*arguments, generator=small):
        command = [str(argument) for argument in arguments]
        if command[0] in ("upscale", "demo"):
            command += ["--generator", generator, "--device", "cpu"]
        return CliRunner().invoke(main, command, catch_exceptions=False)

    return run


@pytest.fixture
def folder(tmp_path):
    base = tmp_path / "in"
    base.mkdir()
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (8, 8), colour).save(base / name)
    return base


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def test_the_package_runs_as_the_command():
    command = [sys.executable, "-m", "pulse", "upscale", "--steps", "0"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("Usage: pulse upscale ")


def test_upscale_saves_says_where_and_ends_with_0(pulse_command, folder, out):
    result = pulse_command("upscale", folder, "-o", out, *QUICK)
    assert result.exit_code == 0
    assert (out / "a" / "candidate-01.png").exists()
    lines = result.stdout.splitlines()
    assert re.match(r"0  within the tolerance$", lines[0])
    errors = r"median error 0\.\d+ +largest 0\.\d+$"
    assert re.match(r"2  above the tolerance   " + errors, lines[1])
    assert re.match(r"Time +2 faces in \d+ s, \d+\.\d s a face$", lines[3])
    assert re.match(r"Fit least +[ab] \(0\.\d+\), [ab] \(0\.\d+\)$", lines[4])
    assert lines[-2] == f"Look at       {out / 'report.html'}"
    assert lines[-1] == "These faces are imagined: nobody in them exists."
    assert "\x1b" not in result.stdout  # no colours where nobody looks
    assert result.stderr == ""  # no bar where nobody looks


def test_a_second_time_says_that_all_was_done(pulse_command, folder, out):
    pulse_command("upscale", folder, "-o", out, *QUICK)
    result = pulse_command("upscale", folder, "-o", out, *QUICK)
    assert result.exit_code == 0
    assert "Done before   2 of 2 pictures; left as is" in result.stdout.splitlines()


def test_some_failed_ends_with_3_and_one_line_each(pulse_command, folder, out):
    (folder / "bad.png").write_bytes(b"no picture")
    Image.effect_noise((300, 200), 50).save(folder / "landscape.png")
    result = pulse_command("upscale", folder, "-o", out, *QUICK)
    assert result.exit_code == 3
    lines = result.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{folder / 'bad.png'} is not a picture that PULSE can read")
    assert lines[1].startswith(f"{folder / 'landscape.png'}: no face was found")
    assert "1  without a face        the journal says why\n" in result.stdout
    assert "1  failed                the journal says why\n" in result.stdout


def test_json_prints_one_object_and_nothing_else(pulse_command, folder, out):
    result = pulse_command("upscale", folder, "-o", out, *QUICK, "--json")
    summary = json.loads(result.stdout)
    assert summary["out"] == str(out)
    assert (summary["pictures"], summary["faces_searched"]) == (2, 2)
    assert sum(summary["counts"].values()) == 2
    assert summary["median_error"] <= summary["worst_error"]


def test_json_stays_valid_when_nothing_was_found(pulse_command, tmp_path, out):
    (tmp_path / "in").mkdir()
    result = pulse_command("upscale", tmp_path / "in", "-o", out, *QUICK, "--json")
    assert json.loads(result.stdout)["worst_error"] is None
    assert result.exit_code == 0


@pytest.mark.parametrize("command", [("upscale", *QUICK), ("align",)])
def test_inputs_without_a_picture_are_told_of(pulse_command, tmp_path, out, command):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    result = pulse_command(*command, tmp_path / "in", "-o", out)
    assert result.stdout.startswith("There is no picture in the inputs: no PNG, JPEG, WebP, BMP")
    assert len(result.stdout.splitlines()) == 1


@pytest.mark.parametrize("command", [("upscale", *QUICK), ("align",)])
def test_the_output_folder_is_no_input(pulse_command, folder, command):
    result = pulse_command(*command, folder, "-o", folder)
    assert result.exit_code == 1
    assert result.stderr.endswith("is the output folder as well; choose another with -o\n")
    assert sorted(path.name for path in folder.iterdir()) == ["a.png", "b.png"]


def test_dry_run_writes_nothing(pulse_command, folder, out, tmp_path, monkeypatch):
    monkeypatch.setenv("PULSE_HOME", str(tmp_path / "home"))
    result = pulse_command("upscale", folder, "-o", out, *QUICK, "--dry-run")
    assert result.exit_code == 0
    assert not out.exists()
    assert not (tmp_path / "home" / "banks").exists()  # nor does it draw what only a search needs
    assert result.stdout.splitlines() == [
        f"to do  {folder / 'a.png'} -> {out / 'a'}",
        f"to do  {folder / 'b.png'} -> {out / 'b'}",
        "2 of 2 pictures to do, 1 candidate a face.",
    ]
    pulse_command("upscale", folder / "a.png", "-o", out, *QUICK)
    result = pulse_command("upscale", folder, "-o", out, *QUICK, "--dry-run", "--json")
    assert [row["done"] for row in json.loads(result.stdout)["pictures"]] == [True, False]


def test_quiet_and_verbose(pulse_command, folder, tmp_path):
    quiet = pulse_command("upscale", folder, "-o", tmp_path / "q", *QUICK, "--quiet")
    assert (quiet.stdout, quiet.stderr) == ("", "")
    verbose = pulse_command("upscale", folder, "-o", tmp_path / "v", *QUICK, "--verbose")
    assert len(verbose.stderr.splitlines()) == 2
    assert re.search(r": a/candidate-01\.png, error 0\.\d+", verbose.stderr)


def test_an_enlarged_input_is_warned_about(pulse_command, tmp_path, low_res_folder, out):
    small = Image.open(low_res_folder / "imagined-03.png")
    small.resize((512, 512), Image.Resampling.BICUBIC).save(tmp_path / "big.png")
    result = pulse_command("upscale", tmp_path / "big.png", "-o", out, *QUICK)
    assert result.exit_code == 0
    assert result.stderr.startswith(f"{tmp_path / 'big.png'}: looks enlarged: 512 px a side, but")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.png",), "pulse: there is no file or folder 'nowhere.png'"),
        ((".", "--device", "tpu"), "pulse: there is no device 'tpu' here"),
        ((".", "--generator", "no.safetensors"), "pulse: cannot read the generator no.safetensors"),
    ],
)
def test_what_stops_a_run_is_one_line_and_exit_status_1(small, arguments, message, tmp_path):
    command = ["upscale", "--generator", small, *arguments, "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert result.stderr.startswith(message)
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--loss", "1*L9"), "got loss term '1*L9'"),
        (("--loss", "1*L1"), "other losses need the method 'descent'"),
        (("--steps", "0"), "got steps 0, expected 1 or more"),
        (("-n", "0"), "got candidates 0, expected 1 or more"),
        (("--low-res", "small"), "'small' is neither 'auto' nor a whole number from 1"),
        (("--shard", "3/2"), "got shard 3/2, expected K/N with 1 <= K <= N"),
        (("--shard", "a"), "got shard 'a', expected K/N, such as 2/8"),
        (("--batch-size", "0"), "'0' is neither 'auto' nor a whole number from 1"),
        (("--kernel", "magic"), "'magic' is not one of"),
        (("--tolerance", "-1"), "got tolerance -1.0, expected 0 or more"),
    ],
)
def test_wrong_usage_ends_with_2(arguments, message):
    result = CliRunner().invoke(main, ["upscale", ".", *arguments])
    assert result.exit_code == 2
    assert message in result.stderr


def settings_of(monkeypatch, *arguments):
    """What a command line hands to the run."""
    seen = []

    def run_upscale(inputs, out, method, where, output):
        seen.append((method, where, output))
        return True

    monkeypatch.setattr("pulse.cli.upscale.run_upscale", run_upscale)
    result = CliRunner().invoke(main, ["upscale", "x.png", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return seen[0]


def test_defaults_are_those_of_the_settings(monkeypatch):
    method, where, output = settings_of(monkeypatch)
    assert method == UpscaleSettings()
    assert output.run == RunSettings()
    assert output.report
    assert (where.generator, where.device) == ("portraits-128", "auto")
    assert (method.candidates, method.search.tolerance) == (4, 1e-3)


def test_every_option_arrives(monkeypatch):
    method, where, output = settings_of(
        monkeypatch,
        *("-n", "7", "--seed", "5", "--low-res", "24", "--align", "never", "--faces", "largest"),
        *("--kernel", "area", "--steps", "9", "--step-size", "0.1", "--tolerance", "0.01"),
        *("--method", "descent", "--loss", "1*L1", "--noise", "zero", "--tile-latent"),
        *("--batch-size", "3", "--format", "webp", "--overwrite", "--no-report"),
        *("--device", "cpu", "--generator", "g"),
        *("--fail-fast", "--shard", "2/8", "--workers", "3", "--ray", "auto"),
    )  # fmt: skip
    assert method.face == FaceSettings("never", "largest", 24, "area")
    search = method.search
    assert (search.steps, search.step_size, search.tolerance) == (9, 0.1, 0.01)
    assert search.method == "descent"
    assert (search.loss.l2, search.loss.l1, search.loss.geocross) == (0, 1, 0)
    assert (search.noise, search.tile_latent) == ("zero", True)
    assert output.run == RunSettings(3, "webp", True, True, Shard(2, 8))
    assert not output.report
    assert (method.candidates, method.seed) == (7, 5)
    assert (where.generator, where.device) == ("g", "cpu")
    assert (where.workers, where.ray) == (3, "auto")


def test_the_preset_sets_exactly_the_published_settings(monkeypatch):
    method, _, _ = settings_of(monkeypatch, "--preset", "pulse")
    assert method.search == PUBLISHED
    assert PRESETS["default"] == SearchSettings()


def test_options_beside_the_preset_count(monkeypatch):
    method, _, _ = settings_of(monkeypatch, "--steps", "40", "--preset", "pulse")
    assert method.search.steps == 40
    assert method.search.tolerance == PUBLISHED.tolerance


def test_align_writes_faces_and_reduced_faces(pulse_command, drawn_scene, tmp_path):
    out = tmp_path / "aligned"
    command = ("align", drawn_scene, "-o", out, "--size", 96, "--low-res", 12)
    result = pulse_command(*command)
    assert result.exit_code == 0, result.stderr
    assert len(result.stdout.splitlines()) == 4
    for face in (1, 2):
        assert read_picture(out / f"scene.face-{face}.png").image.size == (96, 96)
        assert read_picture(out / f"scene.face-{face}.low_res.png").image.size == (12, 12)
    again = pulse_command(*command)
    assert again.exit_code == 0
    assert "is there already; left as is" in again.stdout
    assert "left as is" not in pulse_command(*command, "--overwrite").stdout


def test_align_adds_reduced_faces_to_those_that_are_there(pulse_command, drawn_scene, tmp_path):
    out = tmp_path / "aligned"
    assert pulse_command("align", drawn_scene, "-o", out, "--size", 96).exit_code == 0
    first = (out / "scene.face-1.png").read_bytes()
    result = pulse_command("align", drawn_scene, "-o", out, "--size", 64, "--low-res", 12)
    assert result.stdout.count("left as is") == 2
    assert (out / "scene.face-1.png").read_bytes() == first
    assert read_picture(out / "scene.face-2.low_res.png").image.size == (12, 12)


def test_align_keeps_a_reduced_face_from_a_picture_of_that_name(
    pulse_command, drawn_scene, tmp_path
):
    base = tmp_path / "in"
    base.mkdir()
    for name in ("a.png", "a.low_res.png"):
        (base / name).write_bytes(drawn_scene.read_bytes())
    out = tmp_path / "aligned"
    options = ("-o", out, "--size", 32, "--low-res", 8, "--faces", "largest")
    assert pulse_command("align", base, *options).exit_code == 0
    sizes = {path.name: read_picture(path).image.width for path in out.iterdir()}
    assert sizes == {
        "a.png": 32,
        "a.low_res.png": 8,
        "a.low_res.png.png": 32,
        "a.low_res.png.low_res.png": 8,
    }


def test_align_names_pictures_without_a_face(pulse_command, folder, tmp_path):
    Image.effect_noise((300, 200), 50).save(folder / "landscape.png")
    result = pulse_command("align", folder, "-o", tmp_path / "aligned")
    assert result.exit_code == 3
    assert f"{folder / 'landscape.png'}: no face was found" in result.stderr


def test_help_names_every_command():
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for command in ("upscale", "demo", "align", "report"):
        assert command in result.stdout
    assert "Nobody in its pictures exists." in " ".join(result.stdout.split())


@pytest.mark.parametrize("name", ["", "upscale", "demo", "align", "report"])
def test_help_ends_with_examples_that_the_command_takes(name, monkeypatch):
    """Each line that is shown is parsed; what it would do is not done."""
    result = CliRunner().invoke(main, [*name.split(), "--help"])
    examples = re.findall(r"^    (pulse .*?)(?:  .*)?$", result.stdout, re.MULTILINE)
    assert len(examples) >= 2
    for done in ("cli.upscale.run_upscale", "cli.report.report_on"):
        monkeypatch.setattr(f"pulse.{done}", lambda *_, **__: True)
    monkeypatch.setattr("pulse.batch.align.align_pictures", lambda *_, **__: [])
    for example in examples:
        result = CliRunner().invoke(main, example.split()[1:], catch_exceptions=False)
        assert result.exit_code == 0, (example, result.output)


@pytest.mark.parametrize(
    "name", ["info", *(f"weights {n}" for n in ("list", "info", "get", "convert", "fit", "path"))]
)
def test_other_commands_have_examples_that_parse(name):
    """Only parsed: they read and fetch files that are not here."""
    text = CliRunner().invoke(main, [*name.split(), "--help"]).stdout
    examples = re.findall(r"^    (pulse .*?)(?:  .*)?$", text, re.MULTILINE)
    assert len(examples) >= 2
    command = main
    for word in name.split():
        command = command.commands[word]
    for example in examples:
        assert example.startswith(f"pulse {name}")
        arguments = example.removeprefix(f"pulse {name}").split()
        if "--help" not in arguments:
            command.make_context(name, arguments)


def test_the_shell_completes_commands_and_options():
    def completions(words):
        result = subprocess.run(
            [sys.executable, "-c", "from pulse.cli import main; main(prog_name='pulse')"],
            env=os.environ | {"_PULSE_COMPLETE": "bash_complete", "COMP_WORDS": words,
                              "COMP_CWORD": str(len(words.split()) - 1)},
            capture_output=True, text=True,
        )  # fmt: skip
        return result.stdout.split()

    assert completions("pulse re") == ["plain,report"]
    assert completions("pulse upscale --kernel bi") == ["plain,bicubic"]
    assert "plain,--no-report" in completions("pulse upscale --no")


@pytest.mark.parametrize(("no_color", "is_coloured"), [("", True), ("1", False)])
def test_colours_are_for_terminals_and_for_those_who_want_them(
    small, folder, out, no_color, is_coloured
):
    """On a terminal of its own: `script` gives it one."""
    script = shutil.which("script")
    if script is None:
        pytest.skip("no `script` here to make a terminal with")
    python = [sys.executable, "-m", "pulse"]
    command = [*python, "upscale", folder, "-o", out, *QUICK, "--generator", small]
    command = shlex.join(str(word) for word in [*command, "--device", "cpu", "--no-report"])
    result = subprocess.run(
        [script, "-qec", command, os.devnull],
        env=os.environ | {"NO_COLOR": no_color, "TERM": "xterm"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "above the tolerance" in result.stdout
    assert ("\x1b[33m" in result.stdout) == is_coloured


def run_python(code, **options):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, **options
    )


@pytest.mark.parametrize("command", ["--help", "upscale --help", "align --help", "report -h"])
def test_help_loads_no_torch(command):
    code = (
        "import sys\nfrom pulse.cli import main\n"
        f"main({command.split()!r}, standalone_mode=False)\n"
        "heavy = {'torch', 'dlib', 'numpy', 'PIL', 'jinja2'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    run_python(code)


def test_the_package_is_light_and_its_api_is_there():
    run_python(
        "import sys, pulse\nassert 'torch' not in sys.modules\n"
        "assert all(hasattr(pulse, name) for name in pulse.__all__)\n"
        "import pulse.method\nassert callable(pulse.upscale)\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_finished_faces_whole_and_says_how_to_go_on(small, tmp_path, out, number):
    """A real process, a real signal."""
    base = tmp_path / "in"
    base.mkdir()
    for i in range(40):
        Image.new("RGB", (8, 8), (6 * i, 90, 90)).save(base / f"{i:02}.png")
    command = [sys.executable, "-m", "pulse", "upscale", str(base)]
    command += ["-o", str(out), "--generator", small, "--device", "cpu", "--batch-size", "1"]
    command += ["--steps", "30", "-n", "1", "--tolerance", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    journal = out / "journal.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:  # the first face is whole once the second is recorded
        if journal.exists() and journal.read_text().count("\n") >= 2:
            break
        time.sleep(0.05)
    os.killpg(process.pid, number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    match = re.match(
        r"pulse: interrupted; (\d+) faces? of this run whole in '.*out'; to go on: pulse upscale "
        rf"{re.escape(str(base))} -o .* --tolerance 0\n$",
        stderr,
    )
    assert match, stderr
    recorded = [json.loads(line)["output"] for line in journal.read_text().splitlines()]
    assert 1 <= int(match[1]) < 40
    assert len(recorded) in (int(match[1]), int(match[1]) + 1)
    for output in recorded:
        Image.open(out / output).load()
    assert not [path for path in out.rglob(".*") if path.is_file()]
    assert f'"{recorded[0].partition("/")[0]}"' in (out / "report.html").read_text()


def test_demo_draws_faces_for_the_pictures_that_come_along(pulse_command, out, low_res_folder):
    result = pulse_command("demo", "-o", out, *QUICK, generator="portraits-128")
    assert result.exit_code == 0
    assert len(list(out.rglob("sheet.png"))) == len(list(low_res_folder.glob("*.png"))) == 12
    assert (Path(out) / "pixel-art" / "candidate-01.png").exists()
