"""Messages between a batch, the process that speaks to Ray for it (the hub), and the relays on the cluster's machines.

    batch <- pipes -> hub <- Ray -> relay, one per worker <- pipes -> worker

The messages of `wire` pass through packed: neither the hub nor a relay looks into them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sanarestore.errors import SanarestoreError


@dataclass(frozen=True, slots=True)
class Setup:
    """Settings that the hub and the relays need before work begins."""

    address: str
    """Address of the cluster, or `auto`."""
    version: str
    """Version of sanarestore, which must be the same everywhere."""
    most: int
    """Most workers that can be used."""
    threads: int | None
    """CPU threads of a worker, and so the CPUs that it takes; None for the default."""
    folder: str
    """Current folder of the batch, which relative paths begin at."""
    environment: Mapping[str, str]
    """Environment variables that workers must share with the batch."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The hub has joined the cluster, which has room for workers."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A worker has started; its first order is due."""

    number: int
    host: str
    device: str
    workers_there: int
    """Most workers that may run on its machine, this one included."""


@dataclass(frozen=True, slots=True)
class Said:
    """A packed message of a worker."""

    number: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Gone:
    """A worker has ended."""

    number: int
    machine_lost: bool
    """Whether its machine is gone, or cannot be reached; otherwise the worker died alone."""
    printed: str = ""
    """Last output of the worker."""


@dataclass(frozen=True, slots=True)
class NoneLeft:
    """No worker runs, and none can be started."""

    host: str = ""
    """A machine on which a worker died while it started; empty if there are no machines left."""
    printed: str = ""
    """Last output of that worker."""


@dataclass(frozen=True, slots=True)
class Failed:
    """An error that ends the batch."""

    error: SanarestoreError


FromHub = Connected | Joined | Said | Gone | NoneLeft | Failed


@dataclass(frozen=True, slots=True)
class Tell:
    """A packed order for a worker."""

    number: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Release:
    """A worker is to end, or has ended; `again` says whether another may take its place."""

    number: int
    again: bool


@dataclass(frozen=True, slots=True)
class Heard:
    """Messages of a worker that its relay passes on."""

    messages: tuple[bytes, ...]
    has_ended: bool = False
    printed: str = ""
    """Last output of the worker, if it has ended."""
