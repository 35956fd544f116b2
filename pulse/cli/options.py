"""Groups of options; each becomes one settings object, whose class holds the defaults."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from pulse.settings import (
    ALIGN_MODES,
    EMBEDDED,
    FORMATS,
    KERNELS,
    METHODS,
    NOISE_MODES,
    PRECISIONS,
    PUBLISHED,
    WHICH_FACES,
    FaceSettings,
    KeepSettings,
    LossWeights,
    PasteSettings,
    RunSettings,
    SearchSettings,
    Shard,
    SigningSettings,
    UpscaleSettings,
)

Command = Callable[..., Any]
ExistingFile = click.Path(exists=True, dir_okay=False, path_type=Path)
Existing = click.Path(exists=True, path_type=Path)
PRESETS = {"default": SearchSettings(), "pulse": PUBLISHED}
_pasting = PasteSettings()
_face, _search, _method, _run = FaceSettings(), SearchSettings(), UpscaleSettings(), RunSettings()


@dataclass(frozen=True)
class Where:
    """What computes.

    Attributes:
        generator: a name or a file.
        device: as `choose_device` takes it.
        class_index: the class, where the generator knows several.
        workers: processes that search; None for this one.
        ray: address of a running Ray cluster; None for processes on this machine.
    """

    generator: str
    device: str
    class_index: int | None
    workers: int | None = None
    ray: str | None = None


@dataclass(frozen=True)
class Output:
    """What is written, and what is told.

    Attributes:
        run: of the run.
        as_json: whether the summary is one JSON object.
        verbose: None for the usual.
        report: whether the report page is written.
    """

    run: RunSettings
    as_json: bool
    verbose: bool | None
    report: bool = True


class AutoOrCount(click.ParamType[int | None]):
    """The word "auto", which becomes None, or a whole number from 1."""

    name = "auto|N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:  # fmt: skip
        """Parse one value."""
        if value is None or value == "auto":
            return None
        try:
            count = int(value)
        except ValueError:
            count = 0
        if count < 1:
            self.fail(f"{value!r} is neither 'auto' nor a whole number from 1", param, ctx)
        return count


class Sigma(click.ParamType[float | None]):
    """The word "auto", which becomes None, or a number above 0."""

    name = "auto|S"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:  # fmt: skip
        """Parse one value."""
        if value is None or value == "auto":
            return None
        try:
            sigma = float(value)
        except ValueError:
            sigma = 0.0
        if not 0 < sigma < math.inf:
            self.fail(f"{value!r} is neither 'auto' nor a number above 0", param, ctx)
        return sigma


def _with_options(command: Command, options: list[Callable[[Command], Command]]) -> Command:
    """Decorate a command so that --help lists the options in this order."""
    for option in reversed(options):
        command = option(command)
    return command


def _checked(make: Callable[[], Any]) -> Any:
    """Make settings; a value that they refuse is wrong usage."""
    try:
        return make()
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _signing(certificates: Path | None, key: Path | None) -> SigningSettings | None:
    """What to sign with; both files or none."""
    if certificates is None and key is None:
        return None
    if certificates is None or key is None:
        raise click.UsageError("--c2pa-cert and --c2pa-key go together; give both or none")
    return SigningSettings(certificates, key)


def _paste(paste_back: bool, pick: str, scale: float) -> PasteSettings | None:
    """How to paste back; the options that say how need the one that says whether."""
    if paste_back:
        return _checked(lambda: PasteSettings.parse(pick, scale))
    source = click.get_current_context().get_parameter_source
    if any(source(name) != ParameterSource.DEFAULT for name in ("pick", "scale")):
        raise click.UsageError("--pick and --scale go with --paste-back; give it as well")
    return None


def face_options(*, for_align: bool) -> Callable[[Command], Command]:
    """Pass `face`: how faces are found. `pulse align` always looks for them."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def wrapped(*args: Any, low_res: int | None, kernel: Any, faces: Any, align: Any = "always",
                    **rest: Any) -> Any:  # fmt: skip
            face = FaceSettings(align=align, faces=faces, low_res=low_res, kernel=kernel)
            return command(*args, face=face, **rest)

        align_option = click.option(
            "--align", type=click.Choice(ALIGN_MODES), default=_face.align, show_default=True,
            help="Look for faces, or take each picture as one aligned face.",
        )  # fmt: skip
        return _with_options(wrapped, [
            click.option("--low-res", type=AutoOrCount(), metavar="N" if for_align else "auto|N",
                         default=None if for_align else "auto", show_default=not for_align,
                         help="Pixels a side of the low-resolution face."),
            click.option("--kernel", type=click.Choice(KERNELS), default=_face.kernel,
                         show_default=True, help="Kernel of the downscale operator."),
            click.option("--faces", type=click.Choice(WHICH_FACES), default=_face.faces,
                         show_default=True, help="Which faces of a picture."),
            *([] if for_align else [align_option]),
        ])  # fmt: skip

    return decorate


