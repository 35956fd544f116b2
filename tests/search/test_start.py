from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pulse.search.rng import rng_for
from pulse.search.start import random_start, stack
from pulse.settings import SearchSettings

SIZES = (4, 8, 8, 16)
JOB = (0, "picture", 1, 1)


def start_of(job=JOB, **changes):
    settings = replace(SearchSettings(), **changes)
    return random_start(rng_for(*job), 6, 32, SIZES, settings)


def test_the_same_job_starts_at_the_same_place():
    one, two = start_of(), start_of()
    assert torch.equal(one.v, two.v)
    assert all(torch.equal(a, b) for a, b in zip(one.noise_maps, two.noise_maps, strict=True))


@pytest.mark.parametrize(
    "job", [(1, "picture", 1, 1), (0, "other", 1, 1), (0, "picture", 2, 1), (0, "picture", 1, 2)]
)
def test_seed_picture_face_and_candidate_each_count(job):
    assert not torch.equal(start_of().v, start_of(job).v)


def test_seed_0_is_a_seed():
    """The first tool took 0 for no seed and drew another face every time."""
    assert torch.equal(start_of((0, "a", 1, 1)).v, start_of((0, "a", 1, 1)).v)
    assert not torch.equal(start_of((0, "a", 1, 1)).v, start_of((1, "a", 1, 1)).v)


def test_the_process_stream_is_left_alone():
    torch.manual_seed(7)
    want = torch.rand(3)
    torch.manual_seed(7)
    start_of()
    assert torch.equal(torch.rand(3), want)


def test_shared_start_is_one_vector_for_all_layers():
    assert (start_of().v == start_of().v[:, :1]).all()


def test_independent_start_has_a_vector_for_each_layer():
    v = start_of(start="independent").v
    assert v.shape == (1, 6, 32)
    assert not torch.equal(v[:, 0], v[:, 1])


def test_tiled_latent_is_a_single_vector():
    assert start_of(tile_latent=True).v.shape == (1, 1, 32)


@pytest.mark.parametrize(
    ("changes", "is_zero"),
    [
        ({}, [False, False, False, True]),
        ({"last_noise_map_is_zero": False}, [False] * 4),
        ({"noise": "zero"}, [True] * 4),
    ],
)
def test_noise_maps(changes, is_zero):
    maps = start_of(**changes).noise_maps
    assert [tuple(noise.shape) for noise in maps] == [(1, 1, size, size) for size in SIZES]
    assert [bool((noise == 0).all()) for noise in maps] == is_zero


def test_stack_and_rows_undo_each_other():
    starts = [start_of((seed, "picture", 1, 1)) for seed in range(3)]
    batch = stack(starts)
    assert len(batch) == 3
    one = batch.rows(1, 2)
    assert torch.equal(one.v, starts[1].v)
    assert torch.equal(one.noise_maps[2], starts[1].noise_maps[2])
