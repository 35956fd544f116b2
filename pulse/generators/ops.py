"""Operations that the StyleGAN generations share, in plain PyTorch."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

LEAKY_SLOPE = 0.2


def normalize_second_moment(z: Tensor) -> Tensor:
    """Scale each row of z (B, D) to a mean square of 1 (Karras et al. 2018, section 4.2)."""
    return z * (z.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """A context in which operations on the device of x keep the precision of what they are given.

    The original networks compute styles, waves and norms in single precision, and only features
    in half; autocast would compute the former in half too.
    """
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def feature_dtype(x: Tensor) -> torch.dtype:
    """In what convolutions of x are computed."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def is_half(x: Tensor) -> bool:
    """Whether operations on x are in float16, whose largest number is 65504."""
    return torch.float16 in (x.dtype, feature_dtype(x))


def at_least_single(x: Tensor) -> Tensor:
    """Bring x to single precision, unless its own is higher."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Kept:
    """What a layer makes of its weights, kept while they are frozen: much of the cost of a step."""

    def __init__(self) -> None:
        self._made: dict[object, tuple[object, tuple[Tensor, ...]]] = {}

    def of(
        self, weights: tuple[Tensor, ...], kind: object, make: Callable[[], tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        """What `make` makes of weights, anew where they are others than the last time.

        Args:
            weights: of the layer.
            kind: of what is made, such as its precision; one of each is kept.
            make: from the weights.
        """
        if any(weight.requires_grad for weight in weights):  # it carries the graph of one step
            return make()
        made_for = [(w.device, w.dtype, w.data_ptr(), w._version) for w in weights]
        if kind not in self._made or self._made[kind][0] != made_for:
            self._made[kind] = (made_for, make())
        return self._made[kind][1]

    def __reduce__(self) -> tuple[type[Kept], tuple[()]]:
        """Copies, and what goes to other processes, make their own."""
        return Kept, ()


def times_rows(x: Tensor, matrix: Tensor, copies: int = 1) -> Tensor:
    """Multiply x (B, I) by the rows of a matrix (O, I): (B, O).

    On a CPU each row on its own: a product of matrices rounds by B and by the number of threads,
    and a last bit may turn half precision's next rounding.

    Args:
        x: the factor.
        matrix: the matrix.
        copies: of each row; two are added up as any few rows are, one in another order.
    """
    if x.device.type != "cpu":
        return x @ matrix.T
    rows = x[:, None].expand(-1, copies, -1)
    y = torch.bmm(rows, matrix.T.expand(len(x), -1, -1))  # (B, copies, O)
    # an index has a gradient with zeros around it
    return y[:, 0] if copies > 1 else y.squeeze(1)


def memory_format(x: Tensor) -> torch.memory_format:
    """In which order features x (B, C, H, W) lie in memory."""
    has_last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if has_last else torch.contiguous_format


def convolve_pixels(x: Tensor, weight: Tensor) -> Tensor:
    """Map pixels of x (B, I, H, W) by a matrix of each picture (B, O, I): (B, O, H, W)."""
    if memory_format(x) == torch.channels_last:
        # pixels as rows, so that the gradient has channels last too
        y = (x.permute(0, 2, 3, 1).flatten(1, 2) @ weight.mT).mT  # (B, O, HW)
    else:
        y = weight @ x.flatten(2)
    return y.reshape(*y.shape[:2], *x.shape[2:])


def upsample_filtered(x: Tensor, taps: Tensor) -> Tensor:
    """Double the size by zero insertion and a low-pass filter (Karras et al. 2020, section 4.1).

    Args:
        x: (B, C, H, W).
        taps: (K, K) with K at least 2 and a sum of 1.

    Returns:
        (B, C, 2H, 2W).
    """
    C, size = x.shape[1], taps.shape[-1]
    kernel = (4 * taps).expand(C, 1, -1, -1)  # 4: zero insertion quarters the mean
    y = F.conv_transpose2d(x, kernel, stride=2, padding=size // 2 - 1, groups=C)
    return y if size % 2 == 0 else y[..., :-1, :-1]


def filter_depthwise(x: Tensor, taps: Tensor, padding: int) -> Tensor:
    """Convolve every channel of x (B, C, H, W) with the same taps (K, K), zero-padded."""
    C = x.shape[1]
    return F.conv2d(x, taps.flip((0, 1)).expand(C, 1, -1, -1), padding=padding, groups=C)


class Dense(nn.Module):
    """A linear layer with the equalised learning rate (Karras et al. 2018, section 4.1).

    The weights are stored as trained; `gain` and `lr_multiplier` scale them at run time.
    """

    def __init__(
        self, in_features: int, out_features: int, *, gain: float = 1.0, lr_multiplier: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features))
        self.weight_gain = gain * lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier
        self.kept = Kept()

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, in_features) to (B, out_features)."""
        return F.linear(x, *self.scaled(x))

    def scaled(self, x: Tensor) -> tuple[Tensor, ...]:
        """Weight and bias as x meets them."""
        dtype = feature_dtype(x)

        def scale() -> tuple[Tensor, ...]:
            with without_autocast(x):
                weight, bias = self.weight * self.weight_gain, self.bias * self.bias_gain
                return weight.to(dtype), bias.to(dtype)

        return self.kept.of((self.weight, self.bias), dtype, scale)


class StyleDense(Dense):
    """The layer between w and the styles of a convolution: few rows, each rounded on its own.

    Computed in the precision of w, as in the original networks, unless it is being trained.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, in_features) to (B, out_features)."""
        if self.weight.requires_grad:  # whose gradients are cheaper by one product of matrices
            return super().forward(x)
        # in single precision in the order of the published code, which a descent can then follow
        copies = 1 if torch.is_autocast_enabled(x.device.type) else 2
        with without_autocast(x):
            weight, bias = self.scaled(x)
            return times_rows(x, weight, copies) + bias


def indices_of(state: Mapping[str, Tensor], prefix: str, suffix: str) -> Iterator[int]:
    """Count up from 0 while `prefix` + number + `suffix` is a key of the state dict."""
    i = 0
    while f"{prefix}{i}{suffix}" in state:
        yield i
        i += 1


def block_sizes(state: Mapping[str, Tensor], pattern: str) -> list[int]:
    """The resolutions 4, 8, 16, ... whose key `pattern.format(size)` is in the state dict."""
    sizes: list[int] = []
    size = 4
    while pattern.format(size) in state:
        sizes.append(size)
        size *= 2
    return sizes


def doublings(px: int, resolution: int) -> int:
    """How many times a block of px pixels, a power of two, is doubled; 0 from the resolution on."""
    return max(0, (resolution // px).bit_length() - 1)


def load_frozen(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Hand tensors to a module built on the meta device, without a copy, and freeze it.

    Tensors come out as float32: half-precision storage is for the file, not for the search.

    Raises:
        ValueError: naming the first keys that are missing or not expected, or a wrong shape.
    """
    expected = module.state_dict()
    missing = [key for key in expected if key not in state]
    unknown = [key for key in state if key not in expected]
    if missing or unknown:
        raise ValueError(f"missing keys {missing[:3]}, unknown keys {unknown[:3]}")
    for key, tensor in expected.items():
        if state[key].shape != tensor.shape:
            got, want = tuple(state[key].shape), tuple(tensor.shape)
            raise ValueError(f"{key} has shape {got}, expected {want}")
    module.load_state_dict({k: v.detach().float() for k, v in state.items()}, assign=True)
    module.requires_grad_(False)
