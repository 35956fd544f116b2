"""The coarse generator: lower blocks and a head, where searches begin."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import DATA
from PIL import Image
from safetensors.torch import save

import pulse
from pulse.batch.run_file import identity_of
from pulse.candidates import Job
from pulse.checkpoints.load import load_network
from pulse.downscale import Downscale
from pulse.errors import WeightsError
from pulse.faces.prepare import prepare_faces
from pulse.fitted import _cached, fit_coarse, kept_coarse_head, remove_coarse
from pulse.images import picture_from
from pulse.pool import SearchPool, coarse_start, slot_search
from pulse.search.coarse import (
    COARSE_PX,
    LARGEST_ERROR,
    CoarseGenerator,
    CoarseHead,
    can_be_coarse,
    draw_coarse_samples,
    fit_coarse_head,
    lower_noise_sizes,
)
from pulse.search.rng import rng_for
from pulse.search.sphere import norms
from pulse.search.start import Start
from pulse.settings import EMBEDDED, FaceSettings, KeepSettings, SearchSettings, UpscaleSettings


def rng_of(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def samples(embedded):
    return draw_coarse_samples(embedded.network, embedded.prior, 300, rng_of(4))


@pytest.fixture(scope="module")
def fitted(samples):
    return fit_coarse_head(samples, rng_of(5), epochs=20)


@pytest.fixture(scope="module")
def coarse(embedded, fitted):
    return replace(embedded, coarse_head=fitted[0])


@pytest.fixture(scope="module")
def faces(low_res_folder):
    pictures = [Image.open(low_res_folder / f"imagined-0{i}.png").convert("RGB") for i in (1, 2, 4)]
    return [prepare_faces(picture_from(picture), 128, FaceSettings())[0] for picture in pictures]


def answers_of(generator, jobs, batch_size, **changes):
    settings = UpscaleSettings(search=replace(SearchSettings(), **changes))
    pool = SearchPool(generator, settings, batch_size)
    pool.add(jobs)
    found = {}
    while len(pool):
        found |= {id(job): candidate for job, candidate in pool.advance()}
    return [found[id(job)] for job in jobs]


def improved(generator, targets, **changes):
    """Starts as a search draws them, and what the coarse generator makes of them."""
    settings = replace(SearchSettings(), **changes)
    whole = slot_search(generator, settings, 1)
    starts = [whole.draw_start(t, rng_for(0, "p", 1, i)) for i, t in enumerate(targets)]
    lead = coarse_start(generator, UpscaleSettings(search=settings))
    return starts, lead.improved(starts, targets)


def test_a_head_learns_what_the_upper_blocks_draw(fitted, embedded):
    head, error = fitted
    assert error < 0.25  # 0.16 with so few; 0.04 with 1000 samples and 60 epochs
    G, prior = embedded.network, embedded.prior
    rng = rng_of(9)
    ws = prior.to_w(prior.from_w(G.mapping(torch.randn(16, G.z_dim, generator=rng)))[:, None])
    ws = ws.expand(-1, G.num_ws, -1)
    with torch.no_grad():
        low_res = Downscale((128, 128), (COARSE_PX, COARSE_PX))(G.render(ws, G.zero_noise()))
        coarse = CoarseGenerator(G, head)
        got = coarse.render(ws, coarse.zero_noise())
    assert got.shape == low_res.shape
    assert (got - low_res).square().mean() < 0.3 * low_res.var(0).mean()


def test_training_is_the_same_again(samples):
    few = samples.rows(slice(0, 40))
    one, two = (fit_coarse_head(few, rng_of(5), epochs=1)[0] for _ in range(2))
    assert all(map(torch.equal, one.state_dict().values(), two.state_dict().values()))


def test_searches_that_begin_at_its_ends_take_fewer_steps_on_the_whole(embedded, coarse, faces):
    jobs = [Job(face, k) for face in faces for k in (1, 2)]
    plain, led = (answers_of(generator, jobs, 6) for generator in (embedded, coarse))
    assert all(candidate.met_tolerance for candidate in led)
    steps = [sum(candidate.steps for candidate in found) for found in (plain, led)]
    assert steps[1] < 0.8 * steps[0]


def test_what_a_job_finds_is_the_same_whatever_its_company(coarse, faces):
    jobs = [Job(face, 1) for face in faces]
    together = answers_of(coarse, jobs, 3, steps=2)
    for job, candidate in zip(jobs, together, strict=True):
        (alone,) = answers_of(coarse, [job], 3, steps=2)
        assert torch.equal(alone.image, candidate.image)


@pytest.mark.parametrize("precision", ["single", "mixed"])
def test_the_number_of_threads_changes_no_bit(coarse, faces, one_thread, precision):
    ends = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        targets = [face.low_res for face in faces]
        ends.append([start.v for start in improved(coarse, targets, precision=precision)[1]])
    assert all(map(torch.equal, ends[0], ends[1]))
    assert all(map(torch.equal, ends[0], ends[2]))


def test_nor_in_a_head_for_as_many_channels_as_large_generators_have(one_thread):
    head = CoarseHead(515, 11, 512).requires_grad_(False).to(memory_format=torch.channels_last)
    for layer in head.modulations:
        torch.nn.init.normal_(layer.weight, std=0.01, generator=rng_of(3))
    features = torch.randn(2, 515, 32, 32, generator=rng_of(1))
    features = features.contiguous(memory_format=torch.channels_last)
    ws = torch.randn(2, 11, 512, generator=rng_of(2))
    told = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        x = features.clone().requires_grad_()
        y = head(x, ws)
        told.append((y.detach(), *torch.autograd.grad(y.square().sum(), x)))
    assert all(map(torch.equal, told[0], told[1]))
    assert all(map(torch.equal, told[0], told[2]))


def test_a_start_stays_on_its_sphere_and_keeps_the_noise_of_upper_blocks(coarse, faces):
    before, after = improved(coarse, [face.low_res for face in faces], noise="trainable")
    maps = len(lower_noise_sizes(coarse.network))
    for old, new in zip(before, after, strict=True):
        assert (new.v - old.v).norm() > 1
        assert torch.allclose(norms(new.v), norms(old.v), rtol=1e-4)
        assert all(map(torch.equal, new.noise_maps[maps:], old.noise_maps[maps:]))
        assert not torch.equal(new.noise_maps[0], old.noise_maps[0])


def test_targets_of_several_sizes_and_large_ones_left_alone(coarse):
    targets = [torch.rand(3, px, px, generator=rng_of(px)) for px in (8, 40, 12, 8, 8)]
    before, after = improved(coarse, targets)
    assert [new is old for new, old in zip(after, before, strict=True)] == [0, 1, 0, 0, 0]
    for i in (0, 2, 4):
        (alone,) = coarse_start(coarse, UpscaleSettings()).improved([before[i]], [targets[i]])
        assert torch.equal(after[i].v, alone.v)


def test_latents_that_an_earlier_run_saved_are_where_a_search_begins(coarse, faces):
    (found,) = answers_of(coarse, [Job(faces[0], 1, keep=KeepSettings(latents=True))], 1, steps=3)
    job = Job(
        faces[0], 1, start=Start(found.latents.v[None], [n[None] for n in found.latents.noise_maps])
    )
    (again,) = answers_of(coarse, [job], 1, steps=1)
    assert abs(again.error - found.error) < 1e-5


def test_the_descent_and_generators_without_a_head_begin_where_they_did(embedded, coarse):
    for changes in ({"method": "descent"}, {"tile_latent": True}):
        settings = UpscaleSettings(search=replace(SearchSettings(), **changes))
        assert coarse_start(coarse, settings) is None
    assert coarse_start(embedded, UpscaleSettings()) is None


def test_a_run_folder_knows_whether_a_coarse_generator_led(embedded, coarse):
    """Its pictures are others: a run does not go on with half of each."""
    settings = UpscaleSettings()
    told = [identity_of(g, settings, "png")["coarse_generator"] for g in (embedded, coarse)]
    assert told == [None, coarse.coarse_head.digest]
    other = CoarseHead(131, 5, 512).requires_grad_(False)
    assert (
        told[1]
        != identity_of(replace(coarse, coarse_head=other), settings, "png")["coarse_generator"]
    )
    descent = UpscaleSettings(search=SearchSettings(method="descent"))
    assert identity_of(coarse, descent, "png")["coarse_generator"] is None


def test_only_a_head_that_is_of_use_is_kept(embedded, monkeypatch):
    loaded = load_network(EMBEDDED)
    prior, G = embedded.prior, loaded.network
    monkeypatch.setattr("pulse.fitted.LARGEST_ERROR", 10.0)
    assert fit_coarse(loaded, prior, 40, epochs=1) > LARGEST_ERROR
    head = kept_coarse_head(G, loaded.sha256)
    assert isinstance(head, CoarseHead)
    assert not any(p.requires_grad for p in head.parameters())
    assert kept_coarse_head(G, "0" * 64) is None
    generator = pulse.load_generator(device="cpu", with_bank=False)
    assert generator.coarse_head is not None
    assert generator.to(torch.device("meta")).coarse_head.scale.is_meta
    monkeypatch.setattr("pulse.fitted.LARGEST_ERROR", LARGEST_ERROR)
    fit_coarse(loaded, prior, 30, epochs=1)  # as bad, and not kept now
    assert kept_coarse_head(G, loaded.sha256).digest == head.digest
    assert remove_coarse(loaded)
    assert kept_coarse_head(G, loaded.sha256) is None


def test_a_damaged_head_is_none(embedded):
    path = _cached(embedded.network, "1" * 64, "coarse")
    path.parent.mkdir(exist_ok=True)
    for state in ({"styles": torch.zeros(2, 3, 4)}, {"x": torch.zeros(1)}):
        path.write_bytes(save(state))
        assert kept_coarse_head(embedded.network, "1" * 64) is None
    path.write_bytes(b"no head")
    assert kept_coarse_head(embedded.network, "1" * 64) is None


def test_a_small_generator_is_refused_in_one_line(small_generator):
    assert not can_be_coarse(small_generator.network)
    loaded = load_network(DATA / "generators" / "ada-plain.safetensors")
    with pytest.raises(WeightsError, match="no coarse generator: --coarse takes StyleGAN 1 and 2"):
        fit_coarse(loaded, small_generator.prior, 40)
    with pytest.raises(ValueError, match="a stylegan2 of 32 px"):
        draw_coarse_samples(small_generator.network, small_generator.prior, 4, rng_of(0))
