"""From the key names and layouts of each format to those of our generators.

Every function takes the tensors of one generator under its own names and returns them under the
names of `pulse.generators`; nothing is copied that need not be. A key that is missing raises
KeyError with the name that the file should have.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

State = Mapping[str, Tensor]

# Blocks of StyleGAN1 in TensorFlow order: constant and convolution at 4x4, then two a resolution.
SG1_FIRST = ("4x4/Const", "4x4/Conv")
BLUR_3 = (1.0, 2.0, 1.0)  # StyleGAN1's fixed low-pass filter, not stored by TensorFlow
BLUR_4 = (1.0, 3.0, 3.0, 1.0)  # StyleGAN2's


def identity(state: State) -> dict[str, Tensor]:
    """Names that are ours already; what else the file holds is left out."""
    return {k: v for k, v in state.items() if k.startswith(("mapping.", "synthesis."))}


def from_nvidia_stylegan2(state: State) -> dict[str, Tensor]:
    """NVIDIA's StyleGAN2 in PyTorch: ours, but that long filters are kept as one row."""
    return {
        k: torch.outer(v, v) if k.endswith("resample_filter") and v.ndim == 1 else v
        for k, v in identity(state).items()
    }


def from_pulse(state: State) -> dict[str, Tensor]:
    """PULSE's `synthesis.pt` and `mapping.pt`, whose keys do not meet."""
    return {
        f"{'mapping' if key.startswith('dense') else 'synthesis'}.{key}": tensor
        for key, tensor in state.items()
    }


def from_lernapparat(state: State) -> dict[str, Tensor]:
    """Lernapparat's StyleGAN1: `g_mapping.`, `g_synthesis.`, and noise under `top_epi`."""
    return {
        key.removeprefix("g_").replace(".top_epi.noise.", ".noise."): tensor
        for key, tensor in state.items()
        if key.startswith(("g_mapping.", "g_synthesis."))
    }


def from_genforce(state: State) -> dict[str, Tensor]:
    """GenForce's StyleGAN1: layers counted through, colours at every resolution (one is used)."""
    out = {k: v for k, v in state.items() if k.startswith("mapping.")}
    if "truncation.w_avg" in state:
        out["mapping.w_avg"] = state["truncation.w_avg"].flatten()
    layers = 1 + max(_numbers(state, r"synthesis\.layer(\d+)\.style\.weight"))
    for i in range(layers):
        block = f"synthesis.blocks.{_sg1_block(i)}"
        source = f"synthesis.layer{i}"
        epilogue = f"{block}.epi{i % 2 + 1}"
        out[f"{epilogue}.noise.weight"] = state[f"{source}.apply_noise.weight"].flatten()
        if f"{source}.apply_noise.noise" in state:
            out[f"{epilogue}.noise.const"] = state[f"{source}.apply_noise.noise"]
        out[f"{epilogue}.style_mod.lin.weight"] = state[f"{source}.style.weight"]
        out[f"{epilogue}.style_mod.lin.bias"] = state[f"{source}.style.bias"]
        conv = f"{block}.{_sg1_conv(i)}"
        if i == 0:
            out[f"{block}.const"] = state[f"{source}.const"]
            out[f"{block}.bias"] = state[f"{source}.bias"]
            continue
        out[f"{conv}.weight"] = state[f"{source}.weight"]
        out[f"{conv}.bias"] = state[f"{source}.bias"]
        if conv.endswith("conv0_up"):
            out[f"{conv}.intermediate.kernel"] = _outer(BLUR_3)[None, None]
    last = max(_numbers(state, r"synthesis\.output(\d+)\.weight"))
    out["synthesis.torgb.weight"] = state[f"synthesis.output{last}.weight"]
    out["synthesis.torgb.bias"] = state[f"synthesis.output{last}.bias"]
    return out


def from_tensorflow_stylegan1(state: State) -> dict[str, Tensor]:
    """NVIDIA's TensorFlow StyleGAN1: HWIO kernels, (in, out) matrices."""
    out = _tensorflow_mapping(state, "dense")
    if "synthesis/lod" in state and state["synthesis/lod"] > 0:
        raise ValueError("saved while it grew: its finest layers do not draw yet (lod above 0)")
    blur = _filter_of(state, "blur_filter", BLUR_3)
    if blur.shape != (3, 3):
        raise ValueError(f"a blur of {len(blur)} taps, expected 3")
    resolution = max(_numbers(state, r"synthesis/(\d+)x\d+/"))
    for i in range(2 * int(math.log2(resolution)) - 2):
        block = f"synthesis.blocks.{_sg1_block(i)}"
        size = 4 << i // 2
        source = (
            f"synthesis/{SG1_FIRST[i]}"
            if i < 2
            else f"synthesis/{size}x{size}/{('Conv0_up', 'Conv1')[i % 2]}"
        )
        epilogue = f"{block}.epi{i % 2 + 1}"
        out[f"{epilogue}.noise.weight"] = state[f"{source}/Noise/weight"]
        if f"synthesis/noise{i}" in state:
            out[f"{epilogue}.noise.const"] = state[f"synthesis/noise{i}"]
        out[f"{epilogue}.style_mod.lin.weight"] = state[f"{source}/StyleMod/weight"].T
        out[f"{epilogue}.style_mod.lin.bias"] = state[f"{source}/StyleMod/bias"]
        if i == 0:
            out[f"{block}.const"] = state[f"{source}/const"]
            out[f"{block}.bias"] = state[f"{source}/bias"]
            continue
        conv = f"{block}.{_sg1_conv(i)}"
        out[f"{conv}.weight"] = _oihw(state[f"{source}/weight"])
        out[f"{conv}.bias"] = state[f"{source}/bias"]
        if conv.endswith("conv0_up"):
            out[f"{conv}.intermediate.kernel"] = blur[None, None]
    out["synthesis.torgb.weight"] = _oihw(state["synthesis/ToRGB_lod0/weight"])
    out["synthesis.torgb.bias"] = state["synthesis/ToRGB_lod0/bias"]
    return out


def from_tensorflow_stylegan2(state: State) -> dict[str, Tensor]:
    """NVIDIA's TensorFlow StyleGAN2: also flipped upscaling kernels and styles counted from 0."""
    out = _tensorflow_mapping(state, "fc")
    resolution = max(_numbers(state, r"synthesis/(\d+)x\d+/"))
    out["synthesis.b4.const"] = state["synthesis/4x4/Const/const"][0]
    taps = _filter_of(state, "resample_kernel", BLUR_4)
    for level in range(2, int(math.log2(resolution)) + 1):
        size = 1 << level
        block, source = f"synthesis.b{size}", f"synthesis/{size}x{size}"
        out[f"{block}.resample_filter"] = taps
        convs = {"conv1": "Conv"} if size == 4 else {"conv0": "Conv0_up", "conv1": "Conv1"}
        for ours, theirs in convs.items():
            conv, layer = f"{block}.{ours}", f"{source}/{theirs}"
            kernel = _oihw(state[f"{layer}/weight"])
            out[f"{conv}.weight"] = kernel.flip((2, 3)) if ours == "conv0" else kernel
            out[f"{conv}.bias"] = state[f"{layer}/bias"]
            out |= _tensorflow_affine(state, layer, conv)
            out[f"{conv}.resample_filter"] = taps
            number = 2 * level - (5 if ours == "conv0" else 4)
            if f"synthesis/noise{number}" in state:
                out[f"{conv}.noise_strength"] = state[f"{layer}/noise_strength"].reshape([])
                out[f"{conv}.noise_const"] = state[f"synthesis/noise{number}"][0, 0]
        if f"{source}/Skip/weight" in state:
            out[f"{block}.skip.weight"] = _oihw(state[f"{source}/Skip/weight"]).flip((2, 3))
            out[f"{block}.skip.resample_filter"] = taps
        # the 'orig' architecture keeps colours of every resolution, and draws with the finest
        final = f"synthesis/ToRGB_lod{int(math.log2(resolution)) - level}"
        for colours in (f"{source}/ToRGB", final if level == math.log2(resolution) else ""):
            if f"{colours}/weight" in state:
                out[f"{block}.torgb.weight"] = _oihw(state[f"{colours}/weight"])
                out[f"{block}.torgb.bias"] = state[f"{colours}/bias"]
                out |= _tensorflow_affine(state, colours, f"{block}.torgb")
    return out


