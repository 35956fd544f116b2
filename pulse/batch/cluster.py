"""A Ray cluster, on this machine or elsewhere: reaching it, and dividing its machines."""

from __future__ import annotations

import logging
import os
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pulse.errors import DeviceError

KNOCK_S = 10.0  # for a cluster to answer


@dataclass(frozen=True)
class Share:
    """What one worker gets of the machines.

    Attributes:
        gpus: share of a GPU; 0 for none.
        cpus: processor cores.
    """

    gpus: float
    cpus: float


def start_ray(address: str | None) -> None:
    """Connect to a cluster, or start Ray on this machine.

    Raises:
        DeviceError: if there is no cluster at the address.
    """
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        quiet |= {"include_dashboard": False, "num_cpus": os.cpu_count()}
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        if address is not None:
            _knock_at(address)
        ray.init(address=address or "local", **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        raise DeviceError(
            f"cannot reach a Ray cluster at '{address}' ({first_line(error)}); start one with "
            "'ray start --head', or leave --ray out to use this machine"
        ) from error
    with suppress(ValueError):  # in a thread that has no say in signals, Ray took none either
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray's would end the process at once


def _knock_at(address: str) -> None:
    """See that something listens at "host:port": Ray ends the whole process where nothing does.

    Raises:
        OSError: if nothing does.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), KNOCK_S).close()


def shares_of(
    resources: dict[str, float], workers: int | None, device: str
) -> tuple[Share, str, int]:
    """Divide the cluster among the workers: the share of each, their device, and their number.

    Raises:
        DeviceError: for a device that Ray cannot give out.
    """
    gpus, cpus = resources.get("GPU", 0.0), resources.get("CPU", 1.0)
    if device not in ("auto", "cpu", "cuda"):
        raise DeviceError(
            f"workers choose among the cluster's devices: --device takes auto, cpu or cuda with "
            f"--workers, not '{device}'"
        )
    if device == "cuda" and not gpus:
        raise DeviceError("the cluster has no GPU; leave out --device, or take --device cpu")
    with_gpus = gpus > 0 and device != "cpu"
    count = workers or (int(gpus) if with_gpus else 1)
    # of several workers on one GPU each gets a whole fraction of it
    share = 1.0 if count <= gpus else 1 / -(-count // int(gpus)) if with_gpus else 0.0
    return (
        Share(gpus=share if with_gpus else 0.0, cpus=max(cpus / count, 0.01)),
        "cuda" if with_gpus else "cpu",
        count,
    )


def first_line(error: BaseException) -> str:
    """The first line of a message that may go on for pages."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
