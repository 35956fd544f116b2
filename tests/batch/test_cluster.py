"""Machines divided among workers; `test_ray_pool` reaches real ones."""

from __future__ import annotations

import pytest

from pulse.batch.cluster import Share, shares_of
from pulse.errors import DeviceError


@pytest.mark.parametrize(
    ("resources", "workers", "device", "want"),
    [
        ({"CPU": 8}, 2, "auto", (Share(0, 4), "cpu", 2)),
        ({"CPU": 8}, None, "auto", (Share(0, 8), "cpu", 1)),
        ({"CPU": 16, "GPU": 4}, None, "auto", (Share(1, 4), "cuda", 4)),
        ({"CPU": 16, "GPU": 4}, 2, "auto", (Share(1, 8), "cuda", 2)),
        ({"CPU": 16, "GPU": 2}, 4, "cuda", (Share(0.5, 4), "cuda", 4)),
        ({"CPU": 16, "GPU": 2}, 3, "auto", (Share(0.5, 16 / 3), "cuda", 3)),  # 2/3 would not fit
        ({"CPU": 16, "GPU": 2}, 4, "cpu", (Share(0, 4), "cpu", 4)),
    ],
)
def test_shares_of_the_machines(resources, workers, device, want):
    assert shares_of(resources, workers, device) == want


def test_devices_that_workers_cannot_take_are_refused():
    with pytest.raises(DeviceError, match="the cluster has no GPU"):
        shares_of({"CPU": 8}, 2, "cuda")
    with pytest.raises(DeviceError, match="--device takes auto, cpu or cuda with --workers"):
        shares_of({"CPU": 8}, 2, "cuda:1")
