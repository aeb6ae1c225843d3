"""Workers on the machines of a Ray cluster, for jobs whose files lie on storage that all of them share.

This process loads neither Ray nor torch. A process of its own, the hub (`ray_hub`), joins the cluster: what Ray prints
stays there, and if Ray ends it, this process still says what happened. It inherits the locks, so that they are held
until the workers have ended.
"""

import os
import pickle
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any, BinaryIO, TypeVar

import sanarestore
from sanarestore.engine import processes
from sanarestore.engine.orders import Worker
from sanarestore.engine.ray_messages import (
    Connected,
    Failed,
    FromHub,
    Gone,
    Joined,
    NoneLeft,
    Release,
    Said,
    Setup,
    Tell,
)
from sanarestore.engine.shared_storage import OnSharedStorage
from sanarestore.engine.wire import Refused, Sender, Task, receive
from sanarestore.engine.workers import Crew, Limits, Lost
from sanarestore.errors import OutOfMemory, SanarestoreError, UsageError

J = TypeVar("J")

CONNECTING = 60.0
"""Seconds that the hub may take to join the cluster."""

ENDING = 10.0
"""Seconds that the hub may take to end the workers and itself."""

MOST_MACHINES = 5
"""Number of machines that may be lost with the same job before the job counts as the cause."""

EXPECTED = 16
"""Workers to expect of a cluster, before it is asked."""

_SHARED = ("SANARESTORE_", "HF_HUB_OFFLINE")
"""Beginnings of the names of environment variables that workers get from the batch."""


@dataclass(frozen=True, slots=True)
class RayCluster:
    """An existing Ray cluster."""

    address: str
    """HOST:PORT of its head, or `auto` for the cluster that this machine belongs to."""


def parse_cluster(address: str) -> RayCluster:
    """Check the address of a cluster as far as possible without it. UsageError if it is none, or Ray is missing."""
    host, colon, port = address.rpartition(":")
    if address != "auto" and not (host and "/" not in host and colon and port.isdigit() and 0 < int(port) < 65536):
        raise UsageError(
            f"'{address}' is not the address of a Ray cluster", where="--ray",
            next_step="Use auto, or HOST:PORT of the head, on a machine of the cluster.",
        )  # fmt: skip
    if find_spec("ray") is None:
        raise UsageError("Ray is not installed", where="--ray", next_step="Run: pip install 'sanarestore[ray]'")
    return RayCluster(address)


def crew_on(
    where: Sequence[str] | RayCluster,
    build: Callable[[str, int], Callable[[], Task]],
    *,
    threads: int | None,
    begin: Callable[[J], J],
    again: Callable[[J, int], J | None],
    inherited: Sequence[int],
) -> Crew[J]:
    """Workers on devices of this machine, or on a cluster; see `Crew`.

    `build` is called with a device and the number of workers on its machine, which share the memory.
    """
    if isinstance(where, RayCluster):

        def build_there(device: str, workers_there: int) -> Callable[[], Task]:
            return partial(OnSharedStorage, build(device, workers_there))

        return RayCrew(build_there, where, threads=threads, begin=begin, again=again, inherited=inherited)
    return Crew(lambda device: build(device, len(where)), where, begin=begin, again=again, inherited=inherited)


class RayCrew(Crew[J]):
    """Workers on a Ray cluster, one per GPU, or per some CPUs where there are no GPUs. Machines may come and go."""

    def __init__(
        self,
        build: Callable[[str, int], Callable[[], Task]],
        cluster: RayCluster,
        *,
        threads: int | None = None,
        begin: Callable[[J], J] = lambda job: job,
        again: Callable[[J, int], J | None] = lambda _job, _deaths: None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        inherited: Sequence[int] = (),
    ) -> None:
        """`build` also gets the number of workers on the machine. `threads` is the number of CPUs that a worker takes.

        The other arguments are those of `Crew`.
        """
        super().__init__(lambda device: build(device, 1), (), begin=begin, again=again, limits=limits,
                         inherited=inherited)  # fmt: skip
        self._build_there = build
        self._cluster, self._threads = cluster, threads
        self._hub: HubProcess | None = None

    def dismiss(self) -> None:
        """End all workers, and the process that speaks to Ray."""
        if self._hub is not None:
            self._hub.end()
            self._hub = None
        self._crew.clear()

    def _open(self) -> None:
        if not self._waiting:
            return
        chosen = {name: value for name, value in os.environ.items() if name.startswith(_SHARED)}
        self._hub = HubProcess(self._heard, self._inherited)
        self._hub.connect(
            Setup(
                address=self._cluster.address, version=sanarestore.__version__, most=len(self._waiting),
                threads=self._threads, folder=os.getcwd(), environment=chosen,  # noqa: PTH109 - a name, not a Path
            )
        )  # fmt: skip

    def _take(self, worker: Worker[J] | None, message: Any) -> Generator[tuple[J, Any], None, None]:
        match message:
            case Failed(error):
                raise error
            case NoneLeft() if not self._crew:
                raise _none_left(message, self._cluster)
            case Joined() if worker is not None:
                self._crew.append(worker)
                worker.say(self._build_there(worker.device, message.workers_there))
            case Gone(machine_lost=True) if worker in self._crew and worker is not None:
                yield from self._leave_machine(worker)
            case Gone(printed=printed) if worker is not None:
                worker.last_words = printed
                yield from super()._take(worker, None)
            case Refused(error) if isinstance(worker, RemoteWorker):
                raise type(error)(error.fact, where=f"{error.where or 'a worker'} on {worker.host}",
                                  next_step=error.next_step) from error  # fmt: skip
            case _ if worker is not None:
                yield from super()._take(worker, message)

    def _leave_machine(self, worker: Worker[J]) -> Generator[tuple[J, Any], None, None]:
        """Hand the jobs of a lost machine to others; it was lost and not the jobs' doing, unless it happens often."""
        self._crew.remove(worker)
        worker.stop()
        again = []
        for order in worker.orders.values():
            lost = replace(order, machines=order.machines + 1)
            if lost.machines < MOST_MACHINES:
                again.append(lost)
            else:
                yield order.job, Lost("crashed", f"{MOST_MACHINES} machines were lost while they worked on it")
        self._wait_again(again)

    def _replace(self, worker: Worker[J]) -> None:
        """The hub does it, where there is room; `stop` has told it."""


