"""Every choice a user has, with its unit and its one default; the command line reads them here."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

EMBEDDED = "portraits-128"  # the generator that comes with PULSE

NoiseMode = Literal["fixed", "zero", "trainable"]
NOISE_MODES: tuple[NoiseMode, ...] = get_args(NoiseMode)

KernelName = Literal["bicubic", "area", "lanczos", "nearest"]
KERNELS: tuple[KernelName, ...] = get_args(KernelName)

AlignMode = Literal["auto", "always", "never"]
ALIGN_MODES: tuple[AlignMode, ...] = get_args(AlignMode)

WhichFaces = Literal["all", "largest"]
WHICH_FACES: tuple[WhichFaces, ...] = get_args(WhichFaces)

FormatName = Literal["png", "jpg", "webp"]
FORMATS: tuple[FormatName, ...] = get_args(FormatName)

MethodName = Literal["mixing", "descent", "posterior"]
METHODS: tuple[MethodName, ...] = get_args(MethodName)

StartName = Literal["independent", "shared"]
STARTS: tuple[StartName, ...] = get_args(StartName)

PrecisionName = Literal["auto", "single", "mixed"]
PRECISIONS: tuple[PrecisionName, ...] = get_args(PrecisionName)

PickName = Literal["best", "all"]
PICKS: tuple[PickName, ...] = get_args(PickName)

# Above the misfit of every portrait measured at 16 px (docs/posterior.md); 8 bits round by 0.0011.
SIGMA_AT_16_PX = 0.1
MOST_SCALE = 16  # times the photograph's size that a pasted picture may have


def least_sigma(size: tuple[int, int]) -> float:
    """The least misfit that is assumed of pictures of size (h, w), pixels in [0, 1].

    It follows the square root of the number of pixels: a mean over several of them is trusted as
    far in pictures of any size.
    """
    return SIGMA_AT_16_PX * math.sqrt(size[0] * size[1]) / 16


def _check_one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"got {name} {value!r}, expected one of {', '.join(known)}")


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms that are added up for each picture.

    Attributes:
        l2: weight of the mean squared error in the downscaled space.
        l1: weight of ten times the mean absolute error there.
        geocross: weight of the spread of the style vectors on the sphere.
    """

    l2: float = 100.0
    l1: float = 0.0
    geocross: float = 0.05

    def __post_init__(self) -> None:
        weights = (self.l2, self.l1, self.geocross)
        if not all(0 <= weight < math.inf for weight in weights) or self.l2 + self.l1 == 0:
            raise ValueError(
                f"got loss weights {weights}, expected none below 0 and l2 or l1 above 0"
            )

    def __str__(self) -> str:
        terms = {"L2": self.l2, "L1": self.l1, "GEOCROSS": self.geocross}
        return "+".join(f"{weight:g}*{name}" for name, weight in terms.items() if weight)

    @classmethod
    def parse(cls, text: str) -> LossWeights:
        """Read weights written as "100*L2+0.05*GEOCROSS"; a term that is left out weighs nothing.

        Raises:
            ValueError: saying which part cannot be read.
        """
        weights = dict.fromkeys(("l2", "l1", "geocross"), 0.0)
        for term in text.split("+"):
            weight, _, name = term.strip().partition("*")
            try:
                weights[name.strip().lower()] += float(weight)
            except (KeyError, ValueError):
                raise ValueError(
                    f"got loss term {term!r}, expected a number, *, and L2, L1 or GEOCROSS"
                ) from None
        return cls(**weights)


