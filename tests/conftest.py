from __future__ import annotations

import os

# Before PyTorch is loaded, and for the processes that tests start: several run side by side, and
# threads that wait for each other's cores are slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from helpers import DATA, PORTRAITS, expected_of, pulse_state
from PIL import Image
from safetensors.torch import load_file

import pulse
from pulse.generators.stylegan1 import StyleGAN1
from pulse.generators.stylegan2 import StyleGAN2
from pulse.images import to_image


@pytest.fixture(scope="session")
def data():
    return DATA


@pytest.fixture(scope="session")
def low_res_folder():
    return DATA / "low_res"


@pytest.fixture(scope="session")
def portraits():
    """Photographs of people who agreed to it; they are not part of the repository."""
    if not PORTRAITS.is_dir():
        pytest.skip(f"the portraits are not here: no folder {PORTRAITS}")
    return sorted(PORTRAITS.glob("*.jpg"))


@pytest.fixture(scope="session")
def pulse_home(tmp_path_factory):
    """A cache of the tests' own, so that they neither need nor change the user's."""
    home = tmp_path_factory.mktemp("pulse_home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PULSE_HOME", str(home))
        yield home


@pytest.fixture(scope="session")
def embedded(pulse_home):
    return pulse.load_generator(device="cpu")


@pytest.fixture(autouse=True)
def _use_pulse_home(pulse_home):
    """Every test sees the tests' own cache."""


@pytest.fixture(scope="session")
def stylegan1():
    return StyleGAN1.from_state_dict(pulse_state("pulse-32", "checkpoints"))


@pytest.fixture(scope="session", params=["ada-plain", "sg3sg2-plain"])
def stylegan2(request):
    state = load_file(DATA / "generators" / f"{request.param}.safetensors")
    return StyleGAN2.from_state_dict(state), expected_of(request.param, "checkpoints")


@pytest.fixture(scope="session")
def small_stylegan2():
    """A quick generator of 32 px with random weights, for what does not depend on faces."""
    return StyleGAN2.from_state_dict(load_file(DATA / "generators" / "ada-plain.safetensors"))


@pytest.fixture
def one_thread():
    """Rounding depends on the number of threads; a chaotic descent shows it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def small_generator(pulse_home):
    """A quick generator of 32 px with its prior; what it draws are no faces."""
    return pulse.load_generator(DATA / "generators" / "ada-plain.safetensors", device="cpu")


@pytest.fixture(scope="session")
def drawn_face(embedded):
    """A face of 128 px that nobody has, as an RGB picture."""
    G = embedded.network
    z = torch.randn(1, G.z_dim, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        w = G.truncate(G.mapping(z), 0.5)
        return to_image(G.render(G.broadcast(w), G.zero_noise())[0])


@pytest.fixture(scope="session")
def drawn_scene(drawn_face, tmp_path_factory):
    """A wide picture with a large face and a smaller one."""
    path = tmp_path_factory.mktemp("scene") / "scene.png"
    scene = Image.new("RGB", (900, 500), (90, 110, 130))
    scene.paste(drawn_face.resize((400, 400), Image.Resampling.BICUBIC), (40, 50))
    scene.paste(drawn_face.resize((260, 260), Image.Resampling.BICUBIC), (560, 120))
    scene.save(path)
    return path
