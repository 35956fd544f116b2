"""What a pickle states about its network beside the tensors, and whether PULSE can honour it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pulse.checkpoints.stand_ins import Module
from pulse.generators.constants import Constants

# Options of NVIDIA's TensorFlow code that change what a network draws, and all that PULSE knows.
TENSORFLOW_OPTIONS: Mapping[str, tuple[object, ...]] = {
    "nonlinearity": ("lrelu",), "mapping_nonlinearity": ("lrelu",), "normalize_latents": (True,),
    "use_styles": (True,), "const_input_latent": (True,), "use_pixel_norm": (False,),
    "use_instance_norm": (True,), "use_wscale": (True,), "fused_scale": ("auto", True, False),
}  # fmt: skip
FUSED = {"auto": None, True: 1.0, False: 0.0}


def constants_of_module(network: Module) -> Constants:
    """The constants of a network of NVIDIA's PyTorch code.

    Raises:
        ValueError: if it was built with what PULSE does not know.
    """
    states = dict(_states(network, ""))
    for state in states.values():
        activation = state.get("activation", "lrelu")
        if activation not in ("lrelu", "linear"):
            raise ValueError(f"a layer has the activation {activation!r:.50}, expected lrelu")
    clamps = [state["conv_clamp"] for state in states.values() if "conv_clamp" in state]
    synthesis = states.get("synthesis.", {})
    first_layer = next((s for s in states.values() if "tmp_sampling_rate" in s), {})
    is_stylegan3 = bool(first_layer)
    clamp = clamps[0] if clamps else None
    return Constants(
        conv_clamp=math.inf if clamp is None and is_stylegan3 else clamp,
        mapping_lr_multiplier=states.get("mapping.fc0.", {}).get("bias_gain"),
        output_gain=synthesis.get("output_scale"),
        margin_px=synthesis.get("margin_size"),
        first_cutoff=states.get("synthesis.input.", {}).get("bandwidth"),
        oversampling=_oversampling(first_layer) if is_stylegan3 else None,
    )


def _oversampling(layer: Mapping[str, Any]) -> float:
    """How much finer than its rates a layer of StyleGAN3 samples for its leaky ReLU."""
    rates = []
    for which in ("tmp", "in", "out"):
        rate = layer.get(f"{which}_sampling_rate")
        if not isinstance(rate, int | float) or not rate > 0:
            raise ValueError(f"a layer has the sampling rate {rate!r:.50}, expected a number")
        rates.append(rate)
    return float(rates[0] / max(rates[1:]))


def _states(module: object, prefix: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The state of a module and of those three levels down, by their names with a dot behind."""
    if not isinstance(module, Module) or not isinstance(module.state, dict):
        return
    yield prefix, module.state
    children = module.state.get("_modules")
    if isinstance(children, dict) and prefix.count(".") < 3:
        for name, child in children.items():
            yield from _states(child, f"{prefix}{name}.")


def constants_of_tensorflow(options: object) -> Constants:
    """The constants of a network of NVIDIA's TensorFlow code, from its `static_kwargs`.

    Raises:
        ValueError: if it was built with what PULSE does not know.
    """
    if not isinstance(options, dict):
        return Constants()
    for name, known in TENSORFLOW_OPTIONS.items():
        value = options.get(name, known[0])
        if not isinstance(value, str | bool) or value not in known:
            raise ValueError(f"it was built with {name}={value!r:.50}, which PULSE does not know")
    return Constants(
        conv_clamp=options.get("conv_clamp"),
        mapping_lr_multiplier=options.get("mapping_lrmul"),
        is_upscaling_fused=FUSED[options.get("fused_scale", "auto")],
    )
