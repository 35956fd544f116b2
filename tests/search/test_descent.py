"""What the search promises beside the published arithmetic, on the embedded generator."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pulse.downscale import Downscale
from pulse.search.descent import Descent, descend
from pulse.search.losses import mean_squared
from pulse.search.rng import rng_for
from pulse.search.start import random_start, stack
from pulse.settings import SearchSettings

LOW_RES = (16, 16)


@pytest.fixture(scope="module")
def A(embedded):
    return Downscale((128, 128), LOW_RES)


def start_of(G, numbers, settings):
    sizes = (G.num_ws, G.w_dim, G.noise_sizes)
    return stack([random_start(rng_for(0, "p", 1, n), *sizes, settings) for n in numbers])


@pytest.fixture(scope="module")
def targets(embedded, A):
    """Eight samples of the generator, downscaled: faces that it can draw."""
    G = embedded.network
    z = torch.randn(8, G.z_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return A(G.render(G.broadcast(G.mapping(z)), G.zero_noise()).clamp(0, 1))


def search(embedded, A, targets, numbers, **changes):
    settings = replace(SearchSettings(), **changes)
    G = embedded.network
    start = start_of(G, numbers, settings)
    return descend(G, embedded.prior, A, targets, start, settings)


def test_the_error_is_that_of_the_picture_that_is_saved(embedded, A, targets):
    found = search(embedded, A, targets[:2], [1, 2], steps=8)
    assert torch.allclose(mean_squared(A(found.images), targets[:2]), found.errors, rtol=1e-4)
    eighths = found.images * 255
    assert torch.allclose(eighths, eighths.round(), atol=1e-3)  # whole grey levels of 255
    assert found.images.min() >= 0
    assert found.images.max() <= 1


def test_the_picture_is_drawn_from_the_styles_that_come_with_it(embedded, A, targets):
    found = search(embedded, A, targets[:2], [1, 2], steps=8)
    with torch.no_grad():
        x = embedded.network.render(found.ws, found.noise_maps).clamp(0, 1)
    # 0.5 / 255 from rounding, and a hundredth of a grey level from float32
    assert (x - found.images).abs().max() < 0.51 / 255
    assert torch.allclose(embedded.prior.to_w(found.v), found.ws, atol=1e-5)


def test_the_best_iterate_is_kept_not_the_last(embedded, A, targets):
    """Steps far too long make the error jump about; what is returned is the lowest ever seen."""
    settings = replace(SearchSettings(), steps=15, step_size=8.0, tolerance=0.0)
    start = start_of(embedded.network, [1], settings)
    descent = Descent(embedded.network, embedded.prior, settings, slots=1)
    descent.admit(0, A, targets[0], start)
    errors = []
    for _ in range(4):  # in the middle of the schedule, where steps are longest
        v, *moving = descent.optimizer.variables
        ws = embedded.prior.to_w(v)
        with torch.no_grad():
            x = embedded.network.render(ws, [*moving, *descent.fixed_noise])
        errors.append(mean_squared(A(x.clamp(0, 1)), targets[:1]).item())
        descent.step()
    assert errors[-1] > 1.05 * min(errors)  # else this would not tell the best from the last
    assert descent.best.errors.item() == pytest.approx(min(errors), rel=0.01)  # 8-bit rounding


def test_every_picture_is_judged_alone(embedded, A, targets):
    """One hopeless picture in the batch keeps no other from meeting the tolerance and stopping."""
    hopeless = torch.zeros(1, 3, *LOW_RES)
    hopeless[:, :, ::2] = 1  # stripes: no face downscales to them
    found = search(embedded, A, torch.cat([targets[:2], hopeless]), [1, 2, 3], steps=60)
    assert (found.errors[:2] <= 1e-3).all()
    assert (found.steps[:2] < 60).all()
    assert found.errors[2] > 0.01
    assert found.steps[2] == 60


def test_who_leaves_the_batch_takes_nobody_elses_noise(embedded, A, targets):
    """The first picture is done at once; the second must go on with its own fixed noise."""
    hopeless = torch.zeros(1, 3, *LOW_RES)
    hopeless[:, :, ::2] = 1
    changes = {"steps": 6, "noise": "fixed", "tolerance": 0.05}
    both = search(embedded, A, torch.cat([targets[:1], hopeless]), [1, 2], **changes)
    alone = search(embedded, A, hopeless, [2], **changes)
    assert both.steps.tolist() == [1, 6]
    assert (both.images[1] - alone.images[0]).abs().mean() < 1 / 255  # rounding


def test_a_batch_of_8_gives_each_picture_what_it_gets_alone(embedded, A, targets):
    numbers = list(range(1, 9))
    changes = {"steps": 20, "tolerance": 0.0}
    together = search(embedded, A, targets, numbers, **changes)
    for i, number in enumerate(numbers):
        alone = search(embedded, A, targets[i : i + 1], [number], **changes)
        # rounding differs with the shape of a batch, and the descent doubles it; below one level
        assert (alone.images[0] - together.images[i]).abs().mean() < 1 / 255


def test_most_of_its_own_samples_are_found_again(embedded, A, targets):
    found = search(embedded, A, targets, range(1, 9))
    assert (found.errors <= 1e-3).sum() >= 7


def test_other_starts_give_other_faces(embedded, A, targets):
    found = search(embedded, A, targets[:1].expand(2, -1, -1, -1), [1, 2])
    assert (found.errors <= 2e-3).all()
    assert (found.images[0] - found.images[1]).abs().mean() > 2 / 255


@pytest.mark.parametrize(
    "changes",
    [{"noise": "trainable"}, {"noise": "zero"}, {"tile_latent": True}, {"start": "independent"}],
)
def test_every_mode_goes_downhill(embedded, A, targets, changes):
    short = search(embedded, A, targets[:1], [1], steps=1, **changes)
    long = search(embedded, A, targets[:1], [1], steps=15, **changes)
    assert long.errors < 0.5 * short.errors


def test_modes_hold_what_they_hold(embedded, A, targets):
    tiled = search(embedded, A, targets[:1], [1], steps=3, tile_latent=True)
    assert (tiled.ws == tiled.ws[:, :1]).all()
    zero = search(embedded, A, targets[:1], [1], steps=3, noise="zero")
    assert all((noise == 0).all() for noise in zero.noise_maps)
    fixed = search(embedded, A, targets[:1], [1], steps=3, noise="fixed")
    start = start_of(embedded.network, [1], SearchSettings())
    assert all(map(torch.equal, fixed.noise_maps, start.noise_maps))
    moved = search(embedded, A, targets[:1], [1], steps=3, noise="trainable")
    is_moved = [not torch.equal(a, b) for a, b in zip(moved.noise_maps, start.noise_maps)]  # noqa: B905
    assert is_moved == [True] * 5 + [False] * 6


def test_progress_is_told_and_may_end_the_search(embedded, A, targets):
    seen = []

    def watch(progress):
        seen.append((progress.taken, progress.steps, progress.active))
        if progress.taken == [2]:
            raise KeyboardInterrupt

    settings = SearchSettings(steps=5, tolerance=0.0)
    start = start_of(embedded.network, [1], settings)
    with pytest.raises(KeyboardInterrupt):
        descend(embedded.network, embedded.prior, A, targets[:1], start, settings, watch)
    assert seen == [([1], 5, 1), ([2], 5, 1)]


def test_a_target_of_another_size_is_refused(embedded, A, targets):
    settings = SearchSettings()
    G, prior, start = embedded.network, embedded.prior, start_of(embedded.network, [1, 2], settings)
    with pytest.raises(ValueError, match=r"target has shape \(8, 3, 16, 16\), expected \(2, 3, 16"):
        descend(G, prior, A, targets, start, settings)
    with pytest.raises(ValueError, match=r"target has shape \(3, 16, 16\), expected \(3, 8, 8\)"):
        Descent(G, prior, settings, 1).admit(
            0, Downscale((128, 128), (8, 8)), targets[0], start.rows(0, 1)
        )


def run_to_the_end(descent):
    """Step until every search is finished: slot to what was found."""
    found = {}
    while descent.active:
        descent.step()
        found |= {slot: descent.release(slot) for slot in descent.finished()}
    return found


def test_a_search_finds_the_same_in_any_slot_at_any_time_in_any_company(embedded, A, targets):
    """To the last bit: the batch has one shape, whoever is in it."""
    settings = SearchSettings(steps=7, tolerance=0.0)
    G = embedded.network
    first = Descent(G, embedded.prior, settings, slots=4)
    first.admit(2, A, targets[0], start_of(G, [1], settings))
    alone = run_to_the_end(first)[2]
    busy = Descent(G, embedded.prior, settings, slots=4)
    small = Downscale((128, 128), (8, 8))
    busy.admit(0, A, targets[1], start_of(G, [2], settings))
    busy.admit(1, small, targets[2][:, ::2, ::2], start_of(G, [3], settings))
    for _ in range(3):
        busy.step()
    busy.admit(3, A, targets[0], start_of(G, [1], settings))
    late = run_to_the_end(busy)[3]
    assert torch.equal(late.images, alone.images)
    assert torch.equal(late.v, alone.v)
    assert late.steps.item() == alone.steps.item() == 7
    # a slot that is used again remembers nothing
    busy.admit(0, A, targets[0], start_of(G, [1], settings))
    assert torch.equal(run_to_the_end(busy)[0].images, alone.images)
