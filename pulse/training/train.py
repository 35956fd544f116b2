"""The training from start to stop: steps, looks, the guard, checkpoints."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from pulse.errors import PulseError
from pulse.files import make_folder
from pulse.training.checkpoints import good_checkpoints, save_good, save_latest, turn_back
from pulse.training.data import Pictures
from pulse.training.journal import TrainingLog
from pulse.training.learner import Learner
from pulse.training.looks import Looks, write_sheet
from pulse.training.phases import Losses, step, whiten_posterior
from pulse.training.watch import Look, as_record, drifts, look_at, lowered, note_best

Tell = Callable[[str], None]
LINES_A_LOOK = 10
SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Limits:
    """When to stop; whichever comes first.

    Attributes:
        images: seen in all, with those before a resume.
        seconds: of this call.
    """

    images: float = float("inf")
    seconds: float = float("inf")


@dataclass
class Stop:
    """Whether a signal has asked to stop, and which."""

    signal: int | None = None


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Let SIGTERM and SIGINT end a training after its step, with a checkpoint."""
    stop = Stop()

    def ask(number: int, _frame: FrameType | None) -> None:
        stop.signal = number

    before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class Meter:
    """Means of losses and the speed between two lines of the log."""

    sums: Losses = field(default_factory=dict)
    steps: int = 0
    since: float = field(default_factory=time.perf_counter)

    def add(self, losses: Losses) -> None:
        """Count one step."""
        self.steps += 1
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def take(self, batch_size: int) -> dict[str, object]:
        """The means since the last call, and images a second; begins anew."""
        seconds = max(time.perf_counter() - self.since, 1e-9)
        record: dict[str, object] = {
            name: round(total / self.steps, 4) for name, total in self.sums.items()
        }
        record["images_per_second"] = round(self.steps * batch_size / seconds, 2)
        self.sums, self.steps, self.since = {}, 0, time.perf_counter()
        return record


class Training:
    """A run: a learner, its data and its folder.

    Args:
        learner: where it begins.
        pictures: the data, of the learner's resolution.
        folder: of the run: checkpoints, sheets, log.
        tell: takes lines for a person.
    """

    def __init__(
        self, learner: Learner, pictures: Pictures, folder: Path, tell: Tell = lambda _: None
    ) -> None:
        make_folder(folder)
        self.learner = learner
        self.pictures = pictures
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        self.tell = tell
        self.log = TrainingLog(folder)
        self.looks = Looks(learner, pictures)
        self.measures: dict[str, object] = {}
        self.looked_at: int | None = None
        self.meter = Meter()

    def run(self, limits: Limits, stop: Stop | None = None) -> None:
        """Train until a limit or a stop, and write a checkpoint.

        Raises:
            PulseError: if the guard has turned back too often, or the losses are no numbers.
        """
        stop = stop or Stop()
        learner, every = self.learner, self.learner.settings.every
        began = time.monotonic()
        self._record("settings", learner.numbers()["settings"])
        if reason := learner.check_compiled():
            self.tell(f"without compiled blocks: {reason}")
        if learner.progress.phase == "adversarial" and self._is_unguarded():
            self.check()
        self.meter = Meter()
        while (
            stop.signal is None
            and learner.progress.images < limits.images
            and time.monotonic() - began < limits.seconds
        ):
            before = learner.progress.images
            self._step()
            if _crosses(before, learner.progress.images, every / LINES_A_LOOK):
                self._tell_losses()
            if _crosses(before, learner.progress.images, every):
                self.check()
        if stop.signal is not None:
            self.tell(f"signal {stop.signal}: writing a checkpoint")
        elif self.looked_at != learner.progress.images:
            self.look()
        self.tell(f"kept {save_latest(learner, self.checkpoints).name}")

    def _is_unguarded(self) -> bool:
        """Whether there is nothing to turn back to: after growing, or in a new folder."""
        return not self.learner.progress.lowest or not good_checkpoints(self.checkpoints)

    def _step(self) -> None:
        progress = self.learner.progress
        if progress.phase == "vae" and progress.images >= self.learner.settings.vae_images:
            self.begin_adversarial()
        try:
            self.meter.add(step(self.learner, self.pictures))
        except FloatingPointError as error:
            raise PulseError(
                f"the training has gone out of bounds: {error}; resume it from its last checkpoint "
                "with a lower --step-size"
            ) from error

    def begin_adversarial(self) -> None:
        """Whiten the aggregate posterior and go over to the second phase."""
        values = whiten_posterior(self.learner, self.pictures)
        low, high = float(values[0]), float(values[-1])
        self.learner.begin_adversarial()
        self._record("whitened", {"smallest_eigenvalue": low, "largest_eigenvalue": high})
        self.tell(
            f"whitened: eigenvalues of the aggregate posterior {low:.3g} to {high:.3g}; the "
            "adversarial phase begins"
        )
        self.check()

    def check(self) -> None:
        """Look, let the guard judge, and keep a checkpoint or turn back to the last one.

        Raises:
            PulseError: if it has turned back too often in a row.
        """
        look = self.look()
        progress = self.learner.progress
        is_guarded = progress.phase == "adversarial"
        drifted = drifts(look, progress, self.learner.settings.guard) if is_guarded else []
        if drifted and good_checkpoints(self.checkpoints):
            self._turn_back(drifted)
        else:
            if is_guarded:
                note_best(look, progress)
            save_good(self.learner, self.checkpoints)
        self.meter = Meter()

    def _turn_back(self, drifted: list[str]) -> None:
        guard, progress = self.learner.settings.guard, self.learner.progress
        if progress.in_a_row >= guard.patience:
            raise PulseError(
                f"turned back {progress.in_a_row} times in a row, and still {drifted[0]}; the last "
                f"good checkpoint is {good_checkpoints(self.checkpoints)[-1].name}: export it, or "
                "train on more pictures"
            )
        done = lowered(drifted, progress)
        seen = progress.images
        images = turn_back(self.learner, self.checkpoints)
        self.tell(f"drift after {seen:,} images: {'; '.join(drifted)}")
        self.tell(f"back to the checkpoint at {images:,} images; from here on {done}")
        self.log.write("turned back", seen, {"drifted": drifted, "to": images, "done": done})

    def look(self) -> Look:
        """Measure, draw the sheet and write both down."""
        images = self.learner.progress.images
        look = look_at(self.learner, self.pictures)
        self.measures = self.looks.measure(self.learner).as_record()
        self._record("look", {**as_record(look), **self.measures})
        write_sheet(self.folder / f"samples-{images:09}.png", self.looks.sheet(self.learner))
        self.looked_at = images
        recall = self.measures["recall"]
        self.tell(
            f"{images:,} images: Fréchet distance {self.measures['frechet_distance']}, recall "
            f"{recall}, nearness {self.measures['nearness']}, lightness "
            f"{[round(value) for value in look.lightness]} (data "
            f"{[round(value) for value in look.data_lightness]})"
        )
        return look

    def _tell_losses(self) -> None:
        record = self.meter.take(self.learner.settings.batch_size)
        self._record("losses", {"phase": self.learner.progress.phase, **record})
        losses = ", ".join(f"{name} {value}" for name, value in record.items())
        self.tell(
            f"{self.learner.progress.images:,} images, {self.learner.progress.phase}: {losses}"
        )

    def _record(self, event: str, record: dict[str, object]) -> None:
        self.log.write(event, self.learner.progress.images, record)


def _crosses(before: float, after: float, every: float) -> bool:
    """Whether a multiple of `every` lies in (before, after]."""
    return before // every != after // every
