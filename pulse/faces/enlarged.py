"""Tell how many pixels a picture really has, when it may have been enlarged.

Two tests. Enlarging by repeating pixels leaves blocks: brightness changes at the seams of a regular
grid and nowhere else. Every smoother enlargement leaves a cliff in the power spectrum: detail is
present up to what the small picture could hold and nearly absent beyond, while in photographs,
sharp or soft, power falls steadily with frequency (Field 1987).

Frequencies are those of the cosine transform along rows and columns: index k is k half-waves
across the picture, so a picture of n pixels holds indices below n.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MIN_SIDE_PX = 32  # below this there is too little spectrum to judge
MIN_TRUE_PX = 8
MIN_ENLARGEMENT = 1.5  # less is not told from a soft photograph

# Measured on 36 portraits at 64 to 900 px, with and without JPEG: sharp ones stay above -12.5 dB,
# enlarged ones (bilinear to Lanczos, from 16 to 300 px) below -15.4 dB.
CLIFF_DB = -14.0
FOOT_DB = 2.0  # how near to the lowest contrast still counts as the cliff
FOOT_TO_SIZE = 1.18  # the foot lies 0.9 (Lanczos) to 1.55 (bilinear) times beyond the true size

MIN_SEAM_SHARE = 0.7  # 1 for clean blocks; above 0.9 after JPEG at quality 85; photographs: 0.1
MIN_ACTIVE_SEAMS = 0.25  # a drawing of a few straight lines is no grid of blocks

MAX_LINES = 512  # rows and columns looked at, evenly spread; more do not change the estimate

Array = NDArray[np.float64]
Numbers = NDArray[np.floating] | NDArray[np.integer]


def true_size_px(image: Image.Image) -> int:
    """Estimate the pixels along the longer side that the picture had before it was enlarged.

    Exact where each pixel was repeated a whole number of times; for smooth enlargements right to
    about a third. A very blurred
    picture counts as enlarged, since its pixels say no more than those of a small one.

    Args:
        image: any mode; its brightness is looked at.

    Returns:
        The estimate, or the picture's own longer side where it does not look enlarged.
    """
    side = max(image.size)
    if min(image.size) < MIN_SIDE_PX:
        return side
    pixels = np.asarray(image.convert("L"), dtype=np.float64)
    return _size_of_blocks(pixels) or _size_of_spectrum(pixels) or side


def _size_of_blocks(pixels: Array) -> int | None:
    """The smallest size whose seams explain nearly all changes of brightness, if there is one."""
    changes = [np.square(np.diff(lines, axis=1)).mean(0) for lines in _both_ways(pixels)]
    total = sum(change.sum() for change in changes)
    if total == 0:
        return None
    side = max(pixels.shape)
    sizes = range(MIN_TRUE_PX, int(side / MIN_ENLARGEMENT) + 1)
    shares = np.array([_seam_share(changes, size / side) for size in sizes])
    # multiples of the true size have all its seams too, hence the smallest of the best
    best = int(np.argmax(shares > 0.95 * shares.max()))
    if shares[best] < MIN_SEAM_SHARE or not _seams_active(changes, sizes[best] / side):
        return None
    return sizes[best]


def _both_ways(pixels: Array) -> list[Array]:
    """Rows and columns as lines (lines, length), thinned out to `MAX_LINES`."""
    return [lines[:: -(-len(lines) // MAX_LINES)] for lines in (pixels, pixels.T)]


def _seams(length: int, scale: float) -> NDArray[np.bool_]:
    """Where a line of repeated pixels changes: (length - 1,) for the gaps between its pixels.

    Where a pixel's centre falls on a seam, programs differ in which side it takes: both count.
    """
    source = (np.arange(length) + 0.5) * round(length * scale) / length
    early, late = np.floor(source + 1e-6), np.floor(source - 1e-6)
    return (np.diff(early) > 0) | (np.diff(late) > 0)


def _seam_share(changes: list[Array], scale: float) -> float:
    """The changes' energy on the seams of a size: 0 as by chance, 1 all of it."""
    seams = [_seams(len(change) + 1, scale) for change in changes]
    on_seams = sum(change[seam].sum() for change, seam in zip(changes, seams, strict=True))
    share = on_seams / sum(change.sum() for change in changes)
    chance = np.concatenate(seams).mean()
    if chance == 1:  # every gap may be a seam: nothing to tell
        return 0.0
    return float((share - chance) / (1 - chance))


def _seams_active(changes: list[Array], scale: float) -> bool:
    """Whether enough seams of a size carry a change worth the name."""
    on_seams = np.concatenate([c[_seams(len(c) + 1, scale)] for c in changes])
    return bool((on_seams > 0.01 * on_seams.mean()).mean() >= MIN_ACTIVE_SEAMS)


def _size_of_spectrum(pixels: Array) -> int | None:
    """The size at the foot of the spectrum's cliff, if there is a cliff."""
    sizes, contrast_db = _contrast_db(_spectrum(pixels))
    lowest = contrast_db.min()
    if lowest > CLIFF_DB:
        return None
    foot = sizes[np.flatnonzero(contrast_db <= lowest + FOOT_DB)[-1]]
    return max(1, round(foot / FOOT_TO_SIZE))


def _spectrum(pixels: Array) -> Array:
    """Mean power at each index along rows and columns: (longer side,)."""
    side = max(pixels.shape)
    power = np.zeros(side)
    for lines in _both_ways(pixels):
        length = lines.shape[1]
        # mirrored, a line has no jump at its end: the cosine transform by way of the Fourier one
        waves = np.fft.rfft(np.concatenate([lines, lines[:, ::-1]], axis=1), axis=1)[:, :length]
        mean = np.square(np.abs(waves)).mean(0) / (2 * length**2)
        # k half-waves along the shorter side are as fine as k * side / length along the longer
        power += np.interp(np.arange(side) * length / side, np.arange(length), mean) / 2
    return power + 1 / (12 * side)  # the noise of rounding to whole grey levels


def _contrast_db(spectrum: Array) -> tuple[NDArray[np.int_], Array]:
    """For each size n the power in the octave from 1.3 n against that in the octave below n."""
    side = len(spectrum)
    sizes = np.arange(MIN_TRUE_PX, int(side / MIN_ENLARGEMENT) + 1)
    below = _band_mean(spectrum, sizes / 2, sizes)
    beyond = _band_mean(spectrum, 1.3 * sizes, np.minimum(2.6 * sizes, side))
    return sizes, 10 * np.log10(beyond / below)


def _band_mean(spectrum: Array, start: Numbers, stop: Numbers) -> Array:
    """Mean power from each start index up to each stop index."""
    total = np.concatenate([[0.0], np.cumsum(spectrum)])
    first, last = (np.rint(index).astype(int) for index in (start, stop))
    return (total[last] - total[first]) / (last - first)