@dataclass(frozen=True)
class SearchSettings:
    """Settings of the search.

    Attributes:
        method: "mixing" is the fast search, a root finder with a start from a bank of samples;
            "descent" is the published one (Menon et al. 2020, section 3), which weights without a
            mapping network fall back to; "posterior" draws samples of all faces that fit.
        steps: steps at most.
        step_size: of the descent, the largest step of Adam, in units of the Gaussianised latent;
            the mixing's moves, before it corrects them, are in proportion to it.
        tolerance: accepted mean squared error in the downscaled space, pixels in [0, 1]; 1e-3 is
            30 dB, about 8 grey levels of 255.
        loss: weights of the terms that the descent makes small. The mixing makes the mean squared
            error small, and takes no other weights.
        noise: network noise "fixed" at its random start, all "zero", or "trainable" for the first
            maps.
        trainable_noise_maps: how many of the first noise maps the search moves.
        last_noise_map_is_zero: whether the finest map, which only adds grain, is left out.
        tile_latent: one style vector for all layers (W) instead of one for each (W+).
        start: whether the layers' style vectors begin "independent" or as one "shared" vector; the
            mixing always begins with one.
        stop_at_tolerance: whether a picture that has met the tolerance is finished.
        clamp_misfit: whether misfit below the tolerance costs nothing, as in the published loss; of
            the descent only.
        precision: of the steps of the mixing: "single", "mixed" with features in bfloat16, or
            "auto" for mixed where the processor has instructions for it. Pictures and errors are of
            single precision always.
        sigma: of the method "posterior", the standard deviation of the misfit, pixels in [0, 1];
            None has it estimated for each picture, `least_sigma` at least.
        refine: whether samples of the posterior are searched on from until the tolerance is met.
    """

    method: MethodName = "mixing"
    steps: int = 100
    step_size: float = 0.4
    tolerance: float = 1e-3
    loss: LossWeights = LossWeights()
    noise: NoiseMode = "fixed"
    trainable_noise_maps: int = 5
    last_noise_map_is_zero: bool = True
    tile_latent: bool = False
    start: StartName = "shared"
    stop_at_tolerance: bool = True
    clamp_misfit: bool = False
    precision: PrecisionName = "auto"
    sigma: float | None = None
    refine: bool = True

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"got steps {self.steps}, expected 1 or more")
        if not self.step_size > 0:
            raise ValueError(f"got step_size {self.step_size}, expected more than 0")
        if not self.tolerance >= 0:
            raise ValueError(f"got tolerance {self.tolerance}, expected 0 or more")
        _check_one_of("method", self.method, METHODS)
        if self.sigma is not None and not 0 < self.sigma < math.inf:
            raise ValueError(f"got sigma {self.sigma}, expected more than 0")
        if self.sigma is not None and self.method != "posterior":
            raise ValueError(f"got a sigma, but the method {self.method!r} has none")
        if self.method != "descent" and self.loss != LossWeights():
            raise ValueError(
                f"got loss {self.loss}, but the method {self.method!r} knows the mean squared "
                "error only; other losses need the method 'descent'"
            )
        _check_one_of("noise", self.noise, NOISE_MODES)
        _check_one_of("start", self.start, STARTS)
        _check_one_of("precision", self.precision, PRECISIONS)
        if self.method == "descent" and self.precision == "mixed":
            raise ValueError(
                "got precision 'mixed', but the method 'descent' is the published search, which is "
                "in single precision; mixed precision needs the method 'mixing'"
            )


PUBLISHED = SearchSettings(
    method="descent", tolerance=2e-3, noise="trainable", start="independent",
    stop_at_tolerance=False, clamp_misfit=True, precision="single",
)  # fmt: skip
"""The settings of the published search, step for step (Menon et al. 2020, section 4)."""


@dataclass(frozen=True)
class FaceSettings:
    """How faces are found in a picture and brought to low resolution.

    Attributes:
        align: "auto" looks for faces unless the picture is an aligned low-resolution face already;
            "always" looks for faces; "never" takes the picture's central square as the face.
        faces: "all" faces of a picture or the "largest" only.
        low_res: pixels a side of the low-resolution face; None decides by picture and generator.
        kernel: the downscale operator's kernel.
    """

    align: AlignMode = "auto"
    faces: WhichFaces = "all"
    low_res: int | None = None
    kernel: KernelName = "bicubic"

    def __post_init__(self) -> None:
        _check_one_of("align", self.align, ALIGN_MODES)
        _check_one_of("faces", self.faces, WHICH_FACES)
        _check_one_of("kernel", self.kernel, KERNELS)
        if self.low_res is not None and self.low_res < 1:
            raise ValueError(f"got low_res {self.low_res}, expected 1 or more")


