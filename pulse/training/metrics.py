"""How near drawn pictures are to the data: Fréchet distance, recall, nearest neighbours.

All in the space of the feature network's deepest features, averaged over the picture, (N, 320).
Its distances compare trainings of this project with each other, not with published figures, which
are measured with another network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

NEIGHBOURS = 3  # of Kynkäänniemi et al. 2019


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """The Fréchet distance between normal distributions fitted to a (N, D) and b (M, D).

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) (Heusel et al. 2017); the trace of the last
    term is that of the root of A C_b A, where A is the root of C_a, which is symmetric.
    """
    a, b = a.double(), b.double()
    values, vectors = torch.linalg.eigh(torch.cov(a.T))
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    covariance = torch.cov(b.T)
    cross = torch.linalg.eigvalsh(root @ covariance @ root).clamp(min=0).sqrt().sum()
    distance = (a.mean(0) - b.mean(0)).square().sum() + values.sum() + covariance.trace()
    return float((distance - 2 * cross).clamp(min=0))


def radii(x: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """The distance of each row of x (N, D) to its k-th neighbour among the others: (N,)."""
    k = min(k, len(x) - 1)
    return torch.cdist(x, x).kthvalue(k + 1, dim=1).values  # the first is the row itself


def recall_by_group(
    real: Tensor, drawn: Tensor, members: Mapping[str, Sequence[int]]
) -> dict[str, float]:
    """The share of each group that lies within what is drawn (Kynkäänniemi et al. 2019).

    A picture lies within if a drawn one is nearer to it than that one's k-th drawn neighbour.

    Args:
        real: (N, D).
        drawn: (M, D).
        members: the rows of each group.
    """
    is_within = (torch.cdist(real, drawn) <= radii(drawn)).any(1)
    return {group: float(is_within[list(rows)].float().mean()) for group, rows in members.items()}


def nearest(drawn: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest row of real (N, D) for each of drawn (M, D): distances (M,) and places (M,)."""
    distances, places = torch.cdist(drawn, real).min(1)
    return distances, places


def nearness(drawn: Tensor, real: Tensor) -> float:
    """How near samples are to the data as a share of how near the data are to each other.

    The median distance of a drawn picture to its nearest real one, divided by the median distance
    of a real one to its nearest other. Far below 1 means that pictures were learnt by heart.
    """
    return float(nearest(drawn, real)[0].median() / radii(real, 1).median().clamp(min=1e-12))
