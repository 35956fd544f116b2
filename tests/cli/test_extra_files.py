"""The options that ask for more files: --paste-back, --save-steps, --save-latents and theirs."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner
from PIL import Image

from pulse.cli import main
from pulse.settings import PasteSettings, RunSettings


@pytest.fixture
def upscale(data, tmp_path):
    """Run `pulse upscale` on a picture of 8 px, quickly."""
    picture = tmp_path / "a.png"
    Image.linear_gradient("L").resize((8, 8)).convert("RGB").save(picture)
    quick = ["--generator", data / "generators" / "ada-plain.safetensors", "--device", "cpu"]
    quick += ["--steps", 2, "-n", 2, "-o", tmp_path / "out"]

    def run(*arguments):
        command = [str(argument) for argument in ("upscale", picture, *quick, *arguments)]
        return CliRunner().invoke(main, command, catch_exceptions=False)

    return run


def names(folder):
    return {path.name for path in folder.iterdir()}


USUAL = {"candidate-01.png", "candidate-02.png", "low_res.png", "sheet.png"}
USUAL |= {"downscaled.png", "disagreement.png"}


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ((), set()),
        (("--paste-back",), {"pasted.png"}),
        (("--paste-back", "--pick", "2", "--scale", "1.5"), {"pasted-02-x1.5.png"}),
        (("--paste-back", "--pick", "all"), {"pasted-01.png", "pasted-02.png"}),
        (("--save-steps",), {"steps-01.webp", "steps-02.webp"}),
        (("--save-latents",), {"latents-01.safetensors", "latents-02.safetensors"}),
    ],
)
def test_each_option_adds_its_files(upscale, tmp_path, options, more):
    result = upscale(*options)
    assert result.exit_code == 0
    assert names(tmp_path / "out/a") == USUAL | more


def test_going_on_from_latents(upscale, tmp_path):
    upscale("--save-latents")
    saved = tmp_path / "out/a/latents-01.safetensors"
    result = upscale("-o", tmp_path / "more", "--from-latents", saved, "--from-latents", saved)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert names(tmp_path / "more/a") == USUAL
    bad = tmp_path / "latents-01.safetensors"
    bad.write_bytes(b"none")
    result = upscale("-o", tmp_path / "third", "--from-latents", bad)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"pulse: {bad} is not a latents file of this program")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--pick", "best"), "--pick and --scale go with --paste-back; give it as well"),
        (("--scale", "2"), "--pick and --scale go with --paste-back; give it as well"),
        (("--paste-back", "--pick", "0"), "got pick 0, expected best, all or a number from 1"),
        (("--paste-back", "--scale", "-1"), "got scale -1, expected above 0 and 16 at most"),
        (("--from-latents", "nowhere"), "Path 'nowhere' does not exist."),
    ],
)
def test_wrong_usage_is_one_clear_line(upscale, tmp_path, options, message):
    result = upscale(*options)
    assert result.exit_code == 2
    assert message in result.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_pick_beyond_the_candidates_stops_before_the_search(upscale, tmp_path):
    result = upscale("--paste-back", "--pick", "3")
    assert result.exit_code == 1
    assert result.stderr == (
        "pulse: candidate 3 is to be pasted back, but each face has 2; "
        "give another --pick or more --candidates\n"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["upscale", "demo"])
def test_help_shows_the_defaults_of_the_classes(command):
    text = " ".join(CliRunner().invoke(main, [command, "--help"]).stdout.split())
    paste, run = PasteSettings(), RunSettings()
    assert re.search(rf"--pick best\|K\|all [^\[]*\[default: {paste.pick}\]", text)
    assert re.search(rf"--scale FLOAT [^\[]*\[default: {paste.scale}\]", text)
    assert (run.paste, run.signing, run.from_latents) == (None, None, ())
    assert not run.keep.steps
    assert not run.keep.latents
    for option in ("--paste-back", "--save-steps", "--save-latents", "--from-latents FILE|FOLDER"):
        assert option in text
