"""Draw the folder of 16x16 pictures that the README, the demo and the tests use.

Eleven are samples of the embedded generator, downscaled; one is pixel art drawn by hand below.
Nobody pictured exists.

    python scripts/draw_low_res.py tests/data/low_res
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from PIL import Image

import pulse
from pulse.downscale import Downscale
from pulse.images import to_image

SIZE = 16
SAMPLES = 11
SEED = 7
TRUNCATION_PSI = 0.8  # nearer to the mean style: clearer faces

COLOURS = {
    ".": (96, 140, 176),  # wall
    "h": (52, 34, 28),  # hair
    "s": (196, 142, 108),  # skin
    "d": (160, 106, 78),  # skin in shadow
    "l": (220, 172, 138),  # skin in light
    "e": (34, 26, 26),  # eyes
    "w": (232, 226, 220),  # whites of the eyes
    "m": (150, 72, 66),  # mouth
    "c": (44, 52, 84),  # clothes
}
PIXEL_ART = """
................
.....hhhhhh.....
....hhhhhhhh....
...hhhhhhhhhh...
...hhsllllshh...
...hsllllllsh...
...hslllllssh...
...dhhhsshhhd...
...sewessewed...
...slsslssssd...
....sslldssd....
....ssldddsd....
....ssmmmmsd....
.....ssmmsd.....
.....dssssd.....
...cccddddccc...
"""


def draw_pixel_art() -> Image.Image:
    """The face that is drawn above, one letter a pixel."""
    rows = PIXEL_ART.split()
    image = Image.new("RGB", (SIZE, SIZE))
    image.putdata([COLOURS[letter] for row in rows for letter in row])
    return image


def main(folder: Path) -> None:
    """Write the pictures into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    G = pulse.load_generator(device="cpu").network
    z = torch.randn(SAMPLES, G.z_dim, generator=torch.Generator().manual_seed(SEED))
    A = Downscale((G.resolution, G.resolution), (SIZE, SIZE))
    with torch.no_grad():
        ws = G.broadcast(G.truncate(G.mapping(z), TRUNCATION_PSI))
        low_res = A(G.render(ws, G.stored_noise()).clamp(0, 1)).clamp(0, 1)
    for i, face in enumerate(low_res, start=1):
        to_image(face).save(folder / f"imagined-{i:02d}.png")
    draw_pixel_art().save(folder / "pixel-art.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
