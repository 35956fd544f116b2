"""The fast search, on the embedded generator and on others."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import pulse
from pulse.downscale import Downscale
from pulse.search.descent import descend
from pulse.search.losses import mean_squared
from pulse.search.mixing import Mixing
from pulse.search.rng import rng_for
from pulse.search.slots import search_together
from pulse.search.sphere import norms
from pulse.search.start import random_start, stack
from pulse.settings import SearchSettings

LOW_RES = (16, 16)


@pytest.fixture(scope="module")
def A(embedded):
    return Downscale((128, 128), LOW_RES)


@pytest.fixture(scope="module")
def targets(embedded, A):
    """Eight samples of the generator, none of its bank, downscaled: faces that it can draw."""
    G = embedded.network
    z = torch.randn(8, G.z_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return A(G.render(G.broadcast(G.mapping(z)), G.zero_noise()).clamp(0, 1))


def mixing_of(generator, slots, **changes):
    settings = replace(SearchSettings(), **changes)
    return Mixing(generator.network, generator.prior, settings, slots, generator.bank)


def start_of(search, target, number):
    return search.draw_start(target, rng_for(0, "p", 1, number))


def run(generator, A, targets, numbers, **changes):
    search = mixing_of(generator, len(targets), **changes)
    pairs = zip(targets, numbers, strict=True)
    start = stack([start_of(search, target, number) for target, number in pairs])
    return search_together(search, A, targets, start)


@pytest.mark.parametrize("precision", ["single", "mixed"])
def test_its_own_samples_are_found_again_in_a_fraction_of_the_descents_steps(
    embedded, A, targets, precision
):
    found = run(embedded, A, targets, range(1, 9), precision=precision)
    assert (found.errors <= 1e-3).all()
    assert found.steps.float().mean() < 15  # the descent takes 25 to 50


def test_residuals_are_compared_in_units_of_what_the_generator_varies(embedded, A, targets):
    """Plain ones are mostly brightness."""
    search = mixing_of(embedded, 1, precision="single")
    start = start_of(search, targets[0], 1)
    search.admit(0, A, targets[0], start)
    search.step()
    with torch.no_grad():
        ws = embedded.prior.to_w(start.v)
        low_res = A(embedded.network.render(ws, start.noise_maps))
    _, want = search.known(LOW_RES).weigh(targets[:1] - low_res)
    assert torch.allclose(search._history(LOW_RES).r, want.flatten(1), atol=1e-5)


def test_after_as_many_steps_it_fits_better_than_the_descent(embedded, A, targets):
    ours = run(embedded, A, targets[:4], range(1, 5), steps=8, tolerance=0.0)
    settings = SearchSettings(method="descent", steps=8, tolerance=0.0)
    G = embedded.network
    sizes = (G.num_ws, G.w_dim, G.noise_sizes)
    start = stack([random_start(rng_for(0, "p", 1, n), *sizes, settings) for n in range(1, 5)])
    theirs = descend(G, embedded.prior, A, targets[:4], start, settings)
    assert (ours.errors < 0.5 * theirs.errors).all()


@pytest.mark.parametrize("changes", [{"steps": 5}, {"tolerance": 3e-3}])
@pytest.mark.parametrize("precision", ["single", "mixed"])
def test_what_comes_back_belongs_together(embedded, A, targets, precision, changes):
    """In single precision, whatever that of the steps: bfloat16 alone is off by grey levels."""
    found = run(embedded, A, targets[:2], [1, 2], precision=precision, **changes)
    assert torch.allclose(mean_squared(A(found.images), targets[:2]), found.errors, rtol=1e-4)
    with torch.no_grad():
        x = embedded.network.render(found.ws, found.noise_maps).clamp(0, 1)
    # 0.5 / 255 from rounding, and a hundredth of a grey level from float32
    assert (x - found.images).abs().max() < 0.51 / 255
    assert torch.allclose(embedded.prior.to_w(found.v), found.ws, atol=1e-5)


def test_it_stays_on_the_spheres_that_it_began_on(embedded, A, targets):
    search = mixing_of(embedded, 1, steps=4, tolerance=0.0)
    start = start_of(search, targets[0], 1)
    search.admit(0, A, targets[0], start)
    for _ in range(4):
        search.step()
    assert (search.variables[0] - start.v).norm() > 1
    assert torch.allclose(norms(search.variables[0]), norms(start.v), rtol=1e-5)


def test_candidates_differ(embedded, A, targets):
    found = run(embedded, A, targets[:1].expand(3, -1, -1, -1), [1, 2, 3])
    assert (found.errors <= 1e-3).all()
    assert torch.pdist(found.images.flatten(1), p=1).min() / found.images[0].numel() > 2 / 255


@pytest.mark.parametrize(
    "changes", [{"noise": "trainable"}, {"noise": "zero"}, {"tile_latent": True}]
)
def test_every_mode_goes_downhill(embedded, A, targets, changes):
    short = run(embedded, A, targets[:1], [1], steps=1, tolerance=0.0, **changes)
    long = run(embedded, A, targets[:1], [1], steps=8, tolerance=0.0, **changes)
    assert long.errors < 0.5 * short.errors


def test_modes_hold_what_they_hold(embedded, A, targets):
    tiled = run(embedded, A, targets[:1], [1], steps=3, tile_latent=True)
    assert (tiled.ws == tiled.ws[:, :1]).all()
    zero = run(embedded, A, targets[:1], [1], steps=3, noise="zero")
    assert all((noise == 0).all() for noise in zero.noise_maps)
    start = start_of(mixing_of(embedded, 1), targets[0], 1)
    fixed = run(embedded, A, targets[:1], [1], steps=3)
    assert all(map(torch.equal, fixed.noise_maps, start.noise_maps))
    moved = run(embedded, A, targets[:1], [1], steps=3, tolerance=0.0, noise="trainable")
    pairs = zip(moved.noise_maps, start.noise_maps, strict=True)
    assert [not torch.equal(a, b) for a, b in pairs] == [True] * 5 + [False] * 6


@pytest.mark.parametrize("size", [(8, 8), (32, 32), (64, 64), (20, 12)])
def test_faces_of_every_size(embedded, targets, size):
    """Also larger ones than the pictures of the bank, and none that is square."""
    G = embedded.network
    A = Downscale((128, 128), size)
    z = torch.randn(1, G.z_dim, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        target = A(G.render(G.broadcast(G.mapping(z)), G.zero_noise()).clamp(0, 1))
    short = run(embedded, A, target, [1], steps=1, tolerance=0.0)
    long = run(embedded, A, target, [1], steps=12, tolerance=0.0)
    assert long.errors < max(0.25 * short.errors, torch.tensor(1e-3))


def test_another_kernel_than_the_banks(embedded):
    G = embedded.network
    A = Downscale((128, 128), LOW_RES, "nearest")
    z = torch.randn(1, G.z_dim, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        target = A(G.render(G.broadcast(G.mapping(z)), G.zero_noise()).clamp(0, 1))
    short = run(embedded, A, target, [1], steps=1, tolerance=0.0)
    long = run(embedded, A, target, [1], steps=16, tolerance=0.0)
    assert long.errors < 0.25 * short.errors


@pytest.mark.parametrize("precision", ["single", "mixed"])
def test_a_search_finds_the_same_in_any_slot_at_any_time_in_any_company(
    embedded, A, targets, precision
):
    """To the last bit: the batch has one shape, and no row sees another's history."""
    changes = {"steps": 7, "tolerance": 0.0, "precision": precision}

    def end_of(search, slot):
        while True:
            search.step()
            found = {s: search.release(s) for s in search.finished()}
            if slot in found:
                return found[slot]

    first = mixing_of(embedded, 4, **changes)
    start = start_of(first, targets[0], 1)
    first.admit(2, A, targets[0], start)
    alone = end_of(first, 2)
    busy = mixing_of(embedded, 4, **changes)
    small = Downscale((128, 128), (8, 8))
    busy.admit(0, A, targets[1], start_of(busy, targets[1], 2))
    busy.admit(1, small, targets[2][:, ::2, ::2], start_of(busy, targets[2][:, ::2, ::2], 3))
    for _ in range(3):
        busy.step()
    busy.admit(2, A, targets[1], start_of(busy, targets[1], 4))  # ends in the same step as the next
    busy.admit(3, A, targets[0], start_of(busy, targets[0], 1))
    late = end_of(busy, 3)
    assert torch.equal(late.images, alone.images)
    assert torch.equal(late.v, alone.v)
    assert late.steps.item() == alone.steps.item() == 7
    # a slot that is used again remembers nothing
    busy.admit(0, A, targets[0], start)
    assert torch.equal(end_of(busy, 0).images, alone.images)


