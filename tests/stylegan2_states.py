"""Random StyleGAN2 networks of every architecture, as state dicts."""

from __future__ import annotations

import torch

W_DIM, Z_DIM = 6, 5
CHANNELS = {4: 7, 8: 5, 16: 4}
# A lopsided filter tells a convolution from its mirror image.
LOPSIDED = torch.tensor([1.0, 4, 2, 1]) / 8


def random_state(architecture, *, num_classes=0, colours=3, row=LOPSIDED):
    """Tensors of a small network with the key names of stylegan2-ada-pytorch."""
    rng = torch.Generator().manual_seed(0)
    taps = row[:, None] * row[None, :]
    state = {}

    def draw(key, *shape):
        state[key] = torch.randn(shape, generator=rng)

    def draw_affine(key, channels):
        draw(f"{key}.affine.weight", channels, W_DIM)
        draw(f"{key}.affine.bias", channels)

    def draw_conv(key, in_channels, channels, size):
        draw_affine(key, in_channels)
        draw(f"{key}.weight", channels, in_channels, 3, 3)
        draw(f"{key}.bias", channels)
        draw(f"{key}.noise_strength")
        draw(f"{key}.noise_const", size, size)
        state[f"{key}.resample_filter"] = taps

    embed_dim = 3 if num_classes else 0
    if num_classes:
        draw("mapping.embed.weight", embed_dim, num_classes)
        draw("mapping.embed.bias", embed_dim)
    draw("mapping.fc0.weight", W_DIM, Z_DIM + embed_dim)
    draw("mapping.fc0.bias", W_DIM)
    draw("mapping.w_avg", W_DIM)
    for size, channels in CHANNELS.items():
        b = f"synthesis.b{size}"
        if size == 4:
            draw(f"{b}.const", channels, 4, 4)
        else:
            draw_conv(f"{b}.conv0", CHANNELS[size // 2], channels, size)
        draw_conv(f"{b}.conv1", channels, channels, size)
        state[f"{b}.resample_filter"] = taps
        if architecture == "resnet" and size > 4:
            draw(f"{b}.skip.weight", channels, CHANNELS[size // 2], 1, 1)
            state[f"{b}.skip.resample_filter"] = taps
        if architecture == "skip" or size == 16:
            draw_affine(f"{b}.torgb", channels)
            draw(f"{b}.torgb.weight", colours, channels, 1, 1)
            draw(f"{b}.torgb.bias", colours)
    return state
