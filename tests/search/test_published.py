"""The search against a run of the published code: same weights, same start, every step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import expected_of, pulse_state

from pulse.downscale import Downscale
from pulse.generators.stylegan1 import StyleGAN1
from pulse.search.descent import Descent
from pulse.search.latent import LatentPrior
from pulse.search.losses import geocross, mean_squared
from pulse.search.start import Start
from pulse.settings import PUBLISHED

STEPS = 40
TOLERANCE = 1e-3

# The descent doubles differences of rounding every few steps, whoever's code it is: a start moved
# by 3e-8 of its size, half of float32's last bit, ends with losses 3e-3 and a latent 2.5e-2 away.
# So the whole run can be followed only where rounding is as in the published run: one thread, and
# vectors of 256 bits. Elsewhere (measured with PyTorch's plain kernels) the losses are 5e-5 apart
# after FIRST_STEPS and 2e-2 after all of them; there a miss of what follows is told, not failed.
FIRST_STEPS = 5
follows_to_the_end = pytest.mark.xfail(
    torch.backends.cpu.get_cpu_capability() != "AVX2",
    reason="this processor rounds otherwise than that of the published run",
    strict=False,
)


@pytest.fixture(scope="module")
def published():
    return expected_of("pulse-search-32", "search")


@pytest.fixture(scope="module")
def ours(published):
    """The losses of every step, and the search after the last, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    G = StyleGAN1.from_state_dict(pulse_state("pulse-search-32", "search"))
    start = Start(published["latent_0"], [published[f"noise_{i}_0"] for i in range(G.num_ws)])
    prior = LatentPrior(published["gaussian_mean"], published["gaussian_std"])
    A = Downscale((32, 32), tuple(published["target"].shape[2:]))
    settings = replace(PUBLISHED, steps=STEPS)
    descent = Descent(G, prior, settings, len(start))
    for slot in range(len(start)):
        descent.admit(slot, A, published["target"][slot], start.rows(slot, slot + 1))
    rows = []
    while not descent.finished():
        v, *moving = (x.clone() for x in descent.optimizer.variables)
        ws = prior.to_w(v)
        image = G.render(ws, [*moving, *descent.fixed_noise])
        misfit = mean_squared(A(image), published["target"]).clamp(min=PUBLISHED.tolerance)
        total = descent.step().sum()
        rows.append(torch.stack([misfit.sum(), geocross(ws).sum(), total]))
    torch.set_num_threads(threads)
    return torch.stack(rows), descent, image


LOSSES = pytest.mark.parametrize(("column", "name"), [(0, "L2"), (1, "GEOCROSS"), (2, "total")])


@LOSSES
def test_losses_of_the_first_steps_on_any_machine(published, ours, column, name):
    got, want = ours[0][:, column], published["losses_l2_geocross_total"][:, column]
    assert ((got - want) / want)[:FIRST_STEPS].abs().max() < TOLERANCE


@follows_to_the_end
@LOSSES
def test_losses_of_every_step(published, ours, column, name):
    got, want = ours[0][:, column], published["losses_l2_geocross_total"][:, column]
    assert len(got) == STEPS
    assert ((got - want) / want).abs().max() < TOLERANCE


def distance(got, want):
    return ((got - want).norm() / want.norm()).item()


@follows_to_the_end
def test_latent_at_the_end(published, ours):
    assert distance(ours[1].optimizer.variables[0], published["latent_end"]) < TOLERANCE


@follows_to_the_end
@pytest.mark.parametrize("i", range(5))
def test_noise_maps_at_the_end(published, ours, i):
    got = ours[1].optimizer.variables[1 + i]
    assert distance(got, published[f"noise_{i}_end"]) < TOLERANCE


@follows_to_the_end
def test_picture_of_the_last_step(published, ours):
    assert distance(ours[2], published["image_last_step"]) < TOLERANCE


def test_the_published_settings():
    s = PUBLISHED
    assert (s.steps, s.step_size, s.tolerance) == (100, 0.4, 2e-3)
    assert (s.loss.l2, s.loss.l1, s.loss.geocross) == (100, 0, 0.05)
    assert (s.noise, s.trainable_noise_maps, s.last_noise_map_is_zero) == ("trainable", 5, True)
    assert (s.tile_latent, s.start) == (False, "independent")
    assert not s.stop_at_tolerance
    assert s.clamp_misfit