@dataclass(frozen=True)
class UpscaleSettings:
    """Settings of the whole method.

    Attributes:
        candidates: answers for each face.
        seed: any whole number; the same seed gives the same start for the same picture.
        face: how faces are found and brought to low resolution.
        search: how the latent space is searched.
    """

    candidates: int = 4
    seed: int = 0
    face: FaceSettings = FaceSettings()
    search: SearchSettings = SearchSettings()

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise ValueError(f"got candidates {self.candidates}, expected 1 or more")


@dataclass(frozen=True)
class Shard:
    """One of several equal parts of the pictures, for machines that share no cluster.

    Attributes:
        number: from 1.
        count: how many parts there are.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ValueError(f"got shard {self.number}/{self.count}, expected K/N with 1 <= K <= N")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read a shard written as "2/8".

        Raises:
            ValueError: if it is written otherwise.
        """
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal()):
            raise ValueError(f"got shard {text!r}, expected K/N, such as 2/8")
        return cls(int(number), int(count))

    def holds(self, key: str) -> bool:
        """Whether what goes by this key is in the shard; each key is in exactly one."""
        digest = hashlib.sha256(key.encode(errors="surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.number - 1


@dataclass(frozen=True)
class SigningSettings:
    """With what pictures are signed (C2PA).

    Attributes:
        certificates: PEM file of the signing certificate, those above it after it.
        key: PEM file of its private key.
    """

    certificates: Path
    key: Path


@dataclass(frozen=True)
class PasteSettings:
    """How candidates go back into the photograph.

    Attributes:
        pick: the "best" candidate of each face in one picture, "all" in a picture each, or the
            candidate of this number.
        scale: size of the result, as a multiple of the photograph's.
    """

    pick: PickName | int = "best"
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.pick not in PICKS and not (isinstance(self.pick, int) and self.pick > 0):
            raise ValueError(f"got pick {self.pick!r}, expected best, all or a number from 1")
        if not 0 < self.scale <= MOST_SCALE:
            raise ValueError(f"got scale {self.scale:g}, expected above 0 and {MOST_SCALE} at most")

    @classmethod
    def parse(cls, pick: str, scale: float) -> PasteSettings:
        """Read a pick written as "best", "all" or "3".

        Raises:
            ValueError: if it is written otherwise, or the scale is out of range.
        """
        words: dict[str, PickName] = {name: name for name in PICKS}
        if pick in words:
            return cls(words[pick], scale)
        if not (pick.isascii() and pick.isdecimal()):
            raise ValueError(f"got pick {pick!r}, expected best, all or a number from 1")
        return cls(int(pick), scale)


@dataclass(frozen=True)
class KeepSettings:
    """What of a search is kept beside its candidate.

    Attributes:
        steps: the search as a small animation.
        latents: where it ended, so that another run can go on from there.
    """

    steps: bool = False
    latents: bool = False


NOTHING_KEPT = KeepSettings()


@dataclass(frozen=True)
class RunSettings:
    """Settings of a run over many pictures, beyond those of the method.

    Attributes:
        batch_size: searches at a time on each device; None to measure what suits it.
        format: of the candidates.
        overwrite: do again what an earlier run did.
        fail_fast: stop at the first picture that fails or has no face.
        shard: the part of the pictures to do; None for all.
        keep: what of a search is kept beside its candidate.
        from_latents: latents files, and folders of them, that searches go on from.
        paste: how candidates go back into their photographs; None for not at all.
        signing: with what new pictures are signed; None for no signature.
    """

    batch_size: int | None = None
    format: FormatName = "png"
    overwrite: bool = False
    fail_fast: bool = False
    shard: Shard | None = None
    keep: KeepSettings = NOTHING_KEPT
    from_latents: tuple[Path, ...] = ()
    paste: PasteSettings | None = None
    signing: SigningSettings | None = None
