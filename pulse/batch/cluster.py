"""A Ray cluster, on this machine or elsewhere: reaching it, and dividing its machines."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pulse.errors import DeviceError

KNOCK_S = 10.0  # for a cluster to answer


@dataclass(frozen=True)
class Machine:
    """What a machine of the cluster has for workers.

    Attributes:
        gpus: GPUs.
        cpus: processor cores.
    """

    gpus: float
    cpus: float


@dataclass(frozen=True)
class Share:
    """What one worker gets of a machine.

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


def machines_of(nodes: Iterable[Mapping[str, Any]]) -> list[Machine]:
    """The machines of a cluster that are there, from what `ray.nodes` tells of them."""
    there = [node["Resources"] for node in nodes if node["Alive"]]
    return [Machine(has.get("GPU", 0.0), has.get("CPU", 0.0)) for has in there]


def shares_of(
    machines: Sequence[Machine], workers: int | None, device: str
) -> tuple[Share, str, int]:
    """Divide the cluster among the workers: the share of each, their device, and their number.

    A worker is on one machine: shares are so large that all of them still find a place.

    Args:
        machines: of the cluster.
        workers: how many; None for one for each GPU, or one if there is none.
        device: auto, cpu or cuda.

    Raises:
        DeviceError: for a device that Ray cannot give out.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise DeviceError(
            f"workers choose among the cluster's devices: --device takes auto, cpu or cuda with "
            f"--workers, not '{device}'"
        )
    gpus = sum(machine.gpus for machine in machines)
    if device == "cuda" and not gpus:
        raise DeviceError("the cluster has no GPU; leave out --device, or take --device cpu")
    if not gpus or device == "cpu":
        count = workers or 1
        return Share(0.0, _most_cores(machines, 0.0, count) or 1.0), "cpu", count
    count = workers or int(gpus)
    # of several workers on one GPU each gets a whole fraction of it
    share = 1.0 if count <= gpus else 1 / -(-count // int(gpus))
    return Share(share, _most_cores(machines, share, count)), "cuda", count


def _most_cores(machines: Sequence[Machine], gpus: float, count: int) -> float:
    """The most cores that a worker can have so that `count` of them find places; 0 if none."""

    def places(cores: float) -> int:
        return sum(
            int(min(machine.cpus / cores, machine.gpus / gpus if gpus else math.inf) + 1e-9)
            for machine in machines
        )

    shares = {machine.cpus / k for machine in machines for k in range(1, count + 1)}
    down = sorted(shares, reverse=True)
    return next((cores for cores in down if cores and places(cores) >= count), 0.0)


def first_line(error: BaseException) -> str:
    """The first line of a message that may go on for pages."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def why_lost(error: BaseException) -> str:
    """The line of Ray's error that says why a worker is lost.

    Where it could not be made, PULSE not being installed there say, that is a traceback's last one;
    where its process or its machine ended, the one that tells of it; else the first.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and "creation task" in lines[0]:
        return lines[-1]
    reasons = (line for line in lines if line.startswith(("The actor is dead", "The actor died b")))
    return next(reasons, first_line(error))
