"""The contact sheet: a face's candidates side by side, each downscaled again, and their spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from pulse.candidates import spread_of
from pulse.downscale import Downscale
from pulse.images import to_image
from pulse.settings import KernelName

TILE_PX = 256
GAP_PX = 12
CAPTION_PX = 22
LEGEND_GAP_PX = 5
FOOTER_LINES = 5  # enough for the narrowest sheet, of one candidate
CANDIDATES_IN_A_ROW = 6
BACKGROUND, INK, FAINT_INK = "white", "#1a1a1a", "#595959"

# A dark-to-bright scale of even lightness steps ("inferno", van der Walt & Smith 2015).
SCALE = np.array([
    [0, 0, 4], [27, 12, 65], [74, 12, 107], [120, 28, 109], [165, 44, 96],
    [207, 68, 70], [237, 105, 37], [251, 155, 6], [247, 209, 61], [252, 255, 164],
])  # fmt: skip
SCALE_TOP = 0.2  # standard deviation drawn brightest; fixed, so that sheets can be compared

HOW_TO_READ = (
    "Below each candidate: the same face downscaled again, and its mean squared error against the "
    "input."
)
PLAIN_WORDS = (
    "These people do not exist. Each face is one of many that fit the same few pixels; "
    "none of them shows what anyone looks like."
)


@dataclass(frozen=True)
class SheetEntry:
    """One candidate on a sheet.

    Attributes:
        number: from 1.
        image: (3, H, W) float in [0, 1].
        error: mean squared error in the downscaled space.
        met_tolerance: whether that is within the tolerance.
    """

    number: int
    image: Tensor
    error: float
    met_tolerance: bool


def draw_sheet(
    low_res: Tensor, entries: Sequence[SheetEntry], tolerance: float, kernel: KernelName, title: str
) -> Image.Image:
    """Draw the contact sheet of one face.

    Args:
        low_res: (3, h, w) float in [0, 1], what was searched for.
        entries: the candidates, at least one.
        tolerance: accepted mean squared error.
        kernel: of the operator that downscales the candidates again.
        title: first line, such as the picture's name.
    """
    images = torch.stack([entry.image for entry in entries])  # (B, 3, H, W)
    in_size, out_size = (images.shape[2], images.shape[3]), (low_res.shape[1], low_res.shape[2])
    A = Downscale(in_size, out_size, kernel)
    again = A(images).clamp(0, 1)  # (B, 3, h, w)
    columns = 1 + min(len(entries), CANDIDATES_IN_A_ROW)
    bands = -(-len(entries) // CANDIDATES_IN_A_ROW)
    sheet = _Canvas(columns, 2 * bands)
    sheet.write_title(title)
    height, width = low_res.shape[1:]
    sheet.place(0, 0, _pixels(low_res), f"input, {width} x {height} pixels")
    if len(entries) > 1:
        sheet.place(0, 1, _heat_map(spread_of([entry.image for entry in entries])))
        sheet.draw_legend(0, 1)
    for i, entry in enumerate(entries):
        column, row = 1 + i % CANDIDATES_IN_A_ROW, 2 * (i // CANDIDATES_IN_A_ROW)
        verdict = "within" if entry.met_tolerance else "above"
        sheet.place(column, row, _enlarged(to_image(entry.image)), f"candidate {entry.number}")
        caption = f"error {entry.error:.2g}, {verdict} {tolerance:g}"
        sheet.place(column, row + 1, _pixels(again[i]), caption)
    sheet.write_footer((HOW_TO_READ, PLAIN_WORDS))
    return sheet.image


class _Canvas:
    """A grid of captioned tiles between a title and a footer."""

    def __init__(self, columns: int, rows: int) -> None:
        self.font = ImageFont.load_default(15)
        self.top_px = 2 * GAP_PX + CAPTION_PX
        self.columns = columns
        step_y = TILE_PX + CAPTION_PX + GAP_PX
        width = columns * (TILE_PX + GAP_PX) + GAP_PX
        self.footer_y = self.top_px + rows * step_y
        footer_px = FOOTER_LINES * CAPTION_PX
        self.image = Image.new("RGB", (width, self.footer_y + footer_px), BACKGROUND)
        self.draw = ImageDraw.Draw(self.image)

    def corner(self, column: int, row: int) -> tuple[int, int]:
        """Top left pixel of a tile."""
        x = GAP_PX + column * (TILE_PX + GAP_PX)
        return x, self.top_px + row * (TILE_PX + CAPTION_PX + GAP_PX)

    def place(self, column: int, row: int, tile: Image.Image, caption: str = "") -> None:
        """Put a tile into the grid, with a caption below."""
        x, y = self.corner(column, row)
        self.image.paste(tile, (x, y))
        self.draw.text((x, y + TILE_PX + 4), self._fit(caption, TILE_PX), INK, self.font)

    def draw_legend(self, column: int, row: int) -> None:
        """Explain the colours of the disagreement map below its tile, no wider than that."""
        x, y = self.corner(column, row)
        y += TILE_PX + 4
        before, after = "disagreement  0", f"{SCALE_TOP * 255:.0f} of 255"
        left = x + math.ceil(self.draw.textlength(before, self.font)) + LEGEND_GAP_PX
        words_x = x + TILE_PX - math.ceil(self.draw.textlength(after, self.font))
        self.draw.text((x, y), before, INK, self.font)
        bar = _colours(np.linspace(0, 1, words_x - LEGEND_GAP_PX - left))[None].repeat(12, axis=0)
        self.image.paste(Image.fromarray(bar), (left, y + 4))
        self.draw.text((words_x, y), after, INK, self.font)

    def write_title(self, title: str) -> None:
        """The line at the top."""
        title = self._fit(title, self.image.width - 2 * GAP_PX)
        self.draw.text((GAP_PX, GAP_PX), title, INK, self.font)

    def write_footer(self, sentences: Sequence[str]) -> None:
        """The lines at the bottom, wrapped to the width."""
        lines: list[str] = []
        for sentence in sentences:
            lines += self._wrapped(sentence, self.image.width - 2 * GAP_PX)
        for i, line in enumerate(lines):
            self.draw.text((GAP_PX, self.footer_y + i * CAPTION_PX), line, FAINT_INK, self.font)
        bottom = self.footer_y + len(lines) * CAPTION_PX + GAP_PX
        self.image = self.image.crop((0, 0, self.image.width, bottom))

    def _wrapped(self, text: str, width: int) -> list[str]:
        """A text broken into as few lines as fit, of about even length: no word alone on a line."""
        lines = self._broken(text, width)
        while len(narrower := self._broken(text, width - CAPTION_PX)) == len(lines) > 1:
            width, lines = width - CAPTION_PX, narrower
        return lines

    def _broken(self, text: str, width: int) -> list[str]:
        """A text broken where the next word does not fit; a word too long stands alone."""
        lines: list[str] = []
        for word in text.split():
            longer = f"{lines[-1]} {word}" if lines else word
            if lines and self.draw.textlength(longer, self.font) <= width:
                lines[-1] = longer
            else:
                lines.append(word)
        return lines

    def _fit(self, text: str, width: int) -> str:
        """Shorten a text in its middle until it fits."""
        text = "".join(c if c.isprintable() else "?" for c in text)
        keep = len(text)
        fitting = text
        while keep > 3 and self.draw.textlength(fitting, self.font) > width:
            keep -= 2
            fitting = f"{text[: keep // 2]}...{text[-(keep // 2) :]}"
        return fitting


def _enlarged(image: Image.Image) -> Image.Image:
    return image.resize((TILE_PX, TILE_PX), Image.Resampling.LANCZOS)


def _pixels(low_res: Tensor) -> Image.Image:
    """A low-resolution picture (3, h, w) with its pixels to be seen."""
    return to_image(low_res).resize((TILE_PX, TILE_PX), Image.Resampling.NEAREST)


def _heat_map(spread: Tensor) -> Image.Image:
    """The spread (H, W) in colours."""
    colours = _colours((spread / SCALE_TOP).clamp(0, 1).numpy())
    return Image.fromarray(colours).resize((TILE_PX, TILE_PX), Image.Resampling.BILINEAR)


def _colours(values: np.typing.NDArray[np.floating]) -> np.typing.NDArray[np.uint8]:
    """Values in [0, 1] of any shape to RGB along a new last axis."""
    positions = np.linspace(0, 1, len(SCALE))
    channels = [np.interp(values, positions, SCALE[:, c]) for c in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)
