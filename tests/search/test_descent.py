"""The published search, reproduced step for step, and what ours does better."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pulse.downscale import Downscale
from pulse.generators.stylegan1 import StyleGAN1
from pulse.search.descent import Descent
from pulse.search.latent import LatentPrior
from pulse.settings import PUBLISHED
from pulse.search.start import Start
from dataclasses import replace


def test_x():
    F = "../shared/fixtures/search/"
    e = {k: torch.from_numpy(v) for k, v in np.load(F + "pulse-search-32.expected.npz").items()}
    state = torch.load(F + "pulse-search-32.synthesis.pt", weights_only=True)
    G = StyleGAN1.from_state_dict({"synthesis." + k: v for k, v in state.items()})
    prior = LatentPrior(e["gaussian_mean"], e["gaussian_std"])
    start = Start(e["latent_0"], [e[f"noise_{i}_0"] for i in range(8)])
    s = replace(PUBLISHED, steps=40)
    d = Descent(G, prior, Downscale((32, 32), (8, 8)), e["target"], start, s)
    losses = torch.stack([d.step().sum() for _ in range(40)])
    want = e["losses_l2_geocross_total"][:, 2]
    print(((losses - want) / want).abs())
    v, *moving = d.optimizer.variables
    rel = lambda a, b: float((a - b).abs().max() / b.abs().max())
    print(rel(v, e["latent_end"]), [rel(moving[i], e[f"noise_{i}_end"]) for i in range(5)])
    print(d.best.errors, d.best.steps)
    print(e["losses_l2_geocross_total"][-3:])
