"""What the search asks of a generator, whichever StyleGAN it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pulse.generators.constants import Constants
from pulse.generators.mapping import MappingNetwork
from pulse.shapes import check_shape

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULTS = Constants()


class Generator(nn.Module, ABC):
    """A pretrained StyleGAN: mapping network, synthesis network, and the sizes read from them.

    Shapes use B pictures, L = num_ws, D = w_dim. `render` is the one border between the network's
    [-1, 1] and the [0, 1] of everything else. Parameters are frozen: the search differentiates
    with respect to latents and noise maps only.

    Attributes:
        architecture: "stylegan1", "stylegan2" or "stylegan3".
        z_dim: size of the normal input of the mapping network.
        w_dim: size D of a style vector.
        num_ws: number L of style vectors that one picture takes.
        resolution: pixels a side of the output.
        noise_sizes: pixels a side of each noise map, in the order of `noise_maps`; empty where
            the architecture takes none.
        num_classes: how many classes it was trained with; 0 for most. Where there are classes,
            `choose_class` comes before `mapping`.
        has_mapping: whether the weights hold the mapping network.
        constants: what it was built with that no tensor tells.
        mapping: z (B, z_dim) ~ N(0, I) to w (B, D), without truncation.
        synthesis: ws (B, L, D) and one (B or 1, 1, size, size) noise map for each entry of
            `noise_sizes` to pictures (B, 3, H, W), nominally in [-1, 1].
    """

    architecture: str
    z_dim: int
    w_dim: int
    num_ws: int
    resolution: int
    noise_sizes: tuple[int, ...]
    num_classes: int = 0
    has_mapping: bool = True
    constants: Constants = DEFAULTS

    mapping: nn.Module
    synthesis: nn.Module

    @classmethod
    @abstractmethod
    def from_state_dict(
        cls, state: Mapping[str, Tensor], constants: Constants = DEFAULTS
    ) -> Generator:
        """Build a generator from tensors; every size is inferred from their shapes.

        Args:
            state: tensors under the names of the class.
            constants: what no tensor tells.
        """

    @property
    def w_avg(self) -> Tensor:
        """The mean style (D,) that truncation pulls towards; zero where the weights hold none."""
        return torch.zeros(self.w_dim, device=self.device)

    @property
    def at_once(self) -> int:
        """Pictures to draw at a time where many are wanted: 16 up to 256 px, and 1 of 1024 px.

        Sixteen of 1024 px would take as many gigabytes; on a GPU one keeps it busy.
        """
        return max(1, min(16, (1024 // self.resolution) ** 2))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def choose_class(self, index: int) -> None:
        """Choose the class that `mapping` maps to from now on.

        Raises:
            ValueError: if these weights have no such class.
        """
        if not isinstance(self.mapping, MappingNetwork):
            raise ValueError(f"got class {index}, but these weights know no classes")
        self.mapping.choose_class(index)

    @property
    def chosen_class(self) -> int | None:
        """The class that `mapping` maps to; None where none was chosen."""
        return self.mapping.chosen_class if isinstance(self.mapping, MappingNetwork) else None

    def truncate(self, w: Tensor, truncation_psi: float) -> Tensor:
        """Pull styles (..., D) towards the mean style (Karras et al. 2019, appendix B)."""
        return self.w_avg + truncation_psi * (w - self.w_avg)

    def broadcast(self, w: Tensor) -> Tensor:
        """Repeat one style (B, D) for every layer: (B, L, D)."""
        return w.unsqueeze(1).expand(-1, self.num_ws, -1)

    def stored_noise(self) -> list[Tensor]:
        """The noise maps kept in the weights, (1, 1, size, size) each; zeros where none are."""
        return self.zero_noise()

    def zero_noise(self) -> list[Tensor]:
        """All-zero noise maps, (1, 1, size, size) each."""
        return [torch.zeros(1, 1, size, size, device=self.device) for size in self.noise_sizes]

    def layers_above(self, px: int) -> int:  # noqa: ARG002
        """How many of the styles, the last ones, say what happens above the block of px pixels.

        0 where there are no blocks of one size, or none above it.
        """
        return 0

    def features(self, ws: Tensor, noise_maps: Sequence[Tensor], px: int) -> Tensor:  # noqa: ARG002
        """What the block of px x px pixels hands on: (B, C, px, px), colours included.

        Args:
            ws: (B, L, D); styles of later blocks are not looked at.
            noise_maps: as `render` takes them; those of later blocks may be missing.
            px: the size of a block.

        Raises:
            ValueError: if there is no such block.
        """
        raise ValueError(f"got {px} pixels, but {self.architecture} has no blocks of one size")

    def render(self, ws: Tensor, noise_maps: Sequence[Tensor]) -> Tensor:
        """Draw pictures (B, 3, H, W), nominally in [0, 1]: the border to the network's range.

        Raises:
            ValueError: if ws or a noise map has another shape than this generator takes.
        """
        check_shape("ws", ws, None, self.num_ws, self.w_dim)
        if len(noise_maps) != len(self.noise_sizes):
            raise ValueError(f"got {len(noise_maps)} noise maps, expected {len(self.noise_sizes)}")
        for i, (noise, size) in enumerate(zip(noise_maps, self.noise_sizes, strict=True)):
            check_shape(f"noise_maps[{i}]", noise, None, 1, size, size)
        return (self.synthesis(ws, noise_maps).to(ws.dtype) + 1) / 2
