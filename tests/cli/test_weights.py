"""`pulse weights`, as a user types it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from web_server import WebServer

from pulse.checkpoints import catalog
from pulse.cli import main
from pulse.files import cache_dir
from pulse.fitted import fit_coarse


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("PULSE_HOME", str(tmp_path / "home"))


@pytest.fixture
def ada(data):
    return str(data / "checkpoints" / "ada-plain.pkl")


def weights(*arguments):
    return CliRunner().invoke(main, ["weights", *map(str, arguments)], catch_exceptions=False)


def test_list_shows_what_is_known_and_what_is_here():
    result = weights("list")
    assert result.exit_code == 0
    header, *rows = result.stdout.splitlines()
    assert header.split() == [
        "name", "architecture", "resolution", "licence", "size", "present", "address",
    ]  # fmt: skip
    assert len(rows) == len(catalog.CATALOG)
    (embedded,) = (row for row in rows if row.startswith("portraits-128 "))
    assert "yes" in embedded.split()
    assert embedded.endswith("comes with PULSE")
    (by_hand,) = (row for row in rows if row.startswith("stylegan1-ffhq-1024-tf "))
    assert "CC BY-NC 4.0 (non-commercial)" in by_hand
    assert "by hand: " in by_hand


def test_list_as_json():
    rows = json.loads(weights("list", "--json").stdout)
    assert {row["name"]: row["present"] for row in rows}["portraits-128"] is True
    assert sum(row["present"] for row in rows) == 1


def test_info_says_what_a_file_is(ada):
    result = weights("info", ada)
    assert result.exit_code == 0
    lines = dict(line.split(":", 1) for line in result.stdout.splitlines())
    values = {name: value.strip() for name, value in lines.items()}
    assert values["file"] == ada
    assert values["format"] == "StyleGAN2 (NVIDIA, PyTorch)"
    assert (values["architecture"], values["resolution"], values["num_ws"]) == (
        "stylegan2", "32", "8",
    )  # fmt: skip
    assert values["tensors"] == "79"
    assert values["licence"] == "unknown; ask those who made it"
    assert len(values["sha256"]) == 64


def test_info_lists_tensors_constants_and_origin(ada, tmp_path):
    lines = weights("info", ada, "--tensors").stdout.splitlines()
    assert "  synthesis.b4.const (32, 4, 4)" in lines
    assert sum(line.startswith("  ") for line in lines) == 79
    out = tmp_path / "x.safetensors"
    weights("convert", ada, "-o", out)
    values = json.loads(weights("info", out, "--json", "--tensors").stdout)
    assert len(values["shapes"]) == 79
    assert values["built with"] == "mapping_lr_multiplier=0.01"
    source = json.loads(weights("info", ada, "--json").stdout)
    assert values["converted from"] == f"StyleGAN2 (NVIDIA, PyTorch), {source['sha256']}"
    assert source["size"] == f"{Path(ada).stat().st_size:,} bytes"


def test_info_writes_nothing_of_a_file_on_the_terminal_as_it_is(ada, tmp_path):
    out = tmp_path / "x.safetensors"
    weights("convert", ada, "-o", out)
    state = load_file(out)
    save_file(state, out, {"licence": "\x1b[2Jfree", "source_format": "\x1b]0;x\x07"})
    output = weights("info", out).stdout
    assert "\\x1b[2Jfree" in output
    assert "\x1b" not in output


def test_a_name_that_is_nearly_one_of_the_catalogue():
    result = weights("info", "stylegan2-ffqh-1024")
    assert result.exit_code == 1
    assert "there is no file 'stylegan2-ffqh-1024', and there is no generator" in result.stderr
    assert "did you mean stylegan2-ffhq-1024" in result.stderr
    assert "see: pulse weights list" in weights("info", "qqq").stderr


def test_a_file_put_by_hand_is_recorded_and_compared_ever_after(ada):
    """Trust on first use, also for what `get` did not fetch."""
    row = catalog.find_entry("stylegan1-ffhq-1024-tf")
    path = cache_dir() / "weights" / row.file_name
    path.parent.mkdir(parents=True)
    path.write_bytes(Path(ada).read_bytes())
    assert weights("info", row.name).exit_code == 0
    other = Path(ada).with_name("sg3sg2-plain.pkl")
    path.write_bytes(other.read_bytes())
    result = weights("info", row.name)
    assert result.exit_code == 1
    assert "it was damaged or replaced; delete it and download it again" in result.stderr


def test_a_file_of_the_catalogue_that_is_not_the_official_one(ada):
    row = catalog.find_entry("stylegan2-ada-ffhq-1024")
    path = cache_dir() / "weights" / row.file_name
    path.parent.mkdir(parents=True)
    path.write_bytes(Path(ada).read_bytes())
    result = weights("info", row.name)
    assert result.exit_code == 1
    assert f"expected {row.sha256}" in result.stderr


def test_info_as_json(ada):
    assert json.loads(weights("info", ada, "--json").stdout)["w_dim"] == 64


def test_info_of_the_embedded_generator():
    values = json.loads(weights("info", "portraits-128", "--json").stdout)
    assert (values["resolution"], values["architecture"]) == (128, "stylegan2")
    assert values["licence"] == catalog.find_entry("portraits-128").licence


def test_convert_writes_a_file_that_says_where_it_is_from(ada, tmp_path):
    out = tmp_path / "x.safetensors"
    result = weights("convert", ada, "-o", out, "--licence", "CC0")
    assert result.exit_code == 0
    assert result.stdout.endswith("every tensor and a picture compared.\n")
    with safe_open(out, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["licence"] == "CC0"
    assert metadata["source_format"] == "StyleGAN2 (NVIDIA, PyTorch)"
    assert json.loads(weights("info", out, "--json").stdout)["licence"] == "CC0"
    again = weights("convert", ada, "-o", out)
    assert again.exit_code == 1
    assert "is there already" in again.stderr


def test_fit_keeps_the_prior_and_the_bank(ada):
    result = weights("fit", ada, "--samples", 2000, "--bank", 20)
    assert result.exit_code == 0, result.stderr
    first, second, third = result.stdout.splitlines()
    assert first.startswith("prior of ada-plain: mean in [")
    assert second == "bank of 20 samples"
    assert third == f"kept under '{cache_dir()}'"
    (prior,), (bank,) = (list((cache_dir() / kind).iterdir()) for kind in ("priors", "banks"))
    assert set(load_file(prior)) == {"mean", "std", "covariance"}
    assert load_file(bank)["pictures"].shape == (20, 3, 32, 32)
    assert prior.name == bank.name


def test_a_bank_too_small_to_tell_anything_is_refused(ada):
    result = weights("fit", ada, "--bank", 19)
    assert result.exit_code == 1
    assert "a bank of 19 samples says too little: --bank takes 20 or more, or 0" in result.stderr


def test_a_coarse_generator_is_trained_judged_and_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("PULSE_HOME", str(tmp_path))
    plain = ("fit", "portraits-128", "--samples", 2000, "--bank", 0, "--coarse")
    monkeypatch.setattr("pulse.cli.weights_text.fit_coarse", partial(fit_coarse, epochs=2))
    result = weights(*plain, 100)
    assert result.exit_code == 0, result.stderr
    line = result.stdout.splitlines()[1]  # a tenth of the samples that are needed
    words = r"coarse generator trained with 100 samples: it misses [\d.]+ % of what pictures vary, "
    assert re.fullmatch(words + "too much to be of use: not kept", line)
    assert not (tmp_path / "coarse").exists()
    for module in ("pulse.fitted", "pulse.cli.weights_text"):
        monkeypatch.setattr(f"{module}.LARGEST_ERROR", 1e3)
    _, kept, advice, _ = weights(*plain, 100).stdout.splitlines()
    assert kept.endswith("pictures vary, kept")
    assert advice == "a generator of 128 px searches no faster with it; --coarse 0 removes it"
    assert list((tmp_path / "coarse").iterdir())
    assert "coarse generator removed" in weights(*plain, 0).stdout
    assert not list((tmp_path / "coarse").iterdir())
    assert "no coarse generator to remove" in weights(*plain, 0).stdout


def test_too_small_a_generator_or_training_of_a_coarse_one_is_refused(ada):
    result = weights("fit", ada, "--samples", 2000, "--bank", 0, "--coarse", 99)
    assert result.exit_code == 1
    assert "99 samples teach a coarse generator too little: --coarse takes 100" in result.stderr
    result = weights("fit", ada, "--samples", 2000, "--bank", 0, "--coarse", 100)
    assert result.exit_code == 1
    assert "'ada-plain' has no coarse generator: --coarse takes StyleGAN 1 and 2" in result.stderr


def test_a_bad_file_is_one_line_and_exit_status_1(tmp_path):
    (tmp_path / "page.pkl").write_text("<html>")
    result = weights("info", tmp_path / "page.pkl")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"pulse: {tmp_path / 'page.pkl'} is no weights file: it is a")
    assert len(result.stderr.splitlines()) == 1


def test_path_prints_the_folder():
    assert weights("path").stdout == f"{cache_dir() / 'weights'}\n"


def test_get_of_an_unknown_name_suggests_the_nearest():
    result = weights("get", "stylegan2-ffqh-1024")
    assert result.exit_code == 1
    assert "did you mean stylegan2-ffhq-1024" in result.stderr


def test_get_of_the_embedded_generator_says_where_it_is():
    result = weights("get", "portraits-128")
    assert result.exit_code == 0
    assert result.stdout.endswith("portraits-128.safetensors'.\n")


def test_get_by_hand_says_where_to_put_it():
    result = weights("get", "stylegan1-ffhq-1024-tf")
    assert result.exit_code == 1
    assert "put it at" in result.stderr
    assert str(cache_dir() / "weights") in result.stderr


def test_what_was_downloaded_is_used_by_its_name(ada, data, monkeypatch, tmp_path):
    """A real server gives a small generator under a name of the catalogue."""
    content = (data / "checkpoints" / "ada-plain.pkl").read_bytes()
    with WebServer(content) as server:
        row = catalog.find_entry("stylegan2-ada-ffhq-1024")
        here = replace(row, address=server.address, sha256=None)
        rows = tuple(here if entry is row else entry for entry in catalog.CATALOG)
        monkeypatch.setattr(catalog, "CATALOG", rows)
        before = weights("info", row.name)
        assert before.exit_code == 1
        assert f"run: pulse weights get {row.name}" in before.stderr
        assert weights("get", row.name).exit_code == 0
    values = json.loads(weights("info", row.name, "--json").stdout)
    assert values["resolution"] == 32
    assert values["licence"] == row.licence


@pytest.mark.parametrize("command", ["list", "info", "get", "convert", "fit", "path"])
def test_every_command_has_help(command):
    result = weights(command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout
