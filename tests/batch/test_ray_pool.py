"""Several worker processes, on a real Ray on this machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from helpers import tree_of
from PIL import Image

from pulse.batch.ray_pool import RayPool, SearchWorker, _without_pictures
from pulse.batch.runner import Runner
from pulse.batch.watcher import Watcher
from pulse.candidates import Job
from pulse.errors import DeviceError, PulseError
from pulse.faces.prepare import prepare_faces
from pulse.images import picture_from
from pulse.search.surrogate import draw_samples, fit_head
from pulse.settings import (
    FaceSettings,
    KeepSettings,
    PasteSettings,
    RunSettings,
    SearchSettings,
    UpscaleSettings,
)

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'pulse[ray]'")

# Ray leaves sockets and files to the end of the process.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SETTINGS = UpscaleSettings(candidates=2, search=SearchSettings(steps=40, tolerance=0.0))
BATCH = RunSettings(
    batch_size=4, keep=KeepSettings(steps=True, latents=True), paste=PasteSettings("all", 2.0)
)


@pytest.fixture(scope="module")
def cluster():
    """One Ray for all tests: starting it takes seconds."""
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
        logging_level="ERROR",
    )  # fmt: skip
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("in")
    for i in range(12):
        image = Image.linear_gradient("L").resize((8, 8)).rotate(90 * i).convert("RGB")
        image.putpixel((0, 0), (255, 0, 20 * i))
        image.save(base / f"{i:02}.png")
    return base


def pids_of(pool):
    """The worker processes of a pool."""
    calls = [worker.actor.__ray_call__.remote(lambda _: os.getpid()) for worker in pool._workers]
    return ray.get(calls, timeout=60)


def searcher_of(workers, pids, pools=None):
    """Makes a pool on the CPU, and notes its worker processes, and itself."""

    def make(*arguments):
        pool = RayPool.factory(None, workers, "cpu")(*arguments)
        pids.extend(pids_of(pool))
        if pools is not None:
            pools.append(pool)
        return pool

    return make


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory, small_generator):
    """What a run in one process gives."""
    out = tmp_path_factory.mktemp("whole") / "out"
    Runner(out, small_generator, SETTINGS, BATCH).run([folder])
    return tree_of(out)


def test_no_cluster_at_an_address_is_named(small_generator):
    """Before any other test: a process that is connected stays with its cluster."""
    with pytest.raises(DeviceError, match=r"cannot reach a Ray cluster at '127\.0\.0\.1:1'"):
        RayPool(small_generator, SETTINGS, 4, 8, address="127.0.0.1:1", workers=1, device="cpu")


def test_two_workers_give_what_one_process_gives(cluster, folder, tmp_path, small_generator, whole):
    """Also where the driver has no bank: the first worker gets it, for all."""
    out, generator = tmp_path / "out", replace(small_generator, bank=None)
    searcher = RayPool.factory(None, 2, "cpu")
    summary = Runner(out, generator, SETTINGS, BATCH, searcher=searcher).run([folder])
    assert summary.faces == 12
    assert tree_of(out) == whole


@pytest.fixture(scope="module")
def with_head(small_generator):
    """The generator with a head that has hardly been trained: enough for the method to run."""
    G, prior = small_generator.network, small_generator.prior
    rng = torch.Generator().manual_seed(0)
    head = fit_head(*draw_samples(G, prior, 200, rng), rng, 5)
    return replace(small_generator, head=head)


POSTERIOR = UpscaleSettings(
    candidates=3, search=SearchSettings(method="posterior", refine=False, sigma=0.3)
)


def test_two_workers_sample_what_one_process_samples(cluster, folder, tmp_path, with_head):
    small = tmp_path / "in"
    small.mkdir()
    for i in range(3):
        shutil.copy(folder / f"{i:02}.png", small)
    one, two = tmp_path / "one", tmp_path / "two"
    Runner(one, with_head, POSTERIOR, BATCH).run([small])
    searcher = RayPool.factory(None, 2, "cpu")
    Runner(two, with_head, POSTERIOR, BATCH, searcher=searcher).run([small])
    assert tree_of(two) == tree_of(one)


def test_a_worker_without_jobs_does_not_keep_the_driver_waiting(cluster, folder, with_head):
    """Pictures may still be in reading: more jobs are asked for before the first has its answer."""
    face = prepare_faces(
        picture_from(Image.open(folder / "00.png")), 32, FaceSettings(align="never", low_res=8)
    )[0]
    pool = RayPool(with_head, POSTERIOR, 4, 9, address=None, workers=2, device="cpu")
    try:
        pool.add([Job(face, 1)])
        assert pool.advance() == []
        assert len(pool) == 1
        assert pool.wants_more
        answers = []
        while len(pool):
            answers += pool.advance()
        assert [candidate.number for _, candidate in answers] == [1]
    finally:
        pool.close()


def test_jobs_of_a_face_go_to_a_worker_together(cluster, folder, with_head):
    settings = FaceSettings(align="never", low_res=8)
    pictures = [picture_from(Image.open(folder / f"{i:02}.png")) for i in range(3)]
    faces = [prepare_faces(picture, 32, settings)[0] for picture in pictures]
    pool = RayPool(with_head, POSTERIOR, 4, 9, address=None, workers=2, device="cpu")
    try:
        for face in faces:
            pool.add(Job(face, number) for number in (1, 2, 3))
        for worker in pool._workers:
            if not worker.has_begun:
                pool._answers_of(worker)  # hears that it has begun
            pool._feed(worker)
        held = [Counter(id(job.face) for job in worker.jobs.values()) for worker in pool._workers]
        assert [list(faces.values()) for faces in held] == [[3, 3], [3]]
        assert not held[0].keys() & held[1].keys()
        sent = _without_pictures(pool._workers[0].jobs)
        jobs = [job for _, job in ray.get(ray.put(sent))]
        assert len({id(job.face) for job in jobs}) == 2  # one object each still: sampled once
        assert all(job.face.aligned is None for job in jobs)
    finally:
        pool.close()


def test_killed_workers_are_replaced_and_nothing_is_lost(
    cluster, folder, tmp_path, small_generator, whole, monkeypatch
):
    """Both at a time: losses of one place say nothing of another."""
    monkeypatch.setattr("pulse.batch.ray_pool.MOST_LOSSES", 1)
    out, pids, killed = tmp_path / "out", [], []

    def kill_all(_record):
        while pids:
            killed.append(pids.pop())
            os.kill(killed[-1], signal.SIGKILL)

    watcher = Watcher(on_record=kill_all)
    Runner(out, small_generator, SETTINGS, BATCH, watcher, searcher_of(2, pids)).run([folder])
    assert len(set(killed)) == 2
    assert tree_of(out) == whole


@pytest.fixture
def invite(cluster):
    """Gives cores of the cluster to somebody else, as soon as they are free, until the end."""
    guests = []

    def start(cores):
        @ray.remote(num_cpus=cores)
        class Guest:
            def is_there(self):
                return True

        guests.append(Guest.remote())
        return guests[-1].is_there.remote()

    yield start
    for guest in guests:
        ray.kill(guest)


def test_a_worker_whose_place_is_lost_leaves_its_jobs_to_the_others(
    folder, tmp_path, small_generator, whole, invite
):
    """As on a cluster that loses a machine: here, a guest takes the core of a killed worker."""
    out, pids, pools, killed = tmp_path / "out", [], [], []

    def kill_one(_record):
        busy = [i for i, worker in enumerate(pools[0]._workers) if worker.jobs]
        if busy and not killed:
            killed.append(busy[0])
            guest = invite(1)
            os.kill(pids[busy[0]], signal.SIGKILL)
            assert ray.get(guest, timeout=60)

    watcher = Watcher(on_record=kill_one)
    searcher = searcher_of(2, pids, pools)
    Runner(out, small_generator, SETTINGS, BATCH, watcher, searcher).run([folder])
    assert not pools[0]._workers[killed[0]].has_begun  # none came in its stead
    assert tree_of(out) == whole


def test_jobs_are_shared_by_those_that_are_there(cluster, folder, small_generator, monkeypatch):
    face = prepare_faces(
        picture_from(Image.open(folder / "00.png")), 32, FaceSettings(align="never", low_res=8)
    )[0]
    pool = RayPool(small_generator, SETTINGS, 4, 8, address=None, workers=2, device="cpu")
    try:
        pool.add(Job(face, number) for number in range(1, 7))
        first, second = pool._workers
        assert not second.has_begun
        pool._feed(first)
        assert len(first.jobs) == 3  # the other one is expected
        pool._answers_of(first)
        monkeypatch.setattr("pulse.batch.ray_pool.START_S", 0.0)
        left = len(pool)
        pool._feed(first)
        assert len(first.jobs) == left
    finally:
        pool.close()


def test_where_no_worker_is_left_the_run_ends_with_what_is_finished(
    folder, tmp_path, small_generator, invite, monkeypatch
):
    out, pids = tmp_path / "out", []

    def kill(_record):
        if pids:
            monkeypatch.setattr("pulse.batch.ray_pool.PLACE_S", 2.0)
            guest = invite(2)
            os.kill(pids.pop(), signal.SIGKILL)
            assert ray.get(guest, timeout=60)

    watcher = Watcher(on_record=kill)
    runner = Runner(out, small_generator, SETTINGS, BATCH, watcher, searcher_of(1, pids))
    with pytest.raises(DeviceError, match=r"every worker was lost, .* is finished is kept"):
        runner.run([folder])
    assert list(out.rglob("candidate-01.png"))


def test_a_cluster_without_a_free_place_is_told(small_generator, invite, monkeypatch):
    monkeypatch.setattr("pulse.batch.ray_pool.PLACE_S", 2.0)
    assert ray.get(invite(2), timeout=60)
    message = (
        r"^no worker of 2 cores and 0 GPUs found .* \(of all machines together 0 and 0 are free"
    )
    with pytest.raises(DeviceError, match=message):
        RayPool(small_generator, SETTINGS, 4, 8, address=None, workers=1, device="cpu")


@contextmanager
def start_driver(folder, out, data, *where):
    """The command line in a process group of its own, as a terminal starts it; ended at the end."""
    generator = data / "generators" / "ada-plain.safetensors"
    command = [sys.executable, "-m", "pulse", "upscale", str(folder)]
    command += ["-o", str(out), "--generator", str(generator), "--device", "cpu", "--no-report"]
    command += ["-n", "2", "--steps", "40", "--tolerance", "0", "--batch-size", "4"]
    command += ["--paste-back", "--pick", "all", "--scale", "2", "--save-steps", "--save-latents"]
    with subprocess.Popen(
        [*command, "--workers", "2", *where], stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as driver:  # fmt: skip
        try:
            yield driver
        finally:  # whatever failed: nobody waits for it
            if driver.poll() is None:
                os.killpg(driver.pid, signal.SIGKILL)


def wait_for(is_so):
    deadline = time.monotonic() + 60
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert is_so()


def has_begun(out):
    journal = out / "journal.jsonl"
    return journal.exists() and journal.read_text().count("\n") >= 2


def searching():
    """Workers that this process has started, with those below it, by the title that Ray gives them.

    A child that a worker starts has its title until it runs another program: importing PyTorch may
    ask `ldconfig` for a library.
    """
    lines = subprocess.check_output(["ps", "-A", "-o", "pid=,ppid=,args="], text=True).splitlines()
    parents = {int(pid): int(parent) for pid, parent in (line.split()[:2] for line in lines)}
    titled = {int(line.split()[0]) for line in lines if "ray::SearchWorker" in line}

    def is_ours(pid):
        while pid in parents and pid != os.getpid():
            pid = parents[pid]
        return pid == os.getpid()

    return {pid for pid in titled if is_ours(pid) and parents[pid] not in titled}


def test_after_a_dead_driver_its_workers_end_and_the_run_goes_on(
    cluster, folder, tmp_path, data, small_generator, whole
):
    out, others = tmp_path / "out", searching()
    address = ray.get_runtime_context().gcs_address
    with start_driver(folder, out, data, "--ray", address) as driver:
        wait_for(lambda: len(searching() - others) == 2)  # on a busy machine one begins late
        wait_for(lambda: has_begun(out))
        assert len(searching() - others) == 2
        driver.kill()
    wait_for(lambda: not searching() - others)
    searcher = RayPool.factory(None, 2, "cpu")
    summary = Runner(out, small_generator, SETTINGS, BATCH, searcher=searcher).run([folder])
    assert 1 <= summary.done_before < 12
    assert tree_of(out) == whole


def test_ctrl_c_ends_the_workers_and_leaves_a_state_to_go_on_from(
    cluster, folder, tmp_path, data, small_generator, whole
):
    """With a Ray of the driver's own, whose processes get the signal as well."""
    out, others = tmp_path / "out", searching()
    with start_driver(folder, out, data) as driver:
        wait_for(lambda: has_begun(out))
        workers = searching() - others
        os.killpg(driver.pid, signal.SIGINT)
        _, stderr = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert re.match(
        r"pulse: interrupted; \d+ faces? of this run whole in .* --workers 2\n$", stderr
    )
    assert workers
    wait_for(lambda: not any(map(is_running, workers)))
    summary = Runner(out, small_generator, SETTINGS, BATCH).run([folder])
    assert 1 <= summary.done_before < 12
    assert tree_of(out) == whole