def test_the_last_step_goes_nowhere(embedded, A, targets):
    search = mixing_of(embedded, 2, steps=2, tolerance=0.0)
    for slot in range(2):
        search.admit(slot, A, targets[slot], start_of(search, targets[slot], 1))
    starts = search.variables[0].clone()
    search.step()
    moved = search.variables[0].clone()
    assert (moved - starts).abs().amax((1, 2)).min() > 0.01
    search.step()
    assert search.finished() == [0, 1]
    assert torch.equal(search.variables[0], moved)


def test_what_only_half_precision_takes_for_good_is_searched_on(embedded, A, targets):
    for target in targets:
        search = mixing_of(embedded, 1, tolerance=0.0, precision="mixed")
        search.admit(0, A, target, start_of(search, target, 1))
        for _ in range(4):
            search.step()
        half = search.best.errors.item()
        search._redraw_best([0])
        single = search.best.errors.item()
        if half < single:
            break
    else:
        pytest.fail("no picture's error is larger in single precision")
    tolerance = (half + single) / 2
    found = run(embedded, A, target[None], [1], tolerance=tolerance, precision="mixed")
    assert found.errors.item() <= tolerance
    assert found.steps.item() > 4


@pytest.mark.parametrize("name", ["ada-plain", "sg3-r"])
def test_generators_that_draw_no_faces(data, pulse_home, name):
    """Random weights, far from linear, and moves that are too long: each gets on."""
    generator = pulse.load_generator(data / "generators" / f"{name}.safetensors", device="cpu")
    G = generator.network
    A = Downscale((G.resolution, G.resolution), (8, 8))
    z = torch.randn(1, G.z_dim, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        target = A(G.render(G.broadcast(G.mapping(z)), G.zero_noise()))[0]
    search = mixing_of(generator, 1, noise="zero", tolerance=0.0, step_size=2.5)  # too long
    search.admit(0, A, target, start_of(search, target, 1))
    errors = [search.step().item() for _ in range(16)]
    assert min(errors) < 0.1 * errors[0]
    if name == "sg3-r":  # the other's colours are out of range, where what is kept is cut off
        (astray,) = [k for k in range(1, 15) if errors[k] > 2 * min(errors[:k])]
        assert errors[astray + 1] == pytest.approx(min(errors[:astray]), rel=1e-4)  # it went back