class RemoteWorker(Worker[J]):
    """A worker on a machine of the cluster, reached through the hub."""

    def __init__(self, joined: Joined, hub: "HubProcess") -> None:
        super().__init__(joined.device)
        self.host = joined.host
        self._number, self._hub = joined.number, hub

    def say(self, order: Any) -> None:
        """Send an order."""
        self._hub.say(Tell(self._number, pickle.dumps(order)))

    def stop(self) -> None:
        """Give the worker up; one that died while it started is not replaced."""
        self._hub.say(Release(self._number, again=self.is_ready))

    def end(self, deadline: float) -> None:
        """Nothing: the hub sees to it, and it may take long."""


class HubProcess:
    """The process that speaks to Ray, and the pipes to it."""

    def __init__(self, heard: "queue.Queue[tuple[Any, Any]]", inherited: Sequence[int]) -> None:
        self._heard = heard
        self._is_connected = False
        self._workers: dict[int, RemoteWorker[Any]] = {}
        self._printed: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end()
        self._process, self._inward, outward = start(self._printed, inherited)
        self._say = Sender(self._inward)
        threading.Thread(target=self._listen, args=(outward,), daemon=True).start()

    def connect(self, setup: Setup) -> None:
        """Join the cluster. UsageError if there is none, or it has no room for workers."""
        self.say(setup)
        try:
            _, message = self._heard.get(timeout=CONNECTING)
        except queue.Empty:
            raise no_cluster(setup.address, "it does not answer") from None
        if isinstance(message, Failed):
            raise message.error
        assert isinstance(message, Connected)
        self._is_connected = True

    def say(self, message: object) -> None:
        """Send a message; if the hub has ended, that is heard instead."""
        with suppress(OSError, ValueError):
            self._say(message)

    def end(self) -> None:
        """End all workers, and then the hub."""
        with suppress(OSError, ValueError):
            self._inward.close()
        try:
            self._process.wait(ENDING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._printed.close()

    def _listen(self, outward: BinaryIO) -> None:
        with outward, suppress(EOFError, OSError, ValueError):
            while True:
                self._pass_on(receive(outward))
        self._heard.put((None, Failed(self._lost())))

    def _pass_on(self, message: FromHub) -> None:
        match message:
            case Joined(number):
                self._workers[number] = RemoteWorker(message, self)
                self._heard.put((self._workers[number], message))
            case Said(number, data):
                self._heard.put((self._workers[number], pickle.loads(data)))
            case Gone(number):
                self._heard.put((self._workers.pop(number), message))
            case _:
                self._heard.put((None, message))

    def _lost(self) -> SanarestoreError:
        deadline = time.monotonic() + 1
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if self._is_connected:
            return SanarestoreError(
                "the connection to the Ray cluster was lost", where="--ray",
                next_step="Check the cluster and run the command again: what is finished is kept.",
            )  # fmt: skip
        words = processes.read_last_words(self._printed).rpartition("\n")[2]
        return SanarestoreError(
            f"Ray cannot be used ({words or 'it ended without a word'})", where="--ray",
            next_step="Install it again: pip install 'sanarestore[ray]'",
        )  # fmt: skip


def start(printed: BinaryIO, inherited: Sequence[int]) -> tuple[subprocess.Popen[bytes], BinaryIO, BinaryIO]:
    """Start the hub; return its process, the pipe to it and the pipe from it."""
    return processes.start_module("sanarestore.engine.ray_hub", printed, inherited)


def no_cluster(address: str, fact: str) -> UsageError:
    """The error for a cluster that cannot be joined."""
    return UsageError(
        f"no Ray cluster can be joined ({fact})", where=f"--ray {address}",
        next_step="Start it with 'ray start', and run this command on one of its machines.",
    )  # fmt: skip


def _none_left(message: NoneLeft, cluster: RayCluster) -> SanarestoreError:
    if message.host:
        return OutOfMemory(
            "the worker process ended while it started, perhaps for want of memory", where=message.host,
            next_step=f"Close other programs there. It printed: {processes.in_one_line(message.printed)}",
        )  # fmt: skip
    return SanarestoreError(
        "no machine of the Ray cluster is left that could work", where=f"--ray {cluster.address}",
        next_step="Start others, and run the command again: what is finished is kept.",
    )  # fmt: skip