def from_rosinality(state: State) -> dict[str, Tensor]:
    """Rosinality's StyleGAN2; `latent_avg`, where a file has it, is the mean style."""
    out = {}
    for i in sorted(_numbers(state, r"style\.(\d+)\.weight")):
        for kind in ("weight", "bias"):
            out[f"mapping.fc{i - 1}.{kind}"] = state[f"style.{i}.{kind}"]
    if "latent_avg" in state:
        out["mapping.w_avg"] = state["latent_avg"].flatten()
    out["synthesis.b4.const"] = state["input.input"][0]
    out |= _rosinality_conv(state, "conv1", "synthesis.b4.conv1", noise=0)
    out |= _rosinality_colours(state, "to_rgb1", "synthesis.b4.torgb")
    convs = 1 + max(_numbers(state, r"convs\.(\d+)\.conv\.weight"))
    for i in range(convs):
        ours = f"synthesis.b{8 << i // 2}.conv{i % 2}"
        out |= _rosinality_conv(state, f"convs.{i}", ours, noise=i + 1)
    for k in range(convs // 2):
        out |= _rosinality_colours(state, f"to_rgbs.{k}", f"synthesis.b{8 << k}.torgb")
    # theirs are multiplied by 4, the gain of an upscaling by 2; ours are not
    taps = state["convs.0.conv.blur.kernel"] / 4
    sizes = [4, *(8 << k for k in range(convs // 2))]
    for size in sizes:
        for module in ("", "conv1.", "conv0.") if size > 4 else ("", "conv1."):
            out[f"synthesis.b{size}.{module}resample_filter"] = taps
    return out


def _rosinality_conv(state: State, theirs: str, ours: str, noise: int) -> dict[str, Tensor]:
    return {
        f"{ours}.weight": state[f"{theirs}.conv.weight"][0],
        f"{ours}.bias": state[f"{theirs}.activate.bias"],
        f"{ours}.affine.weight": state[f"{theirs}.conv.modulation.weight"],
        f"{ours}.affine.bias": state[f"{theirs}.conv.modulation.bias"],
        f"{ours}.noise_strength": state[f"{theirs}.noise.weight"].reshape([]),
        f"{ours}.noise_const": state[f"noises.noise_{noise}"][0, 0],
    }


def _rosinality_colours(state: State, theirs: str, ours: str) -> dict[str, Tensor]:
    return {
        f"{ours}.weight": state[f"{theirs}.conv.weight"][0],
        f"{ours}.bias": state[f"{theirs}.bias"].flatten(),
        f"{ours}.affine.weight": state[f"{theirs}.conv.modulation.weight"],
        f"{ours}.affine.bias": state[f"{theirs}.conv.modulation.bias"],
    }


def _tensorflow_mapping(state: State, layer: str) -> dict[str, Tensor]:
    """Dense layers and the mean style."""
    out = {}
    for i in sorted(_numbers(state, r"mapping/Dense(\d+)/weight")):
        out[f"mapping.{layer}{i}.weight"] = state[f"mapping/Dense{i}/weight"].T
        out[f"mapping.{layer}{i}.bias"] = state[f"mapping/Dense{i}/bias"]
    if "mapping/LabelConcat/weight" in state:
        raise ValueError("classes joined on by LabelConcat, which only a few old networks have")
    if "mapping/LabelEmbed/weight" in state:
        out["mapping.embed.weight"] = state["mapping/LabelEmbed/weight"].T
        out["mapping.embed.bias"] = state["mapping/LabelEmbed/bias"]
    if "dlatent_avg" in state:
        out["mapping.w_avg"] = state["dlatent_avg"]
    return out


def _tensorflow_affine(state: State, theirs: str, ours: str) -> dict[str, Tensor]:
    """Modulation: TensorFlow adds the 1 around which styles lie at run time, we store it."""
    return {
        f"{ours}.affine.weight": state[f"{theirs}/mod_weight"].T,
        f"{ours}.affine.bias": state[f"{theirs}/mod_bias"] + 1,
    }


def _sg1_block(i: int) -> str:
    size = 4 << i // 2
    return f"{size}x{size}"


def _sg1_conv(i: int) -> str:
    return "conv" if i == 1 else ("conv0_up", "conv1")[i % 2]


def _numbers(state: State, pattern: str) -> set[int]:
    """The numbers in the names that match; KeyError with the pattern if there are none."""
    found = {int(match[1]) for key in state if (match := re.match(pattern, key))}
    if not found:
        raise KeyError(re.sub(r"\\|\(|\)", "", pattern).replace("d+", "N"))
    return found


def _oihw(weight: Tensor) -> Tensor:
    return weight.permute(3, 2, 0, 1)


def _filter_of(state: State, name: str, default: tuple[float, ...]) -> Tensor:
    """The filter that a TensorFlow network was built with."""
    return _outer(tuple(state[name].tolist()) if name in state else default)


def _outer(taps: tuple[float, ...]) -> Tensor:
    """A separable filter (K, K) with a sum of 1."""
    line = torch.tensor(taps)
    return torch.outer(line, line) / line.sum().square()
