"""Tones of known colours, and windows that lie on skin."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from skimage.color import lab2rgb

from pulse.audit.skin import ITA_NAMES, MONK_SCALE, Tone, ita_of, skin_tone, skin_windows
from pulse.faces.detect import detect_faces

WHOLE = [(0, 0, 20, 20)]


def plain(L, a, b):
    pixels = lab2rgb(np.full((20, 20, 3), (L, a, b), float))
    return Image.fromarray((pixels * 255).round().astype(np.uint8))


@pytest.mark.parametrize(("L", "b", "ita_deg"), [(65, 15, 45), (50, 20, 0), (40, 10, -45)])
def test_the_angle_is_that_of_the_formula(L, b, ita_deg):
    assert ita_of(L, b) == pytest.approx(ita_deg)
    # 8 bits hold L* and b* to about 0.3, a degree of the angle at these distances from (50, 0)
    tone = skin_tone(plain(L, 12, b), WHOLE)
    assert tone.ita_deg == pytest.approx(ita_deg, abs=1.5)
    assert tone.lightness == pytest.approx(L, abs=0.5)


def test_classes_begin_where_they_are_said_to():
    angles = {60: 0, 50: 1, 35: 2, 20: 3, -10: 4, -60: 5}
    for angle, place in angles.items():
        assert Tone(50, angle, 5).ita_class == ITA_NAMES[place]
    assert Tone(50, 55.0, 5).ita_class == "light"  # a class begins above its angle


def test_each_tone_of_the_monk_scale_is_its_own_nearest():
    for number, tone in enumerate(MONK_SCALE, 1):
        colour = tuple(int(tone[i : i + 2], 16) for i in (1, 3, 5))
        assert skin_tone(Image.new("RGB", (20, 20), colour), WHOLE).monk == number


def test_hair_in_a_part_of_a_window_does_not_count():
    image = plain(65, 12, 15)
    image.paste((10, 8, 5), (0, 0, 20, 8))  # two fifths
    assert skin_tone(image, WHOLE).ita_deg == pytest.approx(45, abs=1.5)


def test_windows_beyond_the_picture_are_cut():
    for window in ((-10, -10, 5, 5), (15, 15, 40, 40)):
        assert skin_tone(plain(65, 12, 15), [window]).lightness == pytest.approx(65, abs=0.5)


def test_windows_lie_on_cheeks_and_forehead(drawn_face):
    landmarks = detect_faces(drawn_face)[0].landmarks
    left, right, forehead = (
        np.reshape(window, (2, 2)).mean(0) for window in skin_windows(landmarks)
    )
    nose, brows, mouth = landmarks[30], landmarks[[21, 22]].mean(0), landmarks[[48, 54]].mean(0)
    assert left[0] < nose[0] < right[0]
    assert brows[1] < min(left[1], right[1])
    assert max(left[1], right[1]) < mouth[1]
    assert forehead[1] < brows[1]
    assert landmarks[0, 0] < left[0]
    assert right[0] < landmarks[16, 0]