def test_workers_that_are_lost_again_and_again_stop_the_run(
    cluster, folder, tmp_path, small_generator, monkeypatch
):
    monkeypatch.setattr("pulse.batch.ray_pool.MOST_LOSSES", 0)  # each more takes seconds
    out, pids = tmp_path / "out", []

    def kill(_record):
        if pids:
            os.kill(pids.pop(), signal.SIGKILL)

    watcher = Watcher(on_record=kill)
    runner = Runner(out, small_generator, SETTINGS, BATCH, watcher, searcher_of(1, pids))
    with pytest.raises(DeviceError, match=r"a worker was lost, 1 in a row .* is finished is kept"):
        runner.run([folder])
    assert list(out.rglob("candidate-01.png"))  # what was finished is kept


def test_the_first_worker_measures_the_batch_size_for_all(cluster, small_generator):
    pool = RayPool(small_generator, SETTINGS, None, 8, address=None, workers=2, device="cpu")
    assert pool.batch_size in (1, 2, 4)  # four searches for each of two workers
    pids = pids_of(pool)
    pool.close()
    deadline = time.monotonic() + 60
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_running, pids))


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def rendering(network, render):
    """A network whose pictures are drawn otherwise; workers get it like that too."""
    kind = network.__class__
    network.__class__ = type("Changed", (kind,), {"render": render})
    try:
        yield
    finally:
        network.__class__ = kind


