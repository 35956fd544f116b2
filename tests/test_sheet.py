from __future__ import annotations

import numpy as np
import pytest
import torch

from pulse import sheet
from pulse.sheet import PLAIN_WORDS, SheetEntry, draw_sheet


def entries(count):
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, 64, 64, generator=rng)
    return [SheetEntry(i + 1, images[i], 0.0005, met_tolerance=True) for i in range(count)]


LOW_RES = torch.linspace(0, 1, 3 * 8 * 8).reshape(3, 8, 8)


def tile(image, column, row):
    left = sheet.GAP_PX + column * (sheet.TILE_PX + sheet.GAP_PX)
    step = sheet.TILE_PX + sheet.CAPTION_PX + sheet.GAP_PX
    top = 2 * sheet.GAP_PX + sheet.CAPTION_PX + row * step
    box = (left, top, left + sheet.TILE_PX, top + sheet.TILE_PX)
    return np.asarray(image.crop(box)).astype(int)


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 2, 2), (4, 5, 2), (8, 7, 4)])
def test_size_follows_the_number_of_candidates(count, columns, rows):
    image = draw_sheet(LOW_RES, entries(count), 1e-3, "bicubic", "title")
    assert image.width == columns * (sheet.TILE_PX + sheet.GAP_PX) + sheet.GAP_PX
    step = sheet.TILE_PX + sheet.CAPTION_PX + sheet.GAP_PX
    assert image.height >= rows * step


def test_the_input_is_shown_pixel_by_pixel():
    image = draw_sheet(LOW_RES, entries(1), 1e-3, "bicubic", "title")
    shown = tile(image, 0, 0)[16::32, 16::32]  # the centres of 8 x 8 blocks of 32 px
    want = LOW_RES.permute(1, 2, 0).mul(255).round().numpy()
    assert np.abs(shown - want).max() <= 1


def test_below_each_candidate_is_the_candidate_downscaled_again():
    from pulse.downscale import Downscale

    candidates = entries(2)
    image = draw_sheet(LOW_RES, candidates, 1e-3, "area", "title")
    for column, entry in enumerate(candidates, start=1):
        want = Downscale((64, 64), (8, 8), "area")(entry.image[None])[0]
        shown = tile(image, column, 1)[16::32, 16::32]
        assert np.abs(shown - want.permute(1, 2, 0).mul(255).round().numpy()).max() <= 1


def test_the_disagreement_map_is_dark_where_candidates_agree_and_bright_where_not():
    one, two = torch.zeros(3, 64, 64), torch.zeros(3, 64, 64)
    two[:, :, 32:] = 1  # a standard deviation of 0.5, above the top of the scale
    pair = [SheetEntry(i, x, 0.0, met_tolerance=True) for i, x in enumerate((one, two), start=1)]
    heat = tile(draw_sheet(LOW_RES, pair, 1e-3, "bicubic", "title"), 0, 1)
    assert np.abs(heat[:, 20] - sheet.SCALE[0]).max() <= 1
    assert np.abs(heat[:, -20] - sheet.SCALE[-1]).max() <= 1


def written(monkeypatch, **arguments):
    """Every text that is drawn on a sheet."""
    texts = []
    text_of = sheet.ImageDraw.ImageDraw.text

    def text(self, xy, words, *args, **kwargs):
        texts.append(words)
        return text_of(self, xy, words, *args, **kwargs)

    monkeypatch.setattr(sheet.ImageDraw.ImageDraw, "text", text)
    values = {"entries": entries(2), "tolerance": 1e-3, "kernel": "bicubic", "title": "title"}
    draw_sheet(LOW_RES, **(values | arguments))
    return texts


@pytest.mark.parametrize("count", [1, 4])
def test_it_says_that_nobody_in_it_exists(monkeypatch, count):
    texts = " ".join(written(monkeypatch, entries=entries(count)))
    assert PLAIN_WORDS in texts
    assert "These people do not exist." in texts


def test_errors_and_the_tolerance_are_written(monkeypatch):
    missed = SheetEntry(2, entries(1)[0].image, 0.0123, met_tolerance=False)
    texts = written(monkeypatch, entries=[*entries(1), missed])
    assert "error 0.0005, within 0.001" in texts
    assert "error 0.012, above 0.001" in texts


def test_a_long_or_odd_title_stays_on_one_line(monkeypatch):
    texts = written(monkeypatch, title="a\nb/" + "long" * 200 + "/face.png")
    assert texts[0].startswith("a?b/")
    assert texts[0].endswith("/face.png")
    assert len(texts[0]) < 150


def placed(monkeypatch, **arguments):
    """Left end, right end, top and words of every text that is drawn on a sheet."""
    texts = []
    text_of = sheet.ImageDraw.ImageDraw.text

    def text(self, xy, words, fill, font):
        texts.append((xy[0], xy[0] + self.textlength(words, font), xy[1], words))
        return text_of(self, xy, words, fill, font)

    monkeypatch.setattr(sheet.ImageDraw.ImageDraw, "text", text)
    draw_sheet(LOW_RES, arguments.pop("entries"), 1e-3, "bicubic", "title")
    return texts


@pytest.mark.parametrize("count", [2, 4, 7])
def test_captions_stay_below_their_tiles(monkeypatch, count):
    texts = placed(monkeypatch, entries=entries(count))
    footer = next(y for *_, y, words in texts if words.startswith("Below each"))
    captions = [text for text in texts if sheet.GAP_PX < text[2] < footer]
    assert any(words.endswith("51 of 255") for *_, words in captions)
    step = sheet.TILE_PX + sheet.GAP_PX
    for left, right, _, words in captions:
        column = int((left - sheet.GAP_PX) // step)
        assert right <= sheet.GAP_PX + column * step + sheet.TILE_PX, words


def test_the_colours_of_the_legend_lie_between_its_words(monkeypatch):
    pair = entries(2)
    texts = {words.strip(): text for *text, words in placed(monkeypatch, entries=pair)}
    (_, left, top), (right, _, _) = texts["disagreement  0"], texts["51 of 255"]
    image = draw_sheet(LOW_RES, pair, 1e-3, "bicubic", "title")
    row = np.asarray(image)[int(top) + 10, int(left) : int(right)]
    row = row[(row != 255).any(axis=1)]  # the white on both sides left out
    assert len(row) > 60
    assert (row[0] == sheet.SCALE[0]).all()
    assert (row[-1] == sheet.SCALE[-1]).all()


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_no_word_of_the_footer_stands_alone(monkeypatch, count):
    texts = placed(monkeypatch, entries=entries(count))
    footer = next(y for *_, y, words in texts if words.startswith("Below each"))
    lines = [words for *_, y, words in texts if y >= footer]
    assert all(len(words.split()) > 2 for words in lines)
