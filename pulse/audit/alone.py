"""The generator alone: what it draws when nobody asks for anything, and whom it cannot draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.cluster.vq import kmeans2

from pulse.audit.people import Person
from pulse.audit.skin import ITA_NAMES, Tone, skin_tone, skin_windows
from pulse.audit.statistics import Interval, index_of, mean_interval
from pulse.errors import PulseError
from pulse.faces.detect import detect_faces
from pulse.faces.embedding import face_embedding
from pulse.images import to_image
from pulse.pretrained import Pretrained

Array = NDArray[np.float64]

NEIGHBOURS = 3  # whose distance makes a sample's ball (Kynkäänniemi et al. 2019, section 3)
CLUSTERS = 8
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class Drawn:
    """One sample in which a face was found.

    Attributes:
        tone: of its skin.
        embedding: (128,).
    """

    tone: Tone
    embedding: Array


@dataclass(frozen=True)
class Alone:
    """What samples of the prior show.

    Attributes:
        samples: drawn.
        faces: of them with a face that dlib finds; the rest counts for all figures below.
        lightness: quantiles 5, 25, 50, 75 and 95 % of L* of the skin.
        ita_deg: the same of the individual typology angle.
        ita_shares: share of each class of it.
        monk_shares: share of each tone of the Monk scale, from the lightest.
        cluster_shares: of k-means clusters of the faces' embeddings, largest first.
        recall: share of each group's photographs that lie where samples lie; None where people are
            too few.
        nearest: distance from each group's photographs to the nearest sample.
    """

    samples: int
    faces: int
    lightness: tuple[float, ...]
    ita_deg: tuple[float, ...]
    ita_shares: dict[str, float]
    monk_shares: tuple[float, ...]
    cluster_shares: tuple[float, ...]
    recall: dict[str, Interval | None]
    nearest: dict[str, Interval | None]


def measure_generator(
    generator: Pretrained, samples: int, people: Sequence[Person] = (), seed: int = 0,
    on_progress: Callable[[int], object] | None = None,
) -> Alone:  # fmt: skip
    """Draw samples and measure them.

    Args:
        generator: with a mapping network.
        samples: how many.
        people: whose photographs are looked for among the samples.
        seed: of the samples.
        on_progress: called with the number of samples of each batch.

    Raises:
        PulseError: if hardly a sample shows a face.
    """
    drawn: list[Drawn] = []
    for images in sample_images(generator, samples, seed):
        drawn += [face for image in images if (face := measure_drawn(image)) is not None]
        if on_progress:
            on_progress(len(images))
    if len(drawn) < max(10, NEIGHBOURS + 1):
        raise PulseError(
            f"dlib found a face in {len(drawn)} of {samples} samples of {generator.name}; ask for "
            "more --samples, or for a generator of faces"
        )
    embeddings = np.stack([face.embedding for face in drawn])
    angles = [face.tone.ita_deg for face in drawn]
    classes = Counter(face.tone.ita_class for face in drawn)
    monk = Counter(face.tone.monk for face in drawn)
    return Alone(
        samples=samples,
        faces=len(drawn),
        lightness=_quantiles([face.tone.lightness for face in drawn]),
        ita_deg=_quantiles(angles),
        ita_shares={name: classes[name] / len(drawn) for name in ITA_NAMES},
        monk_shares=tuple(monk[k] / len(drawn) for k in range(1, 11)),
        cluster_shares=cluster_shares(embeddings, seed),
        recall=by_group(people, lambda points: is_within_manifold(points, embeddings), seed),
        nearest=by_group(people, lambda points: _distances(points, embeddings).min(1), seed),
    )


def sample_images(generator: Pretrained, samples: int, seed: int) -> Iterator[list[Image.Image]]:
    """Pictures from the prior, a batch at a time, each with noise of its own."""
    G = generator.network
    rng = torch.Generator().manual_seed(seed)
    for start in range(0, samples, G.at_once):
        B = min(G.at_once, samples - start)
        z = torch.randn(B, G.z_dim, generator=rng)
        noise = [torch.randn(B, 1, size, size, generator=rng) for size in G.noise_sizes]
        with torch.no_grad():
            ws = G.broadcast(G.mapping(z.to(G.device)))
            x = G.render(ws, [n.to(G.device) for n in noise])
        yield [to_image(image) for image in x]


def measure_drawn(image: Image.Image) -> Drawn | None:
    """Measure a sample; None where dlib finds no face in it."""
    found = detect_faces(image)
    if not found:
        return None
    landmarks = found[0].landmarks
    return Drawn(skin_tone(image, skin_windows(landmarks)), face_embedding(image, landmarks))


def as_json(alone: Alone) -> dict[str, object]:
    """The figures as numbers and words."""
    return asdict(alone)


def _quantiles(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in np.quantile(values, QUANTILES))


def cluster_shares(embeddings: Array, seed: int) -> tuple[float, ...]:
    """Shares of k-means clusters (k-means++), largest first: how evenly faces spread.

    Args:
        embeddings: (N, 128).
        seed: of the start.
    """
    _, labels = kmeans2(
        embeddings, CLUSTERS, minit="++", rng=np.random.default_rng(seed), missing="raise"
    )
    counts = np.sort(np.bincount(labels, minlength=CLUSTERS))[::-1]
    return tuple(float(count) / len(labels) for count in counts)


def by_group(
    people: Sequence[Person], measure: Callable[[Array], NDArray[Any]], seed: int
) -> dict[str, Interval | None]:
    """Something measured of each photograph's embedding, over each group.

    Args:
        people: whose photographs count, where a face was found.
        measure: of embeddings (P, 128): (P,).
        seed: of the intervals.
    """
    shown = [(p.group, p.embedding) for p in people if p.embedding is not None]
    if not shown:
        return {}
    rng = np.random.default_rng(seed)
    values = measure(np.stack([embedding for _, embedding in shown])).astype(float)
    groups, index = index_of([group for group, _ in shown])
    return {group: mean_interval(values[index == k], rng) for k, group in enumerate(groups)}


def is_within_manifold(
    points: Array, samples: Array, neighbours: int = NEIGHBOURS
) -> NDArray[np.bool_]:
    """Whether points lie in a ball around any sample that reaches to its k-th neighbour.

    Kynkäänniemi et al. 2019, equation 2; with real pictures as points, its mean is their recall.

    Args:
        points: (P, D).
        samples: (N, D), N more than `neighbours`.
        neighbours: k.

    Returns:
        (P,).
    """
    between = _distances(samples, samples)
    radius = np.partition(between, neighbours, axis=1)[:, neighbours]  # place 0 is the sample
    within = _distances(points, samples) <= radius  # (P, N)
    return np.any(within, axis=1)


def _distances(a: Array, b: Array) -> Array:
    """(A, B) Euclidean distances."""
    squares = np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * a @ b.T
    distances: Array = np.sqrt(np.maximum(squares, 0))
    return distances
