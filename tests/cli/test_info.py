"""`pulse info`, and signing as a user does it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from PIL import Image

from pulse.cli import main

pytest.importorskip("c2pa", reason="the C2PA library is not here: pulse[c2pa]")
certificates = pytest.importorskip("certificates", reason="no cryptography to make certificates")


@pytest.fixture
def pulse(data, tmp_path):
    """Run `pulse`; searches are quick ones of a picture of 8 px."""
    picture = tmp_path / "a.png"
    Image.linear_gradient("L").resize((8, 8)).convert("RGB").save(picture)
    quick = ["--generator", data / "generators" / "ada-plain.safetensors", "--device", "cpu"]
    quick += ["--steps", 2, "-n", 1, "-o", tmp_path / "out"]

    def run(*arguments):
        if arguments[0] == "upscale":
            arguments = ["upscale", picture, *quick, *arguments[1:]]
        return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)

    return run


@pytest.mark.parametrize("format_", ["png", "jpg", "webp"])
def test_signed_pictures_are_told_in_plain_words(pulse, tmp_path, format_):
    chain, key = certificates.write_certificate(tmp_path)
    signing = ("--c2pa-cert", chain, "--c2pa-key", key, "--format", format_)
    assert pulse("upscale", *signing).exit_code == 0
    result = pulse("info", tmp_path / f"out/a/candidate-01.{format_}", tmp_path / "out/a/sheet.png")
    assert result.exit_code == 0
    for told in result.stdout.split("\n" + str(tmp_path)):
        assert "From PULSE. Imagined face, drawn by a neural network: not a photograph" in told
        assert "Generator: ada-plain (SHA-256 " in told
        assert "Seed 0, picture " in told
        assert "search (method mixing, steps 2, " in told
        assert "Digital source type: made by a neural network (trainedAlgorithmicMedia)." in told
        assert f"Signed (C2PA) in the name of {certificates.ISSUER}; unchanged since;" in told
        assert "It claims: made by a neural network (trainedAlgorithmicMedia)." in told


def test_other_pictures_and_files_that_are_none(pulse, tmp_path):
    pulse("upscale")
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    result = pulse("info", "--json", bad, tmp_path / "a.png", tmp_path / "out/a/candidate-01.png")
    assert result.exit_code == 3
    assert result.stderr.startswith(f"pulse: {bad} is not a picture that PULSE can read")
    plain, candidate = json.loads(result.stdout)
    assert (plain["is_from_pulse"], candidate["is_from_pulse"]) == (False, True)
    assert candidate["origin"]["settings"]["candidate"] == 1
    assert candidate["credentials"] is None
    result = pulse("info", tmp_path / "a.png")
    assert "Not from PULSE, or its marks were removed." in result.stdout
    assert "It does not say whether a person, a camera or a program made it." in result.stdout


def test_without_the_library_signed_pictures_name_the_remedy(pulse, tmp_path, monkeypatch):
    chain, key = certificates.write_certificate(tmp_path)
    pulse("upscale", "--c2pa-cert", chain, "--c2pa-key", key)
    monkeypatch.setattr("pulse.images.info.can_read_credentials", lambda: False)
    result = pulse("info", tmp_path / "out/a/candidate-01.png")
    assert "It seems to be signed (C2PA), but that was not read; try pip install" in result.stdout


@pytest.mark.parametrize("given", ["--c2pa-cert", "--c2pa-key"])
def test_certificate_and_key_go_together(pulse, tmp_path, given):
    path = certificates.write_certificate(tmp_path)[0]
    result = pulse("upscale", given, path)
    assert result.exit_code == 2
    assert "--c2pa-cert and --c2pa-key go together; give both or none" in result.stderr


def test_a_certificate_that_does_not_fit_stops_before_the_search(pulse, tmp_path):
    chain, _ = certificates.write_certificate(tmp_path)
    _, other = certificates.write_certificate(tmp_path, stem="other")
    result = pulse("upscale", "--c2pa-cert", chain, "--c2pa-key", other)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"pulse: cannot sign with {chain} and {other} (")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
