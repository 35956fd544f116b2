"""Machines divided among workers; `test_ray_pool` reaches real ones."""

from __future__ import annotations

import pytest

from pulse.batch.cluster import Machine, Share, machines_of, shares_of, why_lost
from pulse.errors import DeviceError

ONE = [Machine(gpus=0, cpus=8)]


@pytest.mark.parametrize(
    ("machines", "workers", "device", "want"),
    [
        (ONE, 2, "auto", (Share(0, 4), "cpu", 2)),
        (ONE, None, "auto", (Share(0, 8), "cpu", 1)),
        (ONE, 6, "auto", (Share(0, 8 / 6), "cpu", 6)),
        ([Machine(4, 16)], None, "auto", (Share(1, 4), "cuda", 4)),
        ([Machine(4, 16)], 2, "auto", (Share(1, 8), "cuda", 2)),
        ([Machine(2, 16)], 4, "cuda", (Share(0.5, 4), "cuda", 4)),
        ([Machine(2, 16)], 3, "auto", (Share(0.5, 16 / 3), "cuda", 3)),  # 2/3 would not fit
        ([Machine(1, 12)], 6, "auto", (Share(1 / 6, 2), "cuda", 6)),
        ([Machine(2, 16)], 4, "cpu", (Share(0, 4), "cpu", 4)),
        # a worker is on one machine
        ([Machine(0, 4), Machine(0, 4)], None, "auto", (Share(0, 4), "cpu", 1)),
        ([Machine(0, 4), Machine(0, 4)], 3, "auto", (Share(0, 2), "cpu", 3)),
        ([Machine(0, 8), Machine(0, 2)], 2, "auto", (Share(0, 4), "cpu", 2)),
        ([Machine(2, 4), Machine(2, 32)], None, "auto", (Share(1, 2), "cuda", 4)),
        ([Machine(0, 64), Machine(2, 8)], None, "auto", (Share(1, 4), "cuda", 2)),
        ([Machine(2, 0)], None, "auto", (Share(1, 0), "cuda", 2)),
        ([Machine(0, 0)], None, "auto", (Share(0, 1), "cpu", 1)),  # others may come
    ],
)
def test_shares_of_the_machines(machines, workers, device, want):
    assert shares_of(machines, workers, device) == want


def test_machines_that_are_gone_do_not_count():
    there = {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 1.0, "memory": 1e9}}
    gone = {"Alive": False, "Resources": {}}
    bare = {"Alive": True, "Resources": {"node:__internal_head__": 1.0}}
    assert machines_of([there, gone, bare]) == [Machine(1, 8), Machine(0, 0)]


def test_devices_that_workers_cannot_take_are_refused():
    with pytest.raises(DeviceError, match="the cluster has no GPU"):
        shares_of(ONE, 2, "cuda")
    with pytest.raises(DeviceError, match="--device takes auto, cpu or cuda with --workers"):
        shares_of(ONE, 2, "cuda:1")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "The actor died because of an error raised in its creation task, ray::W.__init__()\n"
            "  File ...\nModuleNotFoundError: No module named 'pulse'\n",
            "ModuleNotFoundError: No module named 'pulse'",
        ),
        (
            "The actor died unexpectedly before finishing this task.\n\tclass_name: SearchWorker\n"
            "The actor is dead because its worker process has died. Worker exit type: USER_ERROR\n",
            "The actor is dead because its worker process has died. Worker exit type: USER_ERROR",
        ),
        (
            "The actor died unexpectedly before finishing this task.\n\tclass_name: SearchWorker\n"
            "The actor died because its node has died. Node Id: 0123\n",
            "The actor died because its node has died. Node Id: 0123",
        ),
        ("Task was killed due to the node running low on memory.\nMemory on the node ...",
         "Task was killed due to the node running low on memory."),
    ],
)  # fmt: skip
def test_why_a_worker_is_lost_is_one_line(text, why):
    assert why_lost(RuntimeError(text)) == why
