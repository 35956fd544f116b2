"""The mapping network of StyleGAN2 and StyleGAN3, against its formula written out."""

import pytest
import torch

from pulse.generators.mapping import MappingNetwork
from pulse.generators.ops import load_frozen


def mapping_state(*, z_dim=5, w_dim=6, layers=2, hidden=7, num_classes=0, embed_dim=4):
    rng = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=rng)  # single precision, as in a file

    sizes = [z_dim + (embed_dim if num_classes else 0), *[hidden] * (layers - 1), w_dim]
    state = {"w_avg": draw(w_dim)}
    for i in range(layers):
        state[f"fc{i}.weight"] = draw(sizes[i + 1], sizes[i]) / 0.01
        state[f"fc{i}.bias"] = draw(sizes[i + 1]) / 0.01
    if num_classes:
        state["embed.weight"] = draw(embed_dim, num_classes)
        state["embed.bias"] = draw(embed_dim)
    return state


def build(state):
    with torch.device("meta"):
        network = MappingNetwork({f"mapping.{key}": tensor for key, tensor in state.items()})
    load_frozen(network, state)
    return network.double()


def reference(state, z, label=None):
    """One row at a time, a sum for each output."""

    def unit(v):
        return v / torch.sqrt((v * v).sum() / len(v) + 1e-8)

    state = {key: tensor.double() for key, tensor in state.items()}
    rows = []
    for b in range(len(z)):
        x = unit(z[b])
        if label is not None:
            embedding = state["embed.weight"] @ label[b] / label.shape[1] ** 0.5
            x = torch.cat([x, unit(embedding + state["embed.bias"])])
        i = 0
        while f"fc{i}.weight" in state:
            y = 0.01 * (state[f"fc{i}.weight"] @ x / len(x) ** 0.5 + state[f"fc{i}.bias"])
            x = 2**0.5 * torch.where(y < 0, 0.2 * y, y)
            i += 1
        rows.append(x)
    return torch.stack(rows)


@pytest.fixture
def z():
    return torch.randn(3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("layers", [1, 2, 8])
def test_styles_of_a_network_without_classes(z, layers):
    state = mapping_state(layers=layers)
    network = build(state)
    assert (network.z_dim, network.w_dim, network.num_classes) == (5, 6, 0)
    torch.testing.assert_close(network(z), reference(state, z), rtol=1e-10, atol=1e-10)


def test_styles_of_the_chosen_class(z):
    state = mapping_state(num_classes=3)
    network = build(state)
    assert (network.z_dim, network.w_dim, network.num_classes) == (5, 6, 3)
    for index in (0, 2):
        network.choose_class(index)
        label = torch.zeros(3, 3, dtype=torch.float64)
        label[:, index] = 1
        torch.testing.assert_close(network(z), reference(state, z, label), rtol=1e-10, atol=1e-10)


def test_a_label_goes_before_the_chosen_class(z):
    state = mapping_state(num_classes=3)
    network = build(state)
    network.choose_class(1)
    label = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0.5, 0.5, 0]], dtype=torch.float64)
    want = reference(state, z, label)
    torch.testing.assert_close(network(z, label), want, rtol=1e-10, atol=1e-10)


def test_a_class_must_be_chosen_first(z):
    network = build(mapping_state(num_classes=3))
    message = "these weights draw 3 classes: choose one, 0 to 2, before mapping z"
    with pytest.raises(ValueError, match=message):
        network(z)


def test_classes_that_do_not_exist():
    network = build(mapping_state(num_classes=3))
    for index in (3, -1):
        with pytest.raises(ValueError, match=f"got class {index}, expected 0 to 2"):
            network.choose_class(index)
    with pytest.raises(ValueError, match="got class 0, but these weights know no classes"):
        build(mapping_state()).choose_class(0)


def test_label_of_the_wrong_shape(z):
    with pytest.raises(ValueError, match=r"label has shape \(3, 2\), expected \(3, 3\)"):
        build(mapping_state(num_classes=3))(z, z[:, :2])
    with pytest.raises(ValueError, match=r"label has shape \(3, 2\), expected \(3, 0\)"):
        build(mapping_state())(z, z[:, :2])


def test_weights_without_a_mapping_network():
    with pytest.raises(ValueError, match=r"no key mapping\.fc0\.weight"):
        MappingNetwork({})


def test_weights_without_room_for_z():
    state = {"mapping.fc0.weight": torch.zeros(6, 4), "mapping.embed.weight": torch.zeros(4, 3)}
    message = "mapping.fc0.weight takes 4 numbers, expected more than the 4 of the label"
    with pytest.raises(ValueError, match=message):
        MappingNetwork(state)
