"""Drawn people through a real audit: planted biases are found, and none where none is planted."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import PORTRAITS
from PIL import Image
from torch import nn

from pulse.audit.labels import Labels
from pulse.audit.run import audit, load_attribute, pooled
from pulse.errors import PulseError
from pulse.images import to_image, write_picture
from pulse.settings import FaceSettings, SearchSettings, UpscaleSettings

PEOPLE = 12
# one step from a start that is nearly there: quick, and enough to see what is planted
QUICK = UpscaleSettings(
    candidates=2, face=FaceSettings(low_res=16), search=SearchSettings(tolerance=0.05)
)


@pytest.fixture(scope="module")
def drawn_people(embedded, tmp_path_factory):
    """Photographs of people whom nobody knows, twice as large as the generator draws."""
    folder = tmp_path_factory.mktemp("people")
    G = embedded.network
    z = torch.randn(PEOPLE, G.z_dim, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        ws = G.broadcast(G.truncate(G.mapping(z), 0.7))
        images = [to_image(x) for x in G.render(ws, G.zero_noise())]
    for i, image in enumerate(images):
        large = image.resize((256, 256), Image.Resampling.BICUBIC)
        write_picture(large, folder / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def labels(drawn_people):
    """Two groups by lot."""
    files = sorted(drawn_people.iterdir())
    return Labels("group", {path: "ab"[i % 2] for i, path in enumerate(files)}, ())


def comparison(study, name):
    return next(c for c in study.comparisons if c.measure.name == name)


def test_nothing_is_found_where_nothing_is_planted(embedded, labels):
    study = audit(labels, embedded, QUICK, "mixing")
    assert study.sizes == {"a": 6, "b": 6}
    assert not study.left_out
    (finding,) = study.findings()
    assert finding.startswith("No difference between groups was found beyond chance, which with")
    assert all(len(person.answers) == 2 for person in study.people)
    # answers of 16 px fit in tone: a few units of L* are what one step leaves
    assert abs(comparison(study, "lightness_shift").groups["everyone"].mean) < 3


class Lightening(nn.Module):
    """A synthesis network whose every picture is lighter."""

    def __init__(self, synthesis):
        super().__init__()
        self.inner = synthesis

    def forward(self, ws, noise_maps):
        return self.inner(ws, noise_maps) + 0.25  # of [-1, 1]


def test_a_generator_that_lightens_skin_is_found(embedded, labels):
    network = copy.deepcopy(embedded.network)
    network.synthesis = Lightening(network.synthesis)
    study = audit(labels, replace(embedded, network=network), QUICK, "mixing")
    assert any("the shift of the skin's lightness, L* is +" in line for line in study.findings())
    # an eighth of the range is 10 to 14 units of L* at the tones of skin, less what a step mends
    assert comparison(study, "lightness_shift").groups["everyone"].low > 5


def test_a_search_that_fails_for_one_label_is_found(embedded, labels):
    settings = replace(QUICK, search=SearchSettings())
    good = pooled(embedded, settings)
    bad = pooled(embedded, replace(settings, search=SearchSettings(method="descent", steps=1)))

    def upscale(known):
        known = list(known)
        yield from good([item for item in known if item[1] == "a"])
        yield from bad([item for item in known if item[1] == "b"])

    study = audit(labels, embedded, settings, "mixing", upscale)
    found = [line for line in study.findings() if line.startswith("Groups differ in")]
    assert any("share within the tolerance: b 0.00, a 1.00" in line for line in found)
    within = comparison(study, "within")
    assert (within.worst, within.best) == ("b", "a")
    assert comparison(study, "error").ratio.mean > 5


def test_pictures_that_cannot_be_measured_are_named(embedded, drawn_people, tmp_path):
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Image.new("RGB", (300, 300), "grey").save(tmp_path / "grey.png")
    Image.new("RGB", (16, 16), "grey").save(tmp_path / "small.png")
    bad = {tmp_path / f"{name}.png": "a" for name in ("torn", "grey", "small")}
    good = {drawn_people / "00.png": "a"}
    study = audit(Labels("group", bad | good, (tmp_path / "x.png",)), embedded, QUICK, "mixing")
    assert study.left_out == {
        "torn.png": study.left_out["torn.png"],
        "grey.png": "no face was found",
        "small.png": "is of low resolution itself; the audit needs photographs",
        "x.png": "tells no group",
    }
    assert "torn.png" in study.left_out["torn.png"]
    assert study.too_few() == ["a"]
    assert any("Nothing can be said of differences" in line for line in study.findings())
    with pytest.raises(PulseError, match="nobody could be measured; the first of the pictures"):
        audit(Labels("group", bad, ()), embedded, QUICK, "mixing")


def test_a_users_own_attribute_counts(embedded, labels, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def tone(image):\n    return 'bright' if image.mean() > 127 else 'dim'\n")
    few = Labels("group", dict(list(labels.groups.items())[:2]), ())
    attribute = load_attribute(f"{file}:tone")
    study = audit(few, embedded, QUICK, "mixing", attribute=attribute)
    assert set(study.representation["attribute"].categories) <= {"bright", "dim"}
    assert attribute(np.zeros((2, 2, 3), np.uint8)) == "dim"


def test_mistakes_in_an_attribute_are_named(tmp_path):
    with pytest.raises(PulseError, match=r"cannot find the function 'x.py:f'; give FILE.py:NAME"):
        load_attribute("x.py:f")
    (tmp_path / "bad.py").write_text("import no_such_module_here\n")
    with pytest.raises(PulseError, match=r"bad.py fails: No module named"):
        load_attribute(f"{tmp_path / 'bad.py'}:f")


@pytest.mark.weights
def test_portraits_with_their_own_labels(embedded):
    if not PORTRAITS.is_dir():
        pytest.skip(f"the portraits are not here: no folder {PORTRAITS}")
    files = [PORTRAITS / f"{name}.jpg" for name in ("001", "002", "003", "042", "043")]
    groups = dict.fromkeys(files[:3], "white") | dict.fromkeys(files[3:], "black")
    study = audit(Labels("group", groups, ()), embedded, QUICK, "mixing")
    tones = {person.name: person.tone.lightness for person in study.people}
    assert max(tones["042.jpg"], tones["043.jpg"]) < min(tones["001.jpg"], tones["002.jpg"])
