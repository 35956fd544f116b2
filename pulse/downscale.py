"""The forward operator A: what a camera with few pixels would have seen, and its adjoint."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pulse.settings import KERNELS, KernelName
from pulse.shapes import check_shape

Array = NDArray[np.floating]


def cubic(t: Array) -> Array:
    """Keys' cubic convolution kernel with a = -0.5 (Keys 1981, equation 4)."""
    a, t = -0.5, np.abs(t)
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def lanczos3(t: Array) -> Array:
    """The sinc function windowed by a wider sinc, three lobes a side (Duchon 1979)."""
    return np.where(np.abs(t) < 3, np.sinc(t) * np.sinc(t / 3), 0.0)


def _filter_matrix(
    kernel: Callable[[Array], Array], half_width: float, in_size: int, out_size: int
) -> Array:
    """Rows of a kernel sampled at input pixels, widened by the factor so that nothing aliases."""
    scale = in_size / out_size
    stretch = max(scale, 1.0)  # an enlargement interpolates: the kernel keeps its own width
    matrix = np.zeros((out_size, in_size))
    for i in range(out_size):
        center = (i + 0.5) * scale - 0.5
        reach = half_width * stretch
        columns = np.arange(math.ceil(center - reach), math.floor(center + reach) + 1)
        weights = kernel((columns - center) / stretch)
        np.add.at(matrix[i], _reflect(columns, in_size), weights / weights.sum())
    return matrix


def _reflect(index: NDArray[np.int_], size: int) -> NDArray[np.int_]:
    """Fold positions outside [0, size) back, mirrored about the outermost pixels' centres."""
    if size == 1:
        return np.zeros_like(index)
    period = 2 * (size - 1)
    folded = np.abs(index) % period
    return np.minimum(folded, period - folded)


def _area_matrix(in_size: int, out_size: int) -> Array:
    """Each output pixel is the mean of the input that it covers, parts of pixels counted so."""
    scale = in_size / out_size
    edges = np.arange(in_size)
    starts = np.arange(out_size)[:, None] * scale
    overlap = np.minimum(edges + 1, starts + scale) - np.maximum(edges, starts)
    return np.clip(overlap, 0, None) / scale


def _nearest_matrix(in_size: int, out_size: int) -> Array:
    """Each output pixel is the input pixel that its centre falls in."""
    matrix = np.zeros((out_size, in_size))
    rows = np.arange(out_size)
    matrix[rows, ((rows + 0.5) * in_size / out_size).astype(int)] = 1
    return matrix


def resampling_matrix(kernel: KernelName, in_size: int, out_size: int) -> Array:
    """The matrix (out_size, in_size) that resamples one axis; each row sums to 1.

    Args:
        kernel: "bicubic" and "lanczos" are widened by the factor and mirror the border; for even
            factors "bicubic" equals the reflect-padded convolution of the first PULSE. For odd
            factors that one is half a pixel off centre, and this one is not.
        in_size: pixels before.
        out_size: pixels after.

    Raises:
        ValueError: for an unknown kernel or a size below 1.
    """
    if in_size < 1 or out_size < 1:
        raise ValueError(f"got sizes {in_size} and {out_size}, expected 1 or more")
    match kernel:
        case "bicubic":
            return _filter_matrix(cubic, 2, in_size, out_size)
        case "lanczos":
            return _filter_matrix(lanczos3, 3, in_size, out_size)
        case "area":
            return _area_matrix(in_size, out_size)
        case "nearest":
            return _nearest_matrix(in_size, out_size)
    raise ValueError(f"got kernel {kernel!r}, expected one of {', '.join(KERNELS)}")


class Downscale:
    """A(x) = A_v x A_h^T: a separable linear operator from any size to any size.

    Args:
        in_size: (H, W) of the high-resolution picture, pixels.
        out_size: (h, w) of the low-resolution picture, pixels.
        kernel: see `resampling_matrix`.
        device: where the two matrices live.
    """

    def __init__(
        self,
        in_size: tuple[int, int],
        out_size: tuple[int, int],
        kernel: KernelName = "bicubic",
        device: torch.device | str = "cpu",
    ) -> None:
        self.in_size, self.out_size, self.kernel = in_size, out_size, kernel
        A_v = resampling_matrix(kernel, in_size[0], out_size[0])
        A_h = resampling_matrix(kernel, in_size[1], out_size[1])
        self.A_v = torch.from_numpy(A_v).to(device, torch.float32)
        self.A_h = torch.from_numpy(A_h).to(device, torch.float32)
        self._published_taps = self._find_published_taps()

    def __call__(self, x: Tensor) -> Tensor:
        """Downscale x (B, C, H, W) to (B, C, h, w)."""
        check_shape("x", x, None, None, *self.in_size)
        return self.A_v @ x @ self.A_h.T

    def as_published(self, x: Tensor) -> Tensor:
        """The same, added up in the order of the first PULSE's convolution, where it has one.

        Its descent doubles rounding differences every few steps, so only this order follows it. It
        takes several times as long.
        """
        if self._published_taps is None:
            return self(x)
        check_shape("x", x, None, None, *self.in_size)
        return _strided_convolution(x, self._published_taps)

    def adjoint(self, y: Tensor) -> Tensor:
        """Apply the transpose: y (B, C, h, w) to (B, C, H, W), with <A(x), y> = <x, A^T(y)>."""
        check_shape("y", y, None, None, *self.out_size)
        return self.A_v.T @ y @ self.A_h

    def _find_published_taps(self) -> Tensor | None:
        """The taps of one output pixel where A is the published convolution, else None."""
        factor, remainder = divmod(self.in_size[0], self.out_size[0])
        is_square = self.in_size[0] == self.in_size[1] and self.out_size[0] == self.out_size[1]
        fits = self.in_size[0] > 3 * factor // 2  # what torch's reflect padding can do
        if self.kernel != "bicubic" or not is_square or remainder or factor % 2 or not fits:
            return None
        offsets = (np.arange(4 * factor) - 2 * factor + 0.5) / factor
        weights = cubic(offsets)
        return torch.from_numpy(weights / weights.sum()).to(self.A_v)


def _strided_convolution(x: Tensor, taps: Tensor) -> Tensor:
    """Downscale by an even factor as the first PULSE did, vertically and then horizontally."""
    C, factor = x.shape[1], len(taps) // 4
    pad = 3 * factor // 2
    kernel = taps.expand(C, 1, 1, -1)
    x = F.conv2d(
        F.pad(x, (0, 0, pad, pad), "reflect"), kernel.transpose(2, 3), stride=(factor, 1), groups=C
    )  # (B, C, h, W)
    x = F.pad(x, (pad, pad, 0, 0), "reflect")
    return F.conv2d(x, kernel, stride=(1, factor), groups=C)  # (B, C, h, w)
