"""The Python API: one picture in, several candidates out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import pulse
from pulse.candidates import spread_of
from pulse.downscale import Downscale
from pulse.images import read_origin, read_picture, to_tensor
from pulse.settings import SearchSettings, UpscaleSettings

SHORT = UpscaleSettings(search=SearchSettings(steps=6))


@pytest.fixture(scope="module")
def path(low_res_folder):
    return low_res_folder / "imagined-04.png"


@pytest.fixture(scope="module")
def result(embedded, path):
    return pulse.upscale(path, embedded, candidates=2, seed=0, settings=SHORT)


def test_the_result_holds_what_was_searched_for_and_found(result, path):
    assert torch.equal(result.low_res, to_tensor(read_picture(path).image))
    assert [candidate.number for candidate in result.candidates] == [1, 2]
    for candidate in result.candidates:
        assert candidate.image.shape == (3, 128, 128)
        assert candidate.latent.shape == (12, 512)
        assert 1 <= candidate.steps <= 6


def test_the_error_is_that_of_the_picture(result):
    A = Downscale((128, 128), (16, 16))
    for candidate in result.candidates:
        error = (A(candidate.image[None])[0] - result.low_res).square().mean().item()
        assert candidate.error == pytest.approx(error, rel=1e-4)
        assert candidate.met_tolerance == (error <= 1e-3)


def test_spread_is_the_standard_deviation_over_candidates(result):
    a, b = (candidate.image for candidate in result.candidates)
    assert torch.allclose(result.spread, ((a - b).abs() / 2).mean(0), atol=1e-6)
    assert torch.equal(spread_of([a]), torch.zeros(128, 128))


def test_the_saved_picture_is_the_candidate_and_says_what_it_is(result, tmp_path, embedded):
    file = tmp_path / "imagined.png"
    result.candidates[1].save(file)
    assert torch.equal(to_tensor(read_picture(file).image), result.candidates[1].image)
    origin = read_origin(file)
    assert origin.digital_source_type.endswith("/trainedAlgorithmicMedia")
    assert "not a photograph of a person" in origin.description
    assert (origin.generator_sha256, origin.seed) == (embedded.sha256, 0)
    assert origin.settings["candidate"] == 2


@pytest.mark.parametrize("kind", ["PIL", "array", "tensor", "string"])
def test_pictures_from_memory_give_what_the_file_gives(embedded, path, result, kind):
    image = Image.open(path).convert("RGB")
    given = {
        "PIL": image,
        "array": np.array(image),
        "tensor": to_tensor(image),
        "string": str(path),
    }[kind]
    again = pulse.upscale(given, embedded, candidates=1, seed=0, settings=SHORT)
    # one in the batch instead of two: rounding, below a grey level on average
    assert (again.candidates[0].image - result.candidates[0].image).abs().mean() < 1 / 255


def test_seeds(embedded, path, result):
    """Seed 0 is a seed, repeated it gives the same, and the candidates of one seed differ."""
    again = pulse.upscale(path, embedded, candidates=2, seed=0, settings=SHORT)
    other = pulse.upscale(path, embedded, candidates=2, seed=1, settings=SHORT)
    for i in range(2):
        assert torch.equal(again.candidates[i].image, result.candidates[i].image)
        assert not torch.equal(other.candidates[i].image, result.candidates[i].image)
    assert not torch.equal(result.candidates[0].image, result.candidates[1].image)


def test_a_picture_without_a_face_says_so(embedded):
    empty = Image.new("RGB", (300, 200), "grey")
    with pytest.raises(pulse.PulseError, match="the picture: no face was found"):
        pulse.upscale(empty, embedded)


def test_another_type_is_refused(embedded):
    with pytest.raises(ValueError, match="got list, expected a PIL image, an array or a tensor"):
        pulse.upscale([1, 2], embedded)


@pytest.mark.gpu
def test_another_device_begins_at_the_same_place_and_fits_as_well(path, result, pulse_home):
    generator = pulse.load_generator(device="auto")
    if generator.device.type == "cpu":
        pytest.skip("no CUDA or MPS device here")
    first = replace(SHORT, search=SearchSettings(steps=1))
    cpu = pulse.upscale(path, pulse.load_generator(device="cpu"), candidates=1, settings=first)
    there = pulse.upscale(path, generator, candidates=1, settings=first)
    # 16-bit or TF32 products, where a device prefers them, keep three digits
    assert (cpu.candidates[0].image - there.candidates[0].image).abs().mean() < 2 / 255
    found = pulse.upscale(path, generator, candidates=2, settings=SHORT)
    for ours, theirs in zip(found.candidates, result.candidates, strict=True):
        assert ours.image.device.type == "cpu"  # ready to be saved
        assert ours.error < 1.5 * theirs.error
