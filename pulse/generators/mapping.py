"""The mapping network that StyleGAN2 and StyleGAN3 share, with or without classes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pulse.generators.ops import LEAKY_SLOPE, Dense, indices_of, normalize_second_moment
from pulse.shapes import check_shape

if TYPE_CHECKING:
    from collections.abc import Mapping

MAPPING_LR_MULTIPLIER = 0.01
ACTIVATION_GAIN = math.sqrt(2)


class MappingNetwork(nn.Module):
    """The mapping network: z (B, z_dim) to w (B, D) through equalised dense layers.

    Networks trained with classes also embed a label. The class chosen with `choose_class` is the
    label of every call that names no other, so callers need not know of classes.

    Attributes:
        z_dim: size of the normal input.
        w_dim: size D of a style vector.
        num_classes: size of a label; 0 where the network takes none.
    """

    def __init__(
        self, state: Mapping[str, Tensor], lr_multiplier: float = MAPPING_LR_MULTIPLIER
    ) -> None:
        """Read the sizes from the tensors named `mapping.*`.

        Raises:
            ValueError: if there are none, or no room for z beside the label.
        """
        super().__init__()
        layers = list(indices_of(state, "mapping.fc", ".weight"))
        if not layers:
            raise ValueError("no key mapping.fc0.weight")
        sizes = [state["mapping.fc0.weight"].shape[1]]
        sizes += [state[f"mapping.fc{i}.weight"].shape[0] for i in layers]
        self.num_layers = len(layers)
        self.w_dim = sizes[-1]
        self.num_classes = 0
        self.z_dim = sizes[0]
        if "mapping.embed.weight" in state:
            embed_dim, self.num_classes = state["mapping.embed.weight"].shape
            self.z_dim -= embed_dim
            self.embed = Dense(self.num_classes, embed_dim)
        if self.z_dim < 1:
            raise ValueError(
                f"mapping.fc0.weight takes {sizes[0]} numbers, expected more than the "
                f"{sizes[0] - self.z_dim} of the label"
            )
        for i in layers:
            layer = Dense(sizes[i], sizes[i + 1], lr_multiplier=lr_multiplier)
            self.add_module(f"fc{i}", layer)
        self.register_buffer("w_avg", torch.empty(self.w_dim))
        self.chosen_class: int | None = None

    def choose_class(self, index: int) -> None:
        """Make a class the label of every call that names no other.

        Raises:
            ValueError: if the network has no such class.
        """
        if self.num_classes == 0:
            raise ValueError(f"got class {index}, but these weights know no classes")
        if not 0 <= index < self.num_classes:
            raise ValueError(f"got class {index}, expected 0 to {self.num_classes - 1}")
        self.chosen_class = index

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Map z to styles.

        Args:
            z: (B, z_dim).
            label: (B, num_classes), one-hot for a class; None for the chosen class.

        Returns:
            w (B, D).

        Raises:
            ValueError: if the label has the wrong shape, or there is no class to use.
        """
        x = normalize_second_moment(z)
        if label is None and self.num_classes > 0:
            label = self.chosen_label(z)
        if label is not None:
            check_shape("label", label, z.shape[0], self.num_classes)
            x = torch.cat([x, normalize_second_moment(self.embed(label))], dim=1)
        for i in range(self.num_layers):
            x = F.leaky_relu(self.get_submodule(f"fc{i}")(x), LEAKY_SLOPE) * ACTIVATION_GAIN
        return x

    def chosen_label(self, z: Tensor) -> Tensor:
        """The label of the chosen class for each row of z (B, z_dim): (B, num_classes).

        Raises:
            ValueError: if no class was chosen.
        """
        if self.chosen_class is None:
            raise ValueError(
                f"these weights draw {self.num_classes} classes: choose one, "
                f"0 to {self.num_classes - 1}, before mapping z"
            )
        label = z.new_zeros(z.shape[0], self.num_classes)
        label[:, self.chosen_class] = 1
        return label
