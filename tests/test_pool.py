"""Many searches on one device."""

from __future__ import annotations

from dataclasses import replace
from pydoc import locate

import pytest
import torch
from PIL import Image

import pulse
from pulse.candidates import Job
from pulse.errors import DeviceError
from pulse.faces.prepare import prepare_faces
from pulse.images import picture_from
from pulse.pool import SearchPool
from pulse.search.precision import feature_dtype
from pulse.settings import FaceSettings, SearchSettings, UpscaleSettings

SHORT = UpscaleSettings(search=SearchSettings(steps=6, tolerance=0))
DESCENT = replace(SHORT, search=replace(SHORT.search, method="descent"))
BOTH = pytest.mark.parametrize("settings", [SHORT, DESCENT], ids=["mixing", "descent"])


@pytest.fixture(scope="module")
def image(low_res_folder):
    return Image.open(low_res_folder / "imagined-04.png").convert("RGB").resize((8, 8))


def job_of(image, number=1):
    return Job(prepare_faces(picture_from(image), 32, FaceSettings())[0], number)


def answers_of(pool, jobs):
    """The candidates in the order of the jobs."""
    pool.add(jobs)
    found = {}
    while len(pool):
        answers = pool.advance()
        assert answers
        assert not {id(job) for job, _ in answers} & found.keys()  # nothing twice
        found |= {id(job): candidate for job, candidate in answers}
    assert pool.advance() == []
    return [found[id(job)] for job in jobs]


def search(generator, jobs, batch_size, settings=SHORT):
    return answers_of(SearchPool(generator, settings, batch_size), jobs)


@BOTH
def test_faces_of_several_sizes_share_a_batch(small_generator, image, settings):
    jobs = [job_of(image), job_of(image.resize((12, 12))), job_of(image, 2)]
    found = search(small_generator, jobs, 4, settings)
    assert [candidate.number for candidate in found] == [1, 1, 2]
    for job, candidate in zip(jobs, found, strict=True):
        (alone,) = search(small_generator, [job], 4, settings)
        assert torch.equal(candidate.image, alone.image)


def test_a_free_slot_goes_to_the_next_job_at_once(small_generator, image):
    """The batch stays full while jobs wait, and each job finds what it finds alone."""
    jobs = [job_of(image, number) for number in range(1, 8)]
    settings = replace(
        SHORT,
        search=SearchSettings(method="descent", noise="trainable", steps=40, tolerance=4e-3),
    )
    active = []
    pool = SearchPool(small_generator, settings, 4, lambda progress: active.append(progress.active))
    found = answers_of(pool, jobs)
    steps = [candidate.steps for candidate in found]
    assert len(set(steps)) > 2  # they leave at different times, or this would show nothing
    waited = sum(steps) / 4
    assert len(active) < waited + max(steps)  # in rounds of 4 the slowest of each would count
    assert active[: min(steps)] == [4] * min(steps)
    for i in (0, 5):
        (alone,) = search(small_generator, [jobs[i]], 4, settings)
        assert torch.equal(found[i].image, alone.image)
        assert found[i].steps == alone.steps


@pytest.mark.parametrize(
    ("settings", "method", "fails_at"),
    [
        (SHORT, "pulse.generators.base.Generator.render", 1),
        (SHORT, "pulse.generators.base.Generator.render", 6),  # the last step of the first four
        (SHORT, "pulse.generators.base.Generator.render", 9),
        (SHORT, "pulse.search.anderson.AndersonMixing.step", 3),
        (SHORT, "pulse.search.mixing.Mixing._restart", 3),
        (SHORT, "pulse.search.mixing.Mixing.draw_start", 5),
        (SHORT, "pulse.search.slots.Found.row", 1),
        (SHORT, "pulse.search.slots.Found.row", 3),
        (DESCENT, "pulse.generators.base.Generator.render", 6),
        (DESCENT, "pulse.search.sphere.SphericalAdam.step", 3),
        (DESCENT, "pulse.search.sphere.SphericalAdam.restart", 1),
        (DESCENT, "pulse.search.sphere.SphericalAdam.restart", 3),
        (DESCENT, "pulse.search.sphere.SphericalAdam.restart", 5),
    ],
)
def test_out_of_memory_halves_the_batch_and_loses_nothing(
    small_generator, image, monkeypatch, settings, method, fails_at
):
    """The error comes anywhere in any step, as long as more than two searches share the batch."""
    jobs = [job_of(image, number) for number in range(1, 6)]
    want = search(small_generator, jobs, 2, settings)
    pool = SearchPool(small_generator, settings, 4)
    real, calls = locate(method), []

    def with_little_memory(*arguments):
        calls.append(1)
        if pool.batch_size > 2 and len(calls) >= fails_at:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*arguments)

    monkeypatch.setattr(method, with_little_memory)
    found = answers_of(pool, jobs)
    assert pool.batch_size == 2
    for got, expected in zip(found, want, strict=True):
        # a batch of another shape rounds differently: below one grey level on average
        assert (got.image - expected.image).abs().mean() < 1 / 255


