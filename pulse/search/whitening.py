"""What a bank of samples tells before a search: which residuals are easy, and where to begin.

Low-resolution faces vary a thousand times more in overall brightness than in fine detail, and a
gradient follows the same proportions. Residuals divided by what the generator varies anyway are
removed at one rate, and divided by the root of it they can be compared (`Whitening`). And because
pictures and latents of samples are correlated, a sample can be moved to where the generator, were
it linear, would draw the target: a draw from the prior conditioned on the target (`conditioned`;
Matheron's rule, Journel & Huijbregts 1978), so that different samples remain different answers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pulse.downscale import Downscale
from pulse.generators.ops import times_rows
from pulse.search.bank import Bank
from pulse.search.latent import LatentPrior
from pulse.search.threads import one_thread
from pulse.shapes import check_shape

# Shares of all that the pictures vary, so that they hold for every generator and size of face.
DAMPING = 0.01  # added to the variance of each direction before residuals are divided by it
GAIN_DAMPING = 0.006  # the same for the move to a target; smaller ones follow chance correlations
NEGLIGIBLE = 4e-6  # directions that vary less count as if they did not vary
SMALLEST_VARIANCE = 1e-5  # of the Gaussianised styles, whose mean variance is 1


@dataclass(frozen=True)
class Whitening:
    """What is known of a generator at one size of low-resolution pictures; P = 3 h w.

    Attributes:
        v: (N, D) latents of the bank, on the CPU.
        pictures: (N, P) their low-resolution pictures, on the CPU.
        gain: (D, P) the change of v for each change of the picture, on the CPU.
        radius: (D, D) turns v into coordinates in which the prior is standard normal, on the CPU.
        axes: (P, R) orthonormal directions in which pictures answer, on the search's device.
        shares: (2, R) the share of a residual along each that is taken away where it is divided by
            what the generator varies, wholly and halfway; there too.
        damping: what the rest of a residual is divided by.
    """

    v: Tensor
    pictures: Tensor
    gain: Tensor
    radius: Tensor
    axes: Tensor
    shares: Tensor
    damping: float

    def __post_init__(self) -> None:
        (samples, D), (values, directions) = self.v.shape, self.axes.shape
        check_shape("pictures", self.pictures, samples, values)
        check_shape("gain", self.gain, D, values)
        check_shape("radius", self.radius, D, D)
        check_shape("shares", self.shares, 2, directions)

    def weigh(self, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Divide residuals r (B, 3, h, w) by what the generator varies, wholly and halfway.

        C = E[J J^T] over the samples, J the Jacobian of the low-resolution picture by the styles of
        all layers. (Where all layers share one style, C is the covariance of the pictures.)

        Returns:
            (C + damping)^-1 r, of which a step removes each part at one rate, and
            (C / damping + 1)^-1/2 r, of which each part that is varied much counts alike.
        """
        # row by row: on a GPU rounding would depend on how many rows there are
        rest = [
            r - times_rows(self.shares * times_rows(r, self.axes.T), self.axes)
            for r in residual.flatten(1)[:, None]
        ]
        whitened, standardized = torch.stack(rest, 1)  # (B, P) each
        return (whitened / self.damping).view_as(residual), standardized.view_as(residual)


@one_thread()
def whitening_of(
    bank: Bank,
    prior: LatentPrior,
    size: tuple[int, int],
    device: torch.device | str = "cpu",
    *,
    is_tiled: bool = False,
) -> Whitening:
    """Take from a bank what a search for pictures (3, h, w) wants to know.

    Args:
        bank: samples of the generator.
        prior: its Gaussianised styles.
        size: (h, w); of pictures larger than the bank's the finest detail is taken to be constant.
        device: where the search is.
        is_tiled: whether it moves one style for all layers, instead of one for each.
    """
    y = resized(bank.pictures.float(), size).flatten(1)  # (N, P)
    v = bank.v.float()
    centred, moved = y - y.mean(0), v - v.mean(0)
    variances, axes = _principal(centred)
    gain_damping = GAIN_DAMPING * y.var(0).sum().item()
    cross = moved.T @ centred / (len(y) - 1)  # (D, P)
    gain = cross - cross @ axes * _shares(variances, gain_damping) @ axes.T
    if not is_tiled:
        centred = resized(bank.changes.float(), size).flatten(1)  # nudges have a mean of 0
        variances, axes = _principal(centred)
    damping = DAMPING * centred.var(0).sum().item()
    shares = _shares(variances, damping)
    shares = torch.stack([shares, 1 - (1 - shares).sqrt()])
    return Whitening(
        v, y, gain / gain_damping, radius_map(prior),
        axes.contiguous().to(device), shares.to(device), damping,
    )  # fmt: skip


def resized(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """The bank's pictures (N, 3, s, s) at another size."""
    side = pictures.shape[-1]
    if max(size) > side:
        return F.interpolate(pictures, size, mode="bicubic", align_corners=False)
    return Downscale((side, side), size)(pictures)


def _principal(centred: Tensor) -> tuple[Tensor, Tensor]:
    """Variances (R,) and directions (P, R) in which samples (N, P) of mean 0 vary."""
    samples, values = centred.shape
    scaled = centred.double() / (samples - 1) ** 0.5
    if values <= samples:
        variances, axes = torch.linalg.eigh(scaled.T @ scaled)
    else:  # the same, from the smaller matrix
        variances, mixes = torch.linalg.eigh(scaled @ scaled.T)
        axes = scaled.T @ mixes / variances.abs().sqrt()
    is_large = variances > NEGLIGIBLE * variances.sum()
    return variances[is_large].float(), axes[:, is_large].float()


def _shares(variances: Tensor, damping: float) -> Tensor:
    """1 - (variance / damping + 1)^-1."""
    return variances / (variances + damping)


def radius_map(prior: LatentPrior) -> Tensor:
    """The matrix that turns v into coordinates of unit variance, correlations removed."""
    D = len(prior.mean)
    if prior.covariance is None:
        return torch.eye(D)
    correlation = (prior.covariance / torch.outer(prior.std, prior.std)).cpu()
    variances, axes = torch.linalg.eigh(correlation.double())
    return (axes / variances.clamp(min=SMALLEST_VARIANCE).sqrt()).float()


def conditioned(known: Whitening, target: Tensor, rng: torch.Generator) -> Tensor:
    """One answer to a target were the generator linear: where to begin the search for it.

    Args:
        known: of the generator, at the target's size.
        target: (3, h, w) float in [0, 1].
        rng: chooses the sample. The nearest of several would be no better a place to begin:
            it takes as many steps, and candidates are more alike.

    Returns:
        v (D,), as far from the mean as samples of the prior are.
    """
    y = target.flatten().cpu()
    i = int(torch.randint(len(known.v), (), generator=rng))
    v = known.v[i : i + 1] + times_rows((y - known.pictures[i])[None], known.gain)  # (1, D)
    # the move lengthens v where the target is unlike any sample; the sphere is where faces are
    length = times_rows(v, known.radius.T).square().mean().sqrt()
    return v[0] / length.clamp(min=1)
