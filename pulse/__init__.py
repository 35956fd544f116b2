"""PULSE: high-resolution faces that downscale to the low-resolution one you have.

The public API; importing it is cheap, the first use loads PyTorch.

    import pulse
    generator = pulse.load_generator()
    result = pulse.upscale("face.png", generator, candidates=4, seed=0)
    result.candidates[0].save("imagined.png")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pulse.candidates import Candidate
    from pulse.errors import PulseError
    from pulse.method import Result, upscale
    from pulse.pretrained import Pretrained, load_generator
    from pulse.settings import (
        PUBLISHED,
        FaceSettings,
        LossWeights,
        SearchSettings,
        UpscaleSettings,
    )

__version__ = "1.0.0.dev0"

__all__ = [
    "PUBLISHED",
    "Candidate",
    "FaceSettings",
    "LossWeights",
    "Pretrained",
    "PulseError",
    "Result",
    "SearchSettings",
    "UpscaleSettings",
    "__version__",
    "load_generator",
    "upscale",
]

_HOMES = {
    "PulseError": "pulse.errors",
    "FaceSettings": "pulse.settings",
    "Pretrained": "pulse.pretrained",
    "load_generator": "pulse.pretrained",
    "PUBLISHED": "pulse.settings",
    "LossWeights": "pulse.settings",
    "SearchSettings": "pulse.settings",
    "Candidate": "pulse.candidates",
    "Result": "pulse.method",
    "UpscaleSettings": "pulse.settings",
    "upscale": "pulse.method",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 (any of the above)
    if name not in _HOMES:
        raise AttributeError(f"module 'pulse' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
