"""What the README says is what the program does."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

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


def test_the_table_of_options_is_that_of_the_program():
    """Names, defaults and words; `python scripts/options_table.py` writes it anew."""
    path = ROOT / "scripts" / "options_table.py"
    spec = importlib.util.spec_from_file_location("options_table", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    rows = script.rows_of(main.commands["upscale"])
    assert "| `-n`, `--candidates` | 4 | Answers for each face. |" in rows
    assert script.with_table(README) == README


def test_every_option_in_its_examples_is_there():
    commands = re.findall(r"^    pulse (upscale|align|report|info) (.*)$", README, re.MULTILINE)
    assert len(commands) >= 5
    for name, arguments in commands:
        known = {word for option in main.commands[name].params for word in option.opts}
        for option in re.findall(r"(?<!\S)--?[a-z][a-z-]*", arguments.partition("#")[0]):
            assert option in known, option


def test_the_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_ci_runs_the_command_of_the_readme():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert TESTS.strip() in script