def method_options(command: Command) -> Command:
    """Pass `method`: candidates, seed, faces and search."""

    @functools.wraps(command)
    def wrapped(*args: Any, candidates: int, seed: int, preset: str, face: FaceSettings,
                **rest: Any) -> Any:  # fmt: skip
        given = {f.name: rest.pop(f.name) for f in fields(SearchSettings) if f.name in rest}
        ctx = click.get_current_context()
        chosen = {
            name: value
            for name, value in given.items()
            if ctx.get_parameter_source(name) != ParameterSource.DEFAULT
        }
        if "loss" in chosen:
            chosen["loss"] = _checked(lambda: LossWeights.parse(chosen["loss"]))
        search = _checked(lambda: replace(PRESETS[preset], **chosen))
        method = _checked(lambda: UpscaleSettings(candidates, seed, face, search))
        return command(*args, method=method, **rest)

    return _with_options(face_options(for_align=False)(wrapped), [
        click.option("-n", "--candidates", type=int, default=_method.candidates,
                     show_default=True, help="Answers for each face."),
        click.option("--seed", type=int, default=_method.seed, show_default=True,
                     help="Any whole number; another one gives other faces."),
        click.option("--preset", type=click.Choice(list(PRESETS)), default="default",
                     show_default=True,
                     help="'pulse': the published search (Menon et al. 2020); options given "
                     "beside it still count."),
        click.option("--method", type=click.Choice(METHODS), default=_search.method,
                     show_default=True,
                     help="The fast search, the published descent, or samples of all faces that "
                     "fit, in proportion."),
        click.option("--sigma", type=Sigma(), default="auto", show_default=True,
                     metavar="auto|S", help="Of --method posterior: standard deviation of the "
                     "misfit, pixels in [0, 1]; 'auto' estimates it for each picture."),
        click.option("--refine/--no-refine", default=_search.refine, show_default=True,
                     help="Of --method posterior: search on from each sample until the tolerance "
                     "is met."),
        click.option("--steps", type=int, default=_search.steps, show_default=True,
                     help="Steps of the search at most."),
        click.option("--step-size", type=float, default=_search.step_size, show_default=True,
                     help="Length of a step; 0.4 is the published one."),
        click.option("--tolerance", type=float, default=_search.tolerance, show_default=True,
                     help="Accepted mean squared error, pixels in [0, 1]."),
        click.option("--loss", default=str(_search.loss), show_default=True,
                     help="Weights of L2, L1 and GEOCROSS; others need --method descent."),
        click.option("--precision", type=click.Choice(PRECISIONS), default=_search.precision,
                     show_default=True,
                     help="Of the fast search's steps; 'auto': mixed where the processor has "
                     "bfloat16."),
        click.option("--noise", type=click.Choice(NOISE_MODES), default=_search.noise,
                     show_default=True, help="The generator's noise inputs."),
        click.option("--tile-latent", is_flag=True, default=_search.tile_latent,
                     help="One style for all layers (W) instead of one for each (W+)."),
    ])  # fmt: skip


