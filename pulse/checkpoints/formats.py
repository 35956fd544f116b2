"""The formats that people hold, told apart by their keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from pulse.checkpoints import key_maps
from pulse.files import printable
from pulse.generators.base import Generator
from pulse.generators.stylegan1 import StyleGAN1
from pulse.generators.stylegan2 import StyleGAN2
from pulse.generators.stylegan3 import StyleGAN3

State = Mapping[str, Tensor]

# Where a generator may be inside a file, the averaged one first: what it was trained to be.
WRAPPERS = (
    "", "g_ema.", "G_ema.", "generator_smooth.", "generator_ema.", "models.generator_smooth.",
    "state_dict.", "generator.", "g.", "G.",
)  # fmt: skip


@dataclass(frozen=True)
class Format:
    """One way of naming and laying out a generator's tensors.

    Attributes:
        name: in plain words.
        architecture: the generator it becomes.
        keys: names, with N for a number, that every such file has; the first tells it apart.
        to_ours: from the file's tensors to those of the generator.
    """

    name: str
    architecture: type[Generator]
    keys: tuple[str, ...]
    to_ours: Callable[[State], dict[str, Tensor]]


# In this order: the first whose first key is there is taken. No two share their first key.
FORMATS: tuple[Format, ...] = (
    Format(
        "StyleGAN3 (NVIDIA, PyTorch)",
        StyleGAN3,
        ("synthesis.input.freqs", "synthesis.input.weight", "synthesis.input.affine.weight",
         "mapping.fcN.weight", "synthesis.LN_N_N.weight", "synthesis.LN_N_N.affine.weight"),
        key_maps.identity,
    ),
    Format(
        "StyleGAN2 (NVIDIA, PyTorch)",
        StyleGAN2,
        ("synthesis.b4.const", "mapping.fcN.weight", "synthesis.bN.convN.weight",
         "synthesis.bN.convN.affine.weight", "synthesis.bN.torgb.weight"),
        key_maps.from_nvidia_stylegan2,
    ),
    Format(
        "StyleGAN1 (PULSE, in one file)",
        StyleGAN1,
        ("synthesis.blocks.4x4.const", "synthesis.blocks.NxN.conv0_up.weight",
         "synthesis.blocks.NxN.epiN.style_mod.lin.weight", "synthesis.torgb.weight"),
        key_maps.identity,
    ),
    Format(
        "StyleGAN1 (PULSE's synthesis.pt)",
        StyleGAN1,
        ("blocks.4x4.const", "blocks.NxN.conv0_up.weight", "blocks.NxN.epiN.noise.weight",
         "blocks.NxN.epiN.style_mod.lin.weight", "torgb.weight"),
        key_maps.from_pulse,
    ),
    Format(
        "StyleGAN1 (lernapparat)",
        StyleGAN1,
        ("g_synthesis.blocks.4x4.const", "g_mapping.denseN.weight",
         "g_synthesis.blocks.NxN.epiN.top_epi.noise.weight", "g_synthesis.torgb.weight"),
        key_maps.from_lernapparat,
    ),
    Format(
        "StyleGAN1 (GenForce)",
        StyleGAN1,
        ("synthesis.layer0.const", "mapping.denseN.weight", "synthesis.layerN.weight",
         "synthesis.layerN.style.weight", "synthesis.outputN.weight"),
        key_maps.from_genforce,
    ),
    Format(
        "StyleGAN2 (rosinality)",
        StyleGAN2,
        ("conv1.conv.modulation.weight", "style.N.weight", "input.input",
         "convs.N.conv.weight", "convs.N.activate.bias", "to_rgbs.N.conv.weight",
         "noises.noise_N"),
        key_maps.from_rosinality,
    ),
    Format(
        "StyleGAN2 (NVIDIA, TensorFlow)",
        StyleGAN2,
        ("synthesis/4x4/Conv/mod_weight", "mapping/DenseN/weight", "synthesis/4x4/Const/const",
         "synthesis/NxN/Conv0_up/mod_weight"),
        key_maps.from_tensorflow_stylegan2,
    ),
    Format(
        "StyleGAN1 (NVIDIA, TensorFlow)",
        StyleGAN1,
        ("synthesis/4x4/Const/StyleMod/weight", "mapping/DenseN/weight",
         "synthesis/NxN/Conv0_up/StyleMod/weight", "synthesis/ToRGB_lodN/weight"),
        key_maps.from_tensorflow_stylegan1,
    ),
)  # fmt: skip


def detect(tensors: State) -> tuple[Format, dict[str, Tensor]]:
    """Find the format of a file's tensors.

    Args:
        tensors: all of the file's, names of nested tables joined by dots.

    Returns:
        The format, and the tensors of the generator under that format's own names.

    Raises:
        ValueError: naming the nearest format and the first of its keys that are missing.
    """
    for wrapper in WRAPPERS:
        inner = _unwrap(tensors, wrapper)
        for format_ in FORMATS:
            if format_.keys[0] in inner:
                return format_, inner
    raise ValueError(_nearest(tensors))


def _unwrap(tensors: State, wrapper: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it; `latent_avg`, which rosinality keeps outside."""
    inner = {k.removeprefix(wrapper): v for k, v in tensors.items() if k.startswith(wrapper)}
    if inner and "latent_avg" in tensors:
        inner["latent_avg"] = tensors["latent_avg"]
    return inner


def _nearest(tensors: State) -> str:
    """Say which format the keys come nearest to, and what it lacks."""
    if not tensors:
        return "it holds no tensors"
    best: tuple[float, Format, list[str]] | None = None
    for wrapper in WRAPPERS:
        patterns = {_pattern(key) for key in _unwrap(tensors, wrapper)}
        for format_ in FORMATS:
            missing = [key for key in format_.keys if _pattern(key) not in patterns]
            share = 1 - len(missing) / len(format_.keys)
            if best is None or share > best[0]:
                best = share, format_, missing
    assert best is not None
    first = printable(", ".join(sorted(tensors)[:3]), longest=200)
    if best[0] == 0:
        return f"its keys are those of no generator that PULSE knows; the first are {first}"
    return (
        f"it comes nearest to {best[1].name}, but has no key {', '.join(best[2][:3])}; "
        f"its first keys are {first}"
    )


def _pattern(key: str) -> str:
    """A key with its numbers, or the N in their place, made alike."""
    return re.sub(r"\d+|N", "#", key)
