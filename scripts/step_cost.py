"""What one step of a search costs at 1024 px: the published one against the default.

    python scripts/step_cost.py [--repeats 3] [--out step_cost.json]

Networks of full size with random weights, one picture, a target of 32 px. "published" is the
descent as its authors' code runs: single precision, contiguous features, weights scaled anew in
each step, the C library's own ways with memory. "coarse" is a step on the coarse generator, whose
head has random weights too, in mixed precision where the processor has it.
Each measurement is a process of its own, for its peak of memory to be its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from benchmark import scale_anew
from torch import Tensor

from pulse.downscale import Downscale
from pulse.generators.base import Generator
from pulse.generators.stylegan1 import StyleGAN1
from pulse.generators.stylegan2 import StyleGAN2
from pulse.memory import keep_freed_memory
from pulse.search.bank import Bank
from pulse.search.coarse import COARSE_PX, CoarseGenerator, CoarseHead
from pulse.search.descent import Descent
from pulse.search.latent import LatentPrior
from pulse.search.mixing import Mixing
from pulse.search.slots import SlotSearch
from pulse.settings import PUBLISHED, SearchSettings

SIZES = [2**level for level in range(2, 11)]
METHODS = ("published", "default, single", "default, mixed", "coarse")


def stylegan2_state() -> dict[str, Tensor]:
    """Random weights in the shapes of a StyleGAN2 of 1024 px (config F), without the mapping."""
    rng = torch.Generator().manual_seed(0)
    taps = torch.tensor([1.0, 3, 3, 1])
    taps = torch.outer(taps, taps) / 64
    state = {"mapping.fc0.weight": torch.randn(512, 512, generator=rng),
             "mapping.fc0.bias": torch.zeros(512), "mapping.w_avg": torch.zeros(512)}  # fmt: skip
    before = 0
    for level in range(2, 11):
        size = 2**level
        channels = min(512, 2**15 // size)
        block = f"synthesis.b{size}"
        state[f"{block}.resample_filter"] = taps
        if not before:
            state[f"{block}.const"] = torch.randn(channels, 4, 4, generator=rng)
        for name in ["conv0", "conv1"] if before else ["conv1"]:
            taken = before if name == "conv0" else channels
            state |= {
                f"{block}.{name}.weight": torch.randn(channels, taken, 3, 3, generator=rng),
                f"{block}.{name}.bias": torch.zeros(channels),
                f"{block}.{name}.noise_strength": torch.tensor(0.1),
                f"{block}.{name}.noise_const": torch.randn(size, size, generator=rng),
                f"{block}.{name}.resample_filter": taps,
                f"{block}.{name}.affine.weight": torch.randn(taken, 512, generator=rng),
                f"{block}.{name}.affine.bias": torch.ones(taken),
            }
        state |= {
            f"{block}.torgb.weight": torch.randn(3, channels, 1, 1, generator=rng),
            f"{block}.torgb.bias": torch.zeros(3),
            f"{block}.torgb.affine.weight": torch.randn(channels, 512, generator=rng),
            f"{block}.torgb.affine.bias": torch.ones(channels),
        }
        before = channels
    return state


def stylegan1_state() -> dict[str, Tensor]:
    """Random weights in the shapes of the StyleGAN1 of FFHQ, without the mapping."""
    rng = torch.Generator().manual_seed(0)
    taps = torch.tensor([1.0, 2, 1])
    state: dict[str, Tensor] = {}

    def draw(key: str, *shape: int) -> None:
        state[key] = torch.randn(shape, generator=rng)

    before = 0
    for size in SIZES:
        channels = min(512, 2**14 // size)
        block = f"synthesis.blocks.{size}x{size}"
        if before:
            draw(f"{block}.conv0_up.weight", channels, before, 3, 3)
            draw(f"{block}.conv0_up.bias", channels)
            kernel = torch.outer(taps, taps)[None, None] / 16
            state[f"{block}.conv0_up.intermediate.kernel"] = kernel
        else:
            draw(f"{block}.const", 1, channels, 4, 4)
            draw(f"{block}.bias", channels)
        conv = "conv1" if before else "conv"
        draw(f"{block}.{conv}.weight", channels, channels, 3, 3)
        draw(f"{block}.{conv}.bias", channels)
        for epilogue in ("epi1", "epi2"):
            draw(f"{block}.{epilogue}.noise.weight", channels)
            draw(f"{block}.{epilogue}.style_mod.lin.weight", 2 * channels, 512)
            draw(f"{block}.{epilogue}.style_mod.lin.bias", 2 * channels)
        before = channels
    draw("synthesis.torgb.weight", 3, before, 1, 1)
    draw("synthesis.torgb.bias", 3)
    return state


STATES = {
    "StyleGAN1": (StyleGAN1, stylegan1_state),
    "StyleGAN2": (StyleGAN2, stylegan2_state),
}


def coarse_generator(G: Generator) -> CoarseGenerator:
    """The lower blocks of a generator, and a head of random weights."""
    with torch.no_grad():
        features = G.features(torch.zeros(1, G.num_ws, 512), G.zero_noise(), COARSE_PX)
    head = CoarseHead(features.shape[1], G.layers_above(COARSE_PX), 512)
    return CoarseGenerator(G, head.requires_grad_(False))


def search_of(G: Generator, method: str, target: Tensor) -> SlotSearch:
    """A search of one slot, in progress."""
    prior = LatentPrior(torch.zeros(512), torch.ones(512))
    rng = torch.Generator().manual_seed(0)
    if method == "published":
        scale_anew(G)
        search: SlotSearch = Descent(G, prior, PUBLISHED, 1)
    else:
        keep_freed_memory()
        G = coarse_generator(G) if method == "coarse" else G
        G.to(memory_format=torch.channels_last)
        # no step is the last one of a search, which takes no gradient
        endless = replace(SearchSettings(), tolerance=0.0, steps=10_000)
        precision = method.removeprefix("default, ") if method != "coarse" else "auto"
        settings = replace(endless, precision=precision)
        pictures, changes = torch.rand(2, 100, 3, 32, 32, generator=rng)
        bank = Bank(torch.randn(100, 512, generator=rng), pictures, changes)
        search = Mixing(G, prior, settings, 1, bank)
    A = Downscale((search.G.resolution,) * 2, (32, 32))
    search.admit(0, A, target, search.draw_start(target, rng))
    return search


def measure(architecture: str, method: str, repeats: int) -> dict[str, float]:
    """Seconds of a step, the least of several, and the peak of the process's memory."""
    kind, state_of = STATES[architecture]
    target = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1))
    G = kind.from_state_dict(state_of())
    search = search_of(G, method, target)
    times = []
    for _ in range(repeats + 2):  # two to warm up
        began = time.perf_counter()
        search.step()
        times.append(time.perf_counter() - began)
    # kilobytes on Linux, bytes on macOS
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )
    return {"seconds": min(times[2:]), "peak bytes": peak}


def main() -> None:
    """Print a table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("step_cost.json"))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(*args.one, args.repeats)))
        return
    results: dict[str, dict[str, dict[str, float]]] = {}
    print(f"{'':12}{'':18}{'s a step':>10}{'ratio':>10}{'peak, GB':>10}")
    for architecture in STATES:
        rows = results[architecture] = {}
        for method in METHODS:
            command = [sys.executable, __file__, "--repeats", str(args.repeats), "--one"]
            done = subprocess.run(
                [*command, architecture, method], stdout=subprocess.PIPE, text=True, check=True
            )
            row = rows[method] = json.loads(done.stdout)
            ratio = rows["published"]["seconds"] / row["seconds"]
            peak = row["peak bytes"] / 1e9
            print(
                f"{architecture:12}{method:18}{row['seconds']:10.4f}{ratio:10.2f}{peak:10.2f}",
                flush=True,
            )
    args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
