"""Posterior samples through the pool: jobs in, candidates out."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import pulse
from pulse.candidates import Job
from pulse.cli import main
from pulse.errors import PulseError
from pulse.faces.prepare import prepare_faces
from pulse.images import picture_from
from pulse.pool import SearchPool
from pulse.posterior_pool import PosteriorPool, notes_of, pool_for
from pulse.search.sampling import Diagnostics, SamplerSettings
from pulse.search.surrogate import draw_samples, fit_head
from pulse.settings import FaceSettings, KeepSettings, SearchSettings, UpscaleSettings

QUICK = SamplerSettings(32, 8, 3)
RAW = UpscaleSettings(search=SearchSettings(method="posterior", refine=False, sigma=0.1))


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("pulse.posterior_pool.SAMPLER", QUICK)


@pytest.fixture(scope="module")
def generator(small_generator):
    G, prior = small_generator.network, small_generator.prior
    rng = torch.Generator().manual_seed(0)
    return replace(small_generator, head=fit_head(*draw_samples(G, prior, 200, rng), rng, 5))


@pytest.fixture(scope="module")
def embedded_with_head(pulse_home):
    return pulse.load_generator(device="cpu", with_head=True)


def job_of(image, number=1, px=8, of=32, **rest):
    settings = FaceSettings(align="never", low_res=px)
    face = prepare_faces(picture_from(image), of, settings)[0]
    return Job(face, number, **rest)


@pytest.fixture(scope="module")
def image(low_res_folder):
    return Image.open(low_res_folder / "imagined-04.png").convert("RGB")


def jobs_of(image, numbers, **rest):
    first = job_of(image, **rest)
    return [replace(first, candidate=number) for number in numbers]


def answers_of(pool, jobs):
    pool.add(jobs)
    found = {}
    while len(pool):
        found |= {id(job): candidate for job, candidate in pool.advance()}
    assert pool.advance() == []
    return [found[id(job)] for job in jobs]


def test_every_job_has_its_sample_whatever_else_is_asked_for(generator, image):
    jobs = [*jobs_of(image, [1, 2, 10]), *jobs_of(image, [1], px=12)]
    found = answers_of(PosteriorPool(generator, RAW, 8), jobs)
    assert [candidate.number for candidate in found] == [1, 2, 10, 1]
    assert not torch.equal(found[0].image, found[2].image)
    for i in range(4):  # number 10 is of a second sampler, as each has 8 particles
        (alone,) = answers_of(PosteriorPool(generator, RAW, 8), [jobs[i]])
        assert torch.equal(alone.image, found[i].image)
    told = found[0].posterior
    assert told.sigma == 0.1
    assert found[0].origin.settings["posterior"]["acceptance"] == told.acceptance
    assert found[0].origin.settings["search"]["refine"] is False
    assert found[0].steps == 0
    assert found[0].latents is None


def test_what_is_drawn_is_counted(generator, image, monkeypatch):
    pool = PosteriorPool(generator, RAW, 8)
    drawn = []
    draw = pool._together.draw
    monkeypatch.setattr(pool._together, "draw", lambda z, n: drawn.append(len(z)) or draw(z, n))
    (found,) = answers_of(pool, jobs_of(image, [1]))
    assert found.posterior.drawn == sum(drawn)
    assert drawn[:2] == [8, 32]  # the few that the guide is corrected by, and all explorers
    assert all(0 < rows <= 8 for rows in drawn[2:])  # only those that the guide moved
    tempering = len(drawn) - 2 - 3  # besides these two and the moves
    assert tempering >= 0
    assert tempering % 2 == 0  # two moves a step


def test_only_the_samples_that_are_asked_for_move_on(embedded_with_head, image, monkeypatch):
    """And candidates are the same whichever others are asked for."""
    monkeypatch.setattr("pulse.posterior_pool.SAMPLER", SamplerSettings(64, 24, 4))
    raw = replace(RAW, search=replace(RAW.search, sigma=0.3))
    few, eight, many = (
        answers_of(PosteriorPool(embedded_with_head, raw, 8), jobs_of(image, numbers, of=128))
        for numbers in ([3], range(1, 9), range(1, 25))
    )
    assert len({sample.image.numpy().tobytes() for sample in many}) > 8
    assert not torch.equal(many[0].image, many[1].image)
    for i in range(8):
        assert torch.equal(eight[i].image, many[i].image)
    assert torch.equal(few[0].image, many[2].image)
    assert few[0].posterior.acceptance > 0
    assert few[0].posterior.drawn < eight[0].posterior.drawn + 1 < many[0].posterior.drawn


def test_another_seed_gives_other_samples(generator, image):
    (one,) = answers_of(PosteriorPool(generator, RAW, 8), jobs_of(image, [1]))
    (other,) = answers_of(PosteriorPool(generator, replace(RAW, seed=1), 8), jobs_of(image, [1]))
    assert not torch.equal(one.image, other.image)


def test_refinement_brings_samples_nearer(generator, image):
    keep = KeepSettings(latents=True, steps=True)
    jobs = [replace(job, keep=keep) for job in jobs_of(image, [1, 2])]
    raw = answers_of(PosteriorPool(generator, RAW, 8), jobs)
    search = replace(RAW.search, refine=True, steps=10)
    refined = answers_of(PosteriorPool(generator, replace(RAW, search=search), 8), jobs)
    for before, after in zip(raw, refined, strict=True):
        assert after.error < before.error
        assert 0 < after.steps <= 10
        assert after.posterior == before.posterior
        assert after.latents is not None
        assert after.origin.settings["search"]["refine"] is True
        assert before.latents.v.shape == after.latents.v.shape
        assert len(before.frames) == 1  # the sample, from which the search goes on
        assert torch.equal(after.frames[0], before.frames[0])
        assert len(after.frames) > 1


def test_without_a_head_the_remedy_is_named(small_generator):
    with pytest.raises(PulseError, match="load it with with_head=True"):
        pool_for(small_generator, RAW, 4)
    bare = replace(small_generator, bank=None)
    assert isinstance(pool_for(bare, RAW, 4), SearchPool)  # the descent, as for the mixing


def test_larger_faces_are_refused_with_a_remedy(generator, image):
    pool = PosteriorPool(generator, RAW, 4)
    with pytest.raises(PulseError, match="faces of 16 px at most, not 20 x 20; reduce them with"):
        pool.add([job_of(image, px=20)])


def test_weak_answers_are_told():
    assert notes_of(Diagnostics(0.1, ancestors=7, acceptance=0.4)) == ()
    few, stuck = notes_of(Diagnostics(0.1, ancestors=1, acceptance=0.04))
    assert "descend from 1 draw of the prior" in few
    assert "accepted 4% of the moves" in stuck


def test_the_python_function_takes_the_method(generator, image):
    settings = replace(RAW, face=FaceSettings(align="never", low_res=8))
    result = pulse.upscale(image, generator, candidates=2, settings=settings)
    assert [candidate.posterior.sigma for candidate in result.candidates] == [0.1, 0.1]


def test_a_run_records_how_the_sampler_fared(low_res_folder, tmp_path):
    """The embedded generator, with sigma estimated, and samples refined."""
    arguments = [
        "upscale", str(low_res_folder / "imagined-01.png"), "-o", str(tmp_path / "out"),
        "--method", "posterior", "-n", "2", "--low-res", "8", "--align", "never",
        "--batch-size", "8", "--no-report",
    ]  # fmt: skip
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    lines = (tmp_path / "out" / "journal.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["status"] for record in records] == ["saved", "saved"]
    for record in records:
        assert record["posterior"]["sigma"] >= 0.05
        assert record["posterior"]["ancestors"] >= 1
        assert record["posterior"]["steps"] > 3


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--sigma", "0"], "'0' is neither 'auto' nor a number above 0"),
        (["--sigma", "x"], "'x' is neither 'auto' nor a number above 0"),
        (["--sigma", "0.1"], "got a sigma, but the method 'mixing' has none"),
    ],
)
def test_a_wrong_sigma_is_wrong_usage(option, message, tmp_path):
    result = CliRunner().invoke(main, ["upscale", str(tmp_path), *option])
    assert result.exit_code == 2
    assert message in result.output
