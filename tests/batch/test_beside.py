"""Runs that keep their searches: animations, latents, and runs that go on from them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import tree_of
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import pulse
from pulse.batch.jobs import OutputFolders, Source
from pulse.batch.journal import Journal
from pulse.batch.runner import Runner
from pulse.batch.watcher import Watcher
from pulse.errors import PulseError
from pulse.images import read_origin, read_picture, to_tensor
from pulse.latents import FORMAT, write_latents
from pulse.pool import MOST_FRAMES
from pulse.settings import KeepSettings, RunSettings, SearchSettings, UpscaleSettings

# The descent goes downhill on weights that are random; the fast search needs a generator of faces.
SETTINGS = UpscaleSettings(
    candidates=2,
    search=SearchSettings(
        method="descent", noise="trainable", steps=4, tolerance=0, stop_at_tolerance=False
    ),
)
KEEP = KeepSettings(steps=True, latents=True)


@pytest.fixture
def folder(tmp_path):
    base = tmp_path / "in"
    base.mkdir()
    for i, name in enumerate(("a.png", "b.png")):
        image = Image.linear_gradient("L").resize((8, 8)).rotate(90 * i).convert("RGB")
        image.save(base / name)
    return base


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def run(small_generator, folder, out, one_thread):
    def run_it(out=out, settings=SETTINGS, keep=KEEP, watcher=None, **run_settings):
        run_settings = RunSettings(batch_size=2, keep=keep, **run_settings)
        return Runner(out, small_generator, settings, run_settings, watcher).run([folder])

    return run_it


def errors_of(out):
    return {(r.folder, r.candidate): r.error for r in Journal(out).read()}


def test_nothing_is_kept_unless_asked_for(run, out):
    run(keep=KeepSettings())
    assert not list(out.rglob("steps-*"))
    assert not list(out.rglob("latents-*"))


def test_a_latents_file_holds_everything(run, out, small_generator):
    run()
    path = out / "a/latents-02.safetensors"
    tensors, G = load_file(path), small_generator.network
    low_res = to_tensor(read_picture(out / "a/low_res.png").image)
    assert torch.equal(tensors["low_res"], low_res)
    # the styles follow from v, and the picture from styles and noise
    assert torch.equal(small_generator.prior.to_w(tensors["v"][None])[0], tensors["ws"])
    noise = [tensors[f"noise.{i}"][None] for i in range(len(G.noise_sizes))]
    with torch.no_grad():
        drawn = G.render(tensors["ws"][None], noise)[0].clamp(0, 1)
    saved = to_tensor(read_picture(out / "a/candidate-02.png").image)
    # a level of 255: a batch of one instead of two is rounded otherwise
    assert (drawn - saved).abs().max() <= 1 / 255 + 1e-4
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["pulse"])
    assert (about["format"], about["candidate"], about["face"]) == (FORMAT, 2, 1)
    assert about["generator_sha256"] == small_generator.sha256
    assert about["seed"] == 0
    assert about["settings"]["search"]["steps"] == 4
    assert about["picture"] == read_picture(out.parent / "in/a.png").content_hash
    assert about["error"] == errors_of(out)["a", 2]


def test_going_on_begins_where_the_search_ended(run, out, tmp_path):
    """One step more draws the very picture that was saved, and more steps only improve it."""
    run()
    one_step = replace(SETTINGS, search=replace(SETTINGS.search, steps=1))
    again, further = tmp_path / "again", tmp_path / "further"
    run(again, one_step, from_latents=(out,))
    for path in out.rglob("candidate-*.png"):
        same = read_picture(again / path.relative_to(out)).image
        assert same.tobytes() == read_picture(path).image.tobytes()
    assert errors_of(again) == errors_of(out)
    more = replace(SETTINGS, search=replace(SETTINGS.search, steps=12))
    run(further, more, from_latents=(out,))
    before, after = errors_of(out), errors_of(further)
    assert all(after[key] < before[key] for key in before)


@pytest.mark.parametrize("method", ["mixing", "descent"])
@pytest.mark.parametrize("noise", ["fixed", "zero", "trainable"])
@pytest.mark.parametrize("tile_latent", [False, True])
def test_every_kind_of_search_goes_on(run, out, tmp_path, method, noise, tile_latent):
    search = replace(SETTINGS.search, method=method, noise=noise, tile_latent=tile_latent)
    run(settings=replace(SETTINGS, search=search))
    again = tmp_path / "again"
    run(again, replace(SETTINGS, search=replace(search, steps=1)), from_latents=(out,))
    assert errors_of(again) == errors_of(out)


def test_single_files_are_for_single_candidates(run, out, tmp_path):
    run()
    one_step = replace(SETTINGS, search=replace(SETTINGS.search, steps=1))
    plain, mixed = tmp_path / "plain", tmp_path / "mixed"
    run(plain, one_step)
    run(mixed, one_step, from_latents=(out / "b/latents-01.safetensors",))
    expected = errors_of(plain) | {("b", 1): errors_of(out)["b", 1]}
    assert errors_of(mixed) == expected != errors_of(plain)


def test_other_latents_are_other_settings(run, out, tmp_path):
    run()
    again = tmp_path / "again"
    run(again, from_latents=(out / "a",))
    assert run(again, from_latents=(out / "a",)).done_before == 2
    with pytest.raises(PulseError, match=r"holds a run with other settings \(from_latents is "):
        run(again, from_latents=(out / "b",))
    with pytest.raises(PulseError, match=r"holds a run with other settings \(from_latents is "):
        run(again)


def test_latents_of_other_pictures_are_told_of(run, out, folder, tmp_path):
    run()
    for path in folder.iterdir():
        Image.new("RGB", (8, 8), "red").save(path)
    warnings = []
    run(tmp_path / "again", watcher=Watcher(on_warning=warnings.append), from_latents=(out,))
    assert warnings == ["no latents file is of a face of these pictures: every search began anew"]
    # all done: nothing was searched for, so there is nothing to tell
    run(tmp_path / "again", watcher=Watcher(on_warning=warnings.append), from_latents=(out,))
    assert len(warnings) == 1


def test_files_that_are_no_latents_are_refused(run, out, folder, tmp_path, data):
    run()
    good = out / "a/latents-01.safetensors"
    bad = tmp_path / "latents-01.safetensors"
    again = tmp_path / "again"
    shutil.copy(good, bad)
    with pytest.raises(PulseError, match=r"a/latents-01.* and .*are of one candidate; give one"):
        run(again, from_latents=(good, bad))
    for content in (b"", b"no latents", good.read_bytes()[:500]):
        bad.write_bytes(content)
        with pytest.raises(PulseError, match=r"latents-01.safetensors is not a latents file of th"):
            run(again, from_latents=(bad,))
    weights = data / "generators" / "ada-plain.safetensors"
    with pytest.raises(PulseError, match=r"ada-plain.safetensors is not a latents file of this"):
        run(again, from_latents=(weights,))
    with pytest.raises(PulseError, match=r"there is no latents-\*.safetensors in .*--save-latents"):
        run(again, from_latents=(folder,))
    assert not again.exists()


def altered(path, target, change):
    """A latents file with other metadata or tensors."""
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["pulse"])
    change(about, tensors)
    save_file(tensors, target, {"pulse": json.dumps(about)})
    return target


def test_latents_of_another_generator_are_refused(run, out, tmp_path):
    run()
    good, bad = out / "a/latents-01.safetensors", tmp_path / "latents-01.safetensors"
    other = altered(good, bad, lambda about, _: about.update(generator_sha256="0" * 64))
    with pytest.raises(PulseError, match=r"is of the generator ada-plain, and this run has ada-pl"):
        run(tmp_path / "again", from_latents=(other,))
    other = altered(good, bad, lambda _, t: t.update(v=t["v"][:, :5].contiguous()))
    with pytest.raises(PulseError, match=r"holds latents of another shape than ada-plain has"):
        run(tmp_path / "again", from_latents=(other,))
    newer = altered(good, bad, lambda about, _: about.update(format="pulse-latents-2"))
    with pytest.raises(PulseError, match=r"damaged \(its format is pulse-latents-2\)"):
        run(tmp_path / "newer", from_latents=(newer,))


def frames_of(path):
    with Image.open(path) as image:
        frames = []
        for i in range(image.n_frames):
            image.seek(i)
            frames.append(np.asarray(image.convert("RGB"), int))
        return frames, image.info.get("loop")


def test_an_animation_ends_with_the_candidate(run, out):
    run()
    frames, loop = frames_of(out / "a/steps-01.webp")
    assert 2 <= len(frames) <= 4  # frames that are alike become one
    assert loop == 0
    for frame in frames:
        assert frame.shape == (32, 64, 3)
    low_res = read_picture(out / "a/low_res.png").image.resize((32, 32), Image.Resampling.NEAREST)
    candidate = read_picture(out / "a/candidate-01.png").image
    # WebP of quality 85 halves the colours: these random ones lose more than a face's
    assert np.abs(frames[-1][:, :32] - np.asarray(low_res, int)).mean() < 6
    last = np.abs(frames[-1][:, 32:] - np.asarray(candidate, int)).mean()
    first = np.abs(frames[0][:, 32:] - np.asarray(candidate, int)).mean()
    assert last < first / 2
    origin = read_origin(out / "a/steps-01.webp")
    assert origin == read_origin(out / "a/candidate-01.png")


def test_a_long_search_keeps_few_frames(small_generator, folder, tmp_path):
    seen = []
    search = replace(SETTINGS.search, steps=2 * MOST_FRAMES + 1)
    settings = UpscaleSettings(candidates=1, search=search)
    runner = Runner(tmp_path / "out", small_generator, settings, RunSettings(keep=KEEP))
    write = runner.writer.write
    object.__setattr__(
        runner.writer, "write", lambda work, found: seen.extend(found) or write(work, found)
    )
    runner.run([folder / "a.png"])
    (candidate,) = seen
    # of 101 steps every third from the first on, and the last
    assert (MOST_FRAMES, len(candidate.frames)) == (50, 34 + 1)
    assert torch.equal(candidate.frames[-1], candidate.image.mul(255).round().byte())
    assert candidate.frames[0].shape == (3, 32, 32)
    assert candidate.frames[0].dtype == torch.uint8


@pytest.mark.parametrize("lost", ["a/steps-02.webp", "b/latents-01.safetensors"])
def test_what_is_missing_is_made_again_the_same(run, out, lost):
    run()
    before = tree_of(out)
    (out / lost).unlink()
    assert run().done_before == 1
    assert tree_of(out) == before
    assert run(keep=KeepSettings()).done_before == 2


def test_keeping_can_be_asked_for_later(run, out):
    run(keep=KeepSettings())
    before = tree_of(out)
    run()
    after = tree_of(out)
    assert len(after) == len(before) + 2 * 2 * 2
    assert {name: after[name] for name in before} == before


def test_a_candidate_without_latents_has_no_file(small_generator, folder, tmp_path):
    result = pulse.upscale(folder / "a.png", small_generator, candidates=1, settings=SETTINGS)
    with pytest.raises(ValueError, match="got a candidate without latents"):
        write_latents(tmp_path / "a", result.candidates[0], result.face)


@pytest.mark.parametrize("stem", ["steps-01.webp", "Latents-02.safetensors"])
def test_no_folder_takes_the_name_of_what_is_kept(tmp_path, stem):
    folder = OutputFolders().of(Source(tmp_path / f"{stem}.jpg", tmp_path.relative_to(tmp_path)))
    assert str(folder) != stem
