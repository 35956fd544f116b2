"""Half precision, as autocast and as a whole module, in both orders of memory."""

from __future__ import annotations

import pytest
import torch
from helpers import DATA, expected_of, relative_error

from pulse.checkpoints.load import load_network

FILES = {
    "ada-plain": "ada-plain.pkl",
    "rosinality-32": "rosinality-32.pt",
    "lernapparat-32": "lernapparat-32.pt",
    "sg3-t": "sg3-t.pkl",
    "sg3-r": "sg3-r.pkl",
}
# float16 keeps 11 bits (5e-4 for one rounding) and bfloat16 8 (4e-3), through ten layers or so.
TOLERANCE = {torch.float16: 2e-2, torch.bfloat16: 1.5e-1}


def styles(name):
    return expected_of(name, "checkpoints")["ws_plus"][:1]  # one: CPUs are slow in half precision


def picture(name, G):
    return G.synthesis(styles(name), G.stored_noise())


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", FILES)
def test_autocast_draws_nearly_the_same(name, dtype, order):
    G = load_network(DATA / "checkpoints" / FILES[name]).network
    want = picture(name, G)
    G = G.to(memory_format=order)
    with torch.autocast("cpu", dtype=dtype):
        assert relative_error(picture(name, G).float(), want) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", FILES)
def test_a_module_of_half_precision_draws_nearly_the_same(name, dtype):
    G = load_network(DATA / "checkpoints" / FILES[name]).network
    ws, want = styles(name), picture(name, G)
    maps = [noise.to(dtype) for noise in G.stored_noise()]
    got = G.to(dtype).synthesis(ws.to(dtype), maps)
    assert got.dtype == dtype
    assert relative_error(got.float(), want) < TOLERANCE[dtype]


@pytest.mark.parametrize("name", ["ada-plain", "rosinality-32", "sg3-t", "sg3-r"])
def test_large_weights_and_styles_stay_in_range(name):
    """Demodulation makes their scale irrelevant, but a sum of products would be infinite."""
    G = load_network(DATA / "checkpoints" / FILES[name]).network
    for key, weight in G.synthesis.named_parameters():
        is_hidden = (weight.ndim == 4 and weight.shape[2] == 3) or ".L2" in key
        if is_hidden and key.endswith("weight") and "affine" not in key:
            weight.mul_(3000)
    want = picture(name, G)
    with torch.autocast("cpu", dtype=torch.float16):
        assert relative_error(picture(name, G).float(), want) < TOLERANCE[torch.float16]


def test_waves_are_drawn_in_single_precision():
    """8 bits would round phases of several turns."""
    G = load_network(DATA / "checkpoints" / "sg3-t.pkl").network
    waves = []
    G.synthesis.input.register_forward_hook(lambda _module, _inputs, x: waves.append(x))
    picture("sg3-t", G)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        picture("sg3-t", G)
    assert torch.equal(*waves)


@pytest.mark.parametrize("name", FILES)
def test_gradients_of_autocast_are_nearly_the_same(name):
    G = load_network(DATA / "checkpoints" / FILES[name]).network
    ws = styles(name).requires_grad_()
    maps = G.stored_noise()
    (want,) = torch.autograd.grad(G.render(ws, maps).mean(), ws)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = G.render(ws, maps).float().mean()
    (got,) = torch.autograd.grad(loss, ws)
    cosine = torch.nn.functional.cosine_similarity(got.flatten(), want.flatten(), dim=0)
    assert cosine > 0.98  # 8 bits in each of ten layers, forwards and backwards