def test_too_little_memory_for_one_search_is_one_clear_line(small_generator, image, monkeypatch):
    def no_memory(self, ws, noise_maps):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("pulse.generators.base.Generator.render", no_memory)
    with pytest.raises(DeviceError, match="cpu has too little memory for one search"):
        pulse.upscale(image, small_generator, candidates=2, settings=SHORT)


def test_without_a_bank_the_descent_does_it_and_the_candidate_says_so(small_generator, image):
    bare = replace(small_generator, bank=None)
    (found,) = search(bare, [job_of(image)], 1)
    (descent,) = search(bare, [job_of(image)], 1, DESCENT)
    assert torch.equal(found.image, descent.image)
    assert found.origin.settings["search"]["method"] == "descent"
    assert found.origin.settings["search"]["precision"] == "single"
    (mixed,) = search(small_generator, [job_of(image)], 1)
    assert mixed.origin.settings["search"]["method"] == "mixing"


@pytest.mark.parametrize("has_bfloat16", [False, True])
def test_the_precision_is_chosen_by_the_processor_and_told(
    small_generator, image, monkeypatch, has_bfloat16
):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: has_bfloat16, raising=False)
    (found,) = search(small_generator, [job_of(image)], 1)
    expected = "mixed" if has_bfloat16 else "single"
    assert found.origin.settings["search"]["precision"] == expected
    forced = replace(SHORT.search, precision=expected)
    (same,) = search(small_generator, [job_of(image)], 1, replace(SHORT, search=forced))
    assert torch.equal(found.image, same.image)


@pytest.fixture
def five_jobs(low_res_folder):
    picture = picture_from(Image.open(low_res_folder / "imagined-04.png").convert("RGB"))
    face = prepare_faces(picture, 128, FaceSettings())[0]
    return [Job(face, number) for number in range(1, 6)]


def with_precision(precision):
    if precision == "mixed" and feature_dtype("auto", torch.device("cpu")) != torch.bfloat16:
        pytest.skip("this processor has no bfloat16, and takes minutes without it")
    return replace(SHORT, search=replace(SHORT.search, precision=precision))


@pytest.mark.parametrize(
    ("precision", "others"), [("single", (2, 8, 16)), ("mixed", (1, 8, 12))]
)  # single precision in batches of one is rounded otherwise
def test_the_batch_size_changes_no_bit(embedded, five_jobs, precision, others):
    settings = with_precision(precision)
    four = search(embedded, five_jobs, 4, settings)
    for size in others:
        for one, other in zip(four, search(embedded, five_jobs, size, settings), strict=True):
            assert torch.equal(one.image, other.image)
            assert torch.equal(one.latent, other.latent)


@pytest.mark.parametrize("precision", ["single", "mixed"])
def test_the_number_of_threads_changes_no_bit(embedded, five_jobs, one_thread, precision):
    """Workers share the cores that a single process has for itself."""
    settings = with_precision(precision)
    settings = replace(settings, search=replace(settings.search, steps=3))
    alone = search(embedded, five_jobs[:2], 4, settings)
    torch.set_num_threads(2)
    for one, other in zip(alone, search(embedded, five_jobs[:2], 4, settings), strict=True):
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.latent, other.latent)
