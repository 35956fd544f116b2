"""The generator alone: recall on known points, and figures of the embedded generator."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from pulse.audit.alone import (
    by_group,
    cluster_shares,
    is_within_manifold,
    measure_generator,
    sample_images,
)
from pulse.errors import PulseError


def test_points_are_recalled_where_samples_are():
    samples = np.arange(10.0)[:, None]  # the third neighbour of 5 is 2 away, of 0 and 9 it is 3
    points = np.array([[5.5], [-2.9], [-3.1], [12.1], [30.0]])
    inside = is_within_manifold(points, samples, neighbours=3)
    assert inside.tolist() == [True, True, False, False, False]


def test_recall_is_by_group():
    samples = np.random.default_rng(0).normal(size=(200, 4))
    near = [SimpleNamespace(group="near", embedding=row) for row in samples[:6]]
    far = [SimpleNamespace(group="far", embedding=row + 50) for row in samples[:6]]
    few = [SimpleNamespace(group="few", embedding=row) for row in samples[:2]]
    unseen = [SimpleNamespace(group="near", embedding=None)]
    people = [*near, *far, *few, *unseen]
    recall = by_group(people, lambda points: is_within_manifold(points, samples), 0)
    assert recall["near"].mean == 1
    assert recall["near"].people == 6
    assert recall["far"].mean == 0
    assert recall["few"] is None
    assert by_group([], len, 0) == {}


def test_clusters_have_their_shares():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(8, 16)) * 40
    counts = [100, 60, 50, 40, 30, 20, 10, 5]
    faces = np.concatenate([c + rng.normal(size=(n, 16)) for c, n in zip(centres, counts)])  # noqa: B905
    np.testing.assert_allclose(cluster_shares(faces, 0), np.array(counts) / sum(counts))


def test_the_embedded_generator_is_measured(embedded):
    seen = []
    alone = measure_generator(embedded, 24, on_progress=seen.append)
    assert seen == [16, 8]
    assert 20 <= alone.faces <= 24  # it draws portraits, and dlib finds nearly all
    assert sum(alone.ita_shares.values()) == pytest.approx(1)
    assert sum(alone.monk_shares) == pytest.approx(1)
    assert list(alone.lightness) == sorted(alone.lightness)
    assert 10 < alone.lightness[0] < alone.lightness[-1] < 95


def test_what_draws_no_faces_is_said(small_generator):
    with pytest.raises(PulseError, match="dlib found a face in 0 of 16 samples of ada-plain; ask"):
        measure_generator(small_generator, 16)


def test_samples_follow_from_the_seed(small_generator):
    first, again, other = (
        np.asarray(next(sample_images(small_generator, 2, seed))[0]) for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()