def where_options(*, with_workers: bool) -> Callable[[Command], Command]:
    """Pass `where`: generator and device, and perhaps other processes that search."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def wrapped(
            *args: Any, generator: str, device: str, class_index: int | None,
            workers: int | None = None, ray: str | None = None, **rest: Any,
        ) -> Any:  # fmt: skip
            where = Where(generator, device, class_index, workers, ray)
            return command(*args, where=where, **rest)

        of_workers = [
            click.option("--workers", type=click.IntRange(min=1), metavar="N",
                         help="Search in N processes, which share the GPUs, or the cores; "
                              "needs pulse[ray]."),
            click.option("--ray", metavar="ADDRESS",
                         help="Search on a running Ray cluster, 'auto' for this machine's; needs "
                         "pulse[ray]."),
        ]  # fmt: skip
        return _with_options(wrapped, [
            click.option("--generator", default=EMBEDDED, show_default=True, metavar="NAME|FILE",
                         help="A name of `pulse weights list`, or any weights file."),
            click.option("--class", "class_index", type=int,
                         help="Class, for generators of several."),
            click.option("--device", default="auto", show_default=True,
                         metavar="auto|cpu|cuda[:K]|mps", help="Where to compute."),
            *(of_workers if with_workers else []),
        ])  # fmt: skip

    return decorate


def output_options(command: Command) -> Command:
    """Pass `output`: files and messages."""

    @functools.wraps(command)
    def wrapped(*args: Any, batch_size: int | None, format_: Any, overwrite: bool, as_json: bool,
                verbose: bool | None, fail_fast: bool, shard: str | None, report: bool,
                c2pa_cert: Path | None, c2pa_key: Path | None,
                paste_back: bool, pick: str, scale: float, save_steps: bool, save_latents: bool,
                from_latents: tuple[Path, ...], **rest: Any) -> Any:  # fmt: skip
        run = RunSettings(
            batch_size=batch_size, format=format_, overwrite=overwrite, fail_fast=fail_fast,
            shard=_checked(lambda: Shard.parse(shard)) if shard else None,
            keep=KeepSettings(save_steps, save_latents), from_latents=from_latents,
            paste=_paste(paste_back, pick, scale),
            signing=_signing(c2pa_cert, c2pa_key),
        )  # fmt: skip
        return command(*args, output=Output(run, as_json, verbose, report), **rest)

    return _with_options(wrapped, [
        click.option("--batch-size", type=AutoOrCount(), default="auto", show_default=True,
                     metavar="auto|N", help="Searches at a time; 'auto' measures what suits the "
                     "device, and it is halved when memory runs out."),
        click.option("--format", "format_", type=click.Choice(FORMATS), default=_run.format,
                     show_default=True, help="File format of the candidates."),
        click.option("--overwrite", is_flag=True, help="Do again what an earlier run did."),
        click.option("--fail-fast", is_flag=True, default=_run.fail_fast,
                     help="Stop at the first picture that fails or has no face."),
        click.option("--shard", metavar="K/N",
                     help="Do only the K-th of N equal parts, told apart by what is in the files."),
        click.option("--report/--no-report", default=True, show_default=True,
                     help="Write report.html, a page to look at everything in a browser."),
        click.option("--paste-back", is_flag=True,
                     help="Also put candidates back into their photograph: pasted.png."),
        click.option("--pick", default=str(_pasting.pick), show_default=True,
                     metavar="best|K|all", help="Which candidates to paste back."),
        click.option("--scale", type=float, default=_pasting.scale, show_default=True,
                     help="Size of the pasted picture, as a multiple of the photograph's."),
        click.option("--save-steps", is_flag=True, default=_run.keep.steps,
                     help="Keep each search as a small animation: steps-01.webp."),
        click.option("--save-latents", is_flag=True, default=_run.keep.latents,
                     help="Keep where each search ended: latents-01.safetensors."),
        click.option("--from-latents", type=Existing, multiple=True, metavar="FILE|FOLDER",
                     help="Go on from latents that an earlier run of the same pictures saved; "
                     "may be given several times."),
        click.option("--c2pa-cert", type=ExistingFile, metavar="FILE",
                     help="Sign new pictures (C2PA) with this PEM certificate chain; needs "
                     "pulse[c2pa]."),
        click.option("--c2pa-key", type=ExistingFile, metavar="FILE",
                     help="The certificate's private key, PEM."),
        click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON."),
        click.option("-v/-q", "--verbose/--quiet", default=None,
                     help="Tell of every candidate, or of errors only."),
    ])  # fmt: skip
