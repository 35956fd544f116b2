"""Train a generator from a folder of pictures; see docs/training.md.

    python scripts/train_generator.py FOLDER --out RUN --resolution 64 --images 100000
    python scripts/train_generator.py FOLDER --resume RUN --resolution 128 --minutes 600
    python scripts/train_generator.py FOLDER --resume RUN --images 0 --export my.safetensors

FOLDER holds pictures that `pulse align` has cut out, or photographs to align first (--align), or
squares of something else than faces; labels.csv in it, with the columns `file` and `group`, makes
every group be drawn as often. RUN takes checkpoints, sample sheets and log.jsonl. SIGTERM and
Ctrl-C end after the step, with a checkpoint. Needs pulse[train].
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from pulse.batch.align import align_pictures
from pulse.errors import PulseError
from pulse.memory import keep_freed_memory
from pulse.pretrained import choose_device
from pulse.settings import FaceSettings
from pulse.training.checkpoints import load, newest
from pulse.training.compiling import why_not_compiled
from pulse.training.data import load_pictures
from pulse.training.export import Card, export
from pulse.training.features import load_features
from pulse.training.learner import Learner
from pulse.training.settings import NetworkSettings, TrainingSettings
from pulse.training.train import Limits, Training, stop_on_signals

ALIGNED_PX = 256  # so that a run which grows need not align again
CHANGEABLE = ("batch_size", "vae_images", "kl_nats", "step_size", "mapping_rate", "every", "keep",
              "feature_px", "metric_samples", "mirror", "seed")  # fmt: skip
SIZES = ("channel_base", "channel_max", "z_dim", "w_dim")


def parser() -> argparse.ArgumentParser:
    """The options; those left out take the default of their settings, or the resumed run's."""
    texts = (__doc__ or "").split("\n\n", 1)
    p = argparse.ArgumentParser(
        description=texts[0], epilog=texts[1], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("folder", type=Path, metavar="FOLDER")
    p.add_argument("--out", type=Path, help="folder of the run; default: that of --resume")
    p.add_argument("--resume", type=Path, metavar="RUN", help="go on with a run")
    p.add_argument("--resolution", type=int, help="pixels a side; above the run's, it grows")
    p.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long")
    p.add_argument("--images", type=float, default=float("inf"), help="stop when so many were seen")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda[:K] or mps")
    p.add_argument("--no-compile", action="store_true", help="compile nothing")
    p.add_argument("--align", action="store_true", help="find and align the faces first")
    p.add_argument("--labels", type=Path, help="CSV of groups; default: labels.csv in FOLDER")
    p.add_argument("--export", type=Path, metavar="FILE", help="write a .safetensors at the end")
    p.add_argument("--half", action="store_true", help="export larger tensors in half precision")
    p.add_argument("--data", default=Card.data, help="where the pictures come from, for the card")
    p.add_argument("--licence", default=Card.licence, help="of the weights, for the card")
    group = p.add_argument_group("settings, with pulse/training/settings.py")
    for name in (*CHANGEABLE, *SIZES):
        if name != "mirror":
            owner = NetworkSettings if name in SIZES else TrainingSettings
            kind = type(getattr(owner(), name))
            group.add_argument(f"--{name.replace('_', '-')}", type=kind)
    group.add_argument("--no-mirror", dest="mirror", action="store_false", default=None)
    return p


def given(options: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    """The options of these names that were given."""
    values = {name: getattr(options, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def make_learner(options: argparse.Namespace) -> Learner:
    """A new training, or the resumed one."""
    device = choose_device(options.device)
    reason = "--no-compile" if options.no_compile else why_not_compiled(device)
    if reason:
        print(f"without compiled functions, which are about twice as fast: {reason}")
    features, changes = load_features(), given(options, CHANGEABLE)
    if options.resume is None:
        sizes = given(options, ("resolution", *SIZES))
        settings = TrainingSettings(network=NetworkSettings(**sizes), **changes)
        return Learner(settings, features, device, compile_=not reason)
    if wrong := given(options, SIZES):
        raise ValueError(f"{', '.join(wrong)} cannot change in a resumed run")
    path = newest(options.resume / "checkpoints")
    learner = load(path, features, device, changes, compile_=not reason)
    print(f"goes on from {path} at {learner.progress.images:,} images")
    if options.resolution not in (None, learner.settings.network.resolution):
        learner.grow(options.resolution)
    return learner


def align_first(folder: Path, out: Path, size: int) -> Path:
    """Cut the largest face out of every photograph; those without one are said."""
    size = max(size, ALIGNED_PX)
    aligned = out / f"aligned-{size}"
    settings = FaceSettings(align="always", faces="largest")
    for line in align_pictures([folder], aligned, size, settings, overwrite=False):
        if line.is_failure:
            print(line.text, file=sys.stderr)
    return aligned


def train(options: argparse.Namespace) -> int:
    """Do what the options say; the exit status."""
    out = options.out or options.resume
    if options.resume is None and any((out / "checkpoints").glob("*.safetensors")):
        raise PulseError(
            f"there is a run in {out}; --resume {out} goes on, or choose another --out"
        )
    learner = make_learner(options)
    resolution = learner.settings.network.resolution
    labels = options.labels
    folder = options.folder
    if options.align:
        given_labels = folder / "labels.csv"
        labels = labels or (given_labels if given_labels.exists() else None)
        folder = align_first(folder, out, resolution)
    pictures = load_pictures(folder, resolution, labels, out)
    groups = ", ".join(f"{len(m)} {group}" for group, m in pictures.members.items())
    print(f"{len(pictures)} pictures of {resolution} px: {groups}", flush=True)
    training = Training(learner, pictures, out, tell=lambda text: print(text, flush=True))
    with stop_on_signals() as stop:
        training.run(Limits(options.images, 60 * options.minutes), stop)
    if options.export and stop.signal is None:
        card = Card(options.data, options.licence)
        export(learner, options.export, card, training.measures, half=options.half)
        print(f"wrote {options.export}; try: pulse upscale PICTURE --generator {options.export}")
    return 0 if stop.signal is None else 128 + stop.signal


def main() -> int:
    """Parse and train; a mistake is one line."""
    p = parser()
    options = p.parse_args()
    if options.out is None and options.resume is None:
        p.error("give --out for a new run, or --resume")
    keep_freed_memory()
    try:
        return train(options)
    except PulseError as error:
        print(f"train_generator: {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        p.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