def test_a_worker_that_fails_as_it_begins_is_one_clear_line(cluster, small_generator):
    """It measures the batch size then. Systems end processes for lack of memory."""

    def end_process(*_arguments):
        os.kill(os.getpid(), signal.SIGKILL)

    def break_down(*_arguments):
        raise RuntimeError("no kernel image is available\nand more of it")

    for render, message in (
        (end_process, r"^a worker failed: [^\n]*its worker process has died[^\n]*$"),
        (break_down, r"^a worker failed: RuntimeError: no kernel image is available$"),
    ):
        with (
            rendering(small_generator.network, render),
            pytest.raises(DeviceError, match=message),
        ):
            RayPool(small_generator, SETTINGS, None, 8, address=None, workers=1, device="cpu")


def test_a_machine_without_pulse_is_told(cluster, small_generator, monkeypatch):
    class Elsewhere:
        __module__ = "pulse_of_another_machine"

    module = ModuleType(Elsewhere.__module__)
    Elsewhere.__qualname__ = "Elsewhere"
    module.Elsewhere = Elsewhere
    monkeypatch.setitem(sys.modules, Elsewhere.__module__, module)  # of this process alone
    monkeypatch.setattr("pulse.batch.ray_pool.SearchWorker", Elsewhere)
    Elsewhere.begin = Elsewhere.bank = SearchWorker.begin
    message = r"^a worker failed: ModuleNotFoundError: No module named 'pulse_of_another_machine'$"
    with pytest.raises(DeviceError, match=message):
        RayPool(small_generator, SETTINGS, 4, 8, address=None, workers=1, device="cpu")


def test_a_worker_s_lack_of_memory_is_one_clear_line(cluster, folder, tmp_path, small_generator):
    """The error travels: the message is that of a single process."""

    def lack_memory(*_arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    runner = Runner(
        tmp_path / "out", small_generator, SETTINGS, BATCH,
        searcher=RayPool.factory(None, 1, "cpu"),
    )  # fmt: skip
    with (
        rendering(small_generator.network, lack_memory),
        pytest.raises(DeviceError, match="cpu has too little memory for one search with"),
    ):
        runner.run([folder])


def test_without_ray_the_user_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr("pulse.batch.ray_pool.find_spec", lambda _name: None)
    with pytest.raises(PulseError, match=r"need Ray: pip install 'pulse\[ray\]'"):
        RayPool.factory(None, 2, "auto")
