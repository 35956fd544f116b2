"""What the README says is what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from pulse.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAIN_JOB = "    pip install . && pulse upscale tests/data/low_res"
TESTS = "    pip install '.[test]' && pytest"


def test_two_commands_within_the_first_15_lines():
    lines = README.splitlines()[:15]
    assert MAIN_JOB in lines
    assert TESTS in lines
    assert any("`pulse demo`" in line for line in lines)


def test_the_python_example_runs_as_it_stands(tmp_path, monkeypatch, low_res_folder, pulse_home):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "face.png").write_bytes((low_res_folder / "imagined-01.png").read_bytes())
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert (tmp_path / "imagined.png").exists()
    assert len(names["result"].candidates) == 4
    assert names["result"].spread.shape == names["result"].candidates[0].image.shape[1:]


def test_every_option_that_it_names_is_there():
    help_text = CliRunner().invoke(main, ["upscale", "--help"]).stdout
    table = re.findall(r"^\| (`-.*?) \|", README, re.MULTILINE)
    options = {option for row in table for option in re.findall(r"--[a-z-]+", row)}
    assert {"--candidates", "--tolerance", "--preset", "--json"} <= options
    for option in options:
        assert re.search(rf"{option}\b", help_text), option


@pytest.mark.parametrize(("option", "default"), [("--candidates", "4"), ("--tolerance", "0.001")])
def test_defaults_in_the_table_are_those_of_the_program(option, default):
    (shown,) = re.findall(rf"^\| .*`{option}` \| (\S+) \|", README, re.MULTILINE)
    assert shown == default
    help_text = " ".join(CliRunner().invoke(main, ["upscale", "--help"]).stdout.split())
    assert re.search(rf"{option} .*?\[default: {default}\]", help_text)


def test_the_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_ci_runs_the_command_of_the_readme():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert TESTS.strip() in script
