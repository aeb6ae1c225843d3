"""Room for workers on the machines of a Ray cluster."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

CPUS = 4
"""Default number of CPUs of a worker."""

REACH = 3.0
"""Seconds in which a machine must accept a connection to count as alive."""


@dataclass(frozen=True, slots=True)
class Share:
    """The share of a machine that a worker takes."""

    cpus: int
    gpus: int


@dataclass(slots=True)
class Slot:
    """Room for one worker on a machine."""

    node: str
    """Ray's name of the machine, a new one whenever Ray is started there."""
    address: tuple[str, int]
    """Address at which Ray listens there."""
    host: str
    share: Share
    state: Literal["free", "taken", "barred"] = "free"
    """Barred after a worker died while it started."""


def shares(resources: Mapping[str, float], threads: int | None, *, on_gpus: bool) -> list[Share]:
    """Divide a machine among workers: one per GPU, or one per `threads` CPUs, at least one where there is a CPU."""
    cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    if on_gpus:
        return [Share(min(threads or CPUS, cpus // gpus), 1)] * gpus if gpus else []
    share = min(threads or CPUS, cpus)
    return [Share(share, 0)] * (cpus // share) if cpus else []


def is_reachable(address: tuple[str, int]) -> bool:
    """Return whether Ray listens at an address. Ray itself notices a dead machine only after some 15 seconds."""
    try:
        socket.create_connection(address, timeout=REACH).close()
    except OSError:
        return False
    return True
