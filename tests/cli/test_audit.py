"""`pulse audit`, as a user types it."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from pulse.cli import main
from pulse.images import to_image


def audit(*arguments):
    return CliRunner().invoke(main, ["audit", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture(scope="module")
def people(embedded, tmp_path_factory):
    """Three drawn photographs with labels."""
    folder = tmp_path_factory.mktemp("people")
    G = embedded.network
    z = torch.randn(3, G.z_dim, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        images = G.render(G.broadcast(G.truncate(G.mapping(z), 0.7)), G.zero_noise())
    for name, x in zip("abc", images, strict=True):
        to_image(x).resize((256, 256), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    (folder / "labels.csv").write_text("file,group,sex\na.png,x,f\nb.png,y,m\nc.png,x,f\n")
    return folder


def test_an_audit_is_written_told_and_added_to(people, tmp_path):
    out = tmp_path / "audit"
    quick = ("-n", 2, "--tolerance", 0.05, "-o", out)
    result = audit(people, *quick)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "mixing, 16 px, 3 people: x 2, y 1"
    assert "Nothing can be said of differences: fewer than two groups have 5 people." in lines[-3]
    assert lines[-2].strip() == "Too few people for a statement: x, y."
    assert lines[-1] == (
        f"{out / 'audit.html'} shows it; audit.json, audit.csv and audit.md are beside it"
    )
    result = audit(people, *quick, "--low-res", 8, "--samples", 16)
    assert result.exit_code == 0, result.output
    held = json.loads((out / "audit.json").read_text())
    assert [(s["method"], s["low_res_px"]) for s in held["studies"]] == [
        ("mixing", 16), ("mixing", 8),
    ]  # fmt: skip
    assert held["about"]["column"] == "group"
    assert held["alone"]["samples"] == 16
    with (out / "audit.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3 * 2
    assert {row["group"] for row in rows} == {"x", "y"}
    page, section = (out / "audit.html").read_text(), (out / "audit.md").read_text()
    assert "mixing, 8 px" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    for heading in ("Model details", "Intended use", "Factors", "Metrics", "Evaluation data",
                    "Quantitative analyses", "Ethical considerations",
                    "Caveats and recommendations"):  # fmt: skip
        assert f"## {heading}\n" in section
    assert "| share within the tolerance | too few | too few | too few |" in section
    other = audit(people, *quick, "--group", "sex")
    assert other.exit_code == 1
    assert "holds the audit of something else (column was 'group', is 'sex')" in other.stderr


def test_an_audit_that_cannot_be_read_is_named(people, tmp_path):
    (tmp_path / "audit.json").write_text("{")
    result = audit(people, "-o", tmp_path)
    assert result.exit_code == 1
    assert f"cannot read {tmp_path / 'audit.json'}: " in result.stderr


def test_nothing_to_audit_is_wrong_usage(tmp_path):
    result = audit("-o", tmp_path)
    assert result.exit_code == 2
    assert "give a FOLDER of photographs, or --samples for the generator alone" in result.stderr


def test_a_missing_folder_is_named(tmp_path):
    result = audit(tmp_path / "no", "-o", tmp_path)
    assert result.exit_code == 1
    assert f"there is no folder '{tmp_path / 'no'}'; give one with photographs" in result.stderr


def test_a_generator_that_draws_no_faces_is_named(data, tmp_path):
    weights = data / "generators" / "ada-plain.safetensors"
    result = audit("--samples", 16, "--generator", weights, "-o", tmp_path)
    assert result.exit_code == 1
    assert "dlib found a face in 0 of 16 samples of ada-plain" in result.stderr
