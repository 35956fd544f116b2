"""Mixed precision: features of the synthesis network in bfloat16, everything else in single."""

from __future__ import annotations

import torch

from pulse.settings import PrecisionName


def feature_dtype(precision: PrecisionName, device: torch.device) -> torch.dtype:
    """In what the steps of a search keep features.

    Args:
        precision: see `SearchSettings`.
        device: where the search is.
    """
    is_mixed = precision == "mixed" or (precision == "auto" and _pays(device))
    return torch.bfloat16 if is_mixed else torch.float32


def _pays(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16 faster than in single precision, by its own word.

    Not measured: a run that goes on another day has to decide as on the first. Emulated bfloat16,
    as on processors with AVX2 alone, is slower than single precision.
    """
    if device.type != "cpu":
        return False  # CUDA has TF32 besides; nobody has compared them here yet
    # the functions have no public names; a PyTorch that has lost them computes in single precision
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names)
