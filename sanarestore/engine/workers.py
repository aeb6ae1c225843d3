"""Jobs distributed over worker processes, one per device; a worker that dies or stops answering is replaced.

Every worker does whole jobs with the same code and a fixed number of threads, and scheduling never composes batches:
the results do not depend on the number of workers or on which worker takes which job. Imports no torch.
"""

import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Generic, Literal

from sanarestore.engine.orders import J, PendingJob, Worker
from sanarestore.engine.processes import environment, in_one_line, read_last_words, start_module
from sanarestore.engine.wire import (
    Alive,
    Begun,
    Finished,
    Progress,
    Ready,
    Refused,
    Sender,
    Task,
    Worked,
    receive,
)
from sanarestore.errors import OutOfMemory, UsageError

CHECK = 1.0
"""Seconds between checks of the workers."""

GRACE = 2.0
"""Seconds that workers have to end before they are killed."""

SILENCE = 60.0
"""Seconds without a sign of life after which a worker counts as dead; it sends one every second."""

READING = 60.0
"""CPU seconds that reading a job may take."""

STALL, SLOWER = 600.0, 10.0
"""Seconds without progress after which work is given up: `STALL`, or `SLOWER` times the longest step so far if more."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A job without a result."""

    reason: Literal["crashed", "stuck"]
    fact: str
    printed: str = ""
    """Last output of the worker."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Times after which a job is given up, in seconds."""

    reading: float = READING
    stall: float = STALL
    silence: float = SILENCE


def parse_devices(text: str) -> tuple[str, ...]:
    """Parse `cuda:0,cuda:1`, `cpu`, `auto` or `all` (every GPU, or `auto` if there is none) into device names.

    UsageError if a name is empty; devices are checked later, when they are used.
    """
    if text == "all":
        return _gpus() or ("auto",)
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise UsageError(f"'{text}' names no device", where="--devices", next_step="Use cpu, cuda:0,cuda:1 or all.")
    return names


def _gpus() -> tuple[str, ...]:
    """Ask a process of its own, so that this one holds neither torch nor a GPU."""
    code = "from sanarestore.engine.devices import device_names; print(*device_names())"
    printed = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, env=environment(), check=False
    )
    return tuple(name for name in printed.stdout.split() if name != "cpu")


class Crew(Generic[J]):
    """Worker processes on devices, for the jobs of one batch."""

    def __init__(
        self,
        build: Callable[[str], Callable[[], Task]],
        devices: Sequence[str],
        *,
        begin: Callable[[J], J] = lambda job: job,
        again: Callable[[J, int], J | None] = lambda _job, _deaths: None,
        limits: Limits = Limits(),
        inherited: Sequence[int] = (),
    ) -> None:
        """`build` gives, for a device, what builds the task in a worker; it must be picklable.

        `begin` is called when a job is handed out and returns the job to send. `again` is called with a job that a
        worker died with, alone, and the number of times that has happened; it returns the job for another attempt, or
        None. Workers inherit the file descriptors `inherited`, on POSIX.
        """
        self._build, self._devices = build, tuple(devices)
        self._begin, self._again = begin, again
        self._limits = limits
        self._inherited = tuple(inherited)
        self._heard: queue.Queue[tuple[Worker[J], Any]] = queue.Queue()
        self._crew: list[Worker[J]] = []
        self._waiting: deque[PendingJob[J]] = deque()
        self._numbers = 0
        self._checked = time.monotonic()

    def run(self, jobs: Sequence[J]) -> Generator[tuple[J, Any], None, None]:
        """Do all jobs; yield each with its progress as it comes, and at last with its result, or `Lost`.

        Jobs begin in their order. Closing the generator early ends the workers. UsageError, WeightsError or DiskFull
        if a worker says that no job can be done; OutOfMemory if no worker survives its start.
        """
        self._waiting.extend(PendingJob(job) for job in jobs)
        try:
            self._open()
            while self._waiting or any(worker.orders for worker in self._crew):
                self._hand_out()
                yield from self._listen()
                yield from self._check_all()
        finally:
            self.dismiss()

    def dismiss(self) -> None:
        """End all workers; none is left when this returns."""
        for worker in self._crew:
            worker.stop()
        deadline = time.monotonic() + GRACE
        for worker in self._crew:
            worker.end(deadline)
        self._crew.clear()

    def _open(self) -> None:
        """Start the workers."""
        for device in self._devices[: len(self._waiting)]:
            self._hire(device)

    def _hire(self, device: str) -> None:
        worker = _Process[J](device, self._heard, self._inherited)
        worker.say(self._build(device))
        self._crew.append(worker)

    def _hand_out(self) -> None:
        for worker in self._crew:
            while self._waiting and worker.takes(self._waiting[0], len(self._waiting), len(self._crew)):
                order = self._waiting.popleft()
                order.job = self._begin(order.job)
                self._numbers += 1
                worker.give(self._numbers, order)

    def _listen(self) -> Generator[tuple[J, Any], None, None]:
        try:
            worker, message = self._heard.get(timeout=CHECK)
        except queue.Empty:
            return
        yield from self._take(worker, message)

    def _take(self, worker: "Worker[J]", message: Any) -> Generator[tuple[J, Any], None, None]:
        """Act on a message of a worker; None is its end."""
        if worker not in self._crew:
            return
        worker.heard = time.monotonic()
        match message:
            case None:
                yield from self._bury(worker, None, None)
            case Refused(error):
                raise error
            case Ready():
                worker.is_ready = True
            case Begun(number):
                worker.begin(number)
            case Progress(number, event):
                worker.move()
                yield worker.orders[number].job, event
            case Worked(number):
                worker.orders[number].is_worked = True
                worker.rest(number)
            case Finished(number, result):
                worker.rest(number)
                yield worker.orders.pop(number).job, result
            case Alive(reading):
                worker.reading = reading

    def _check_all(self) -> Generator[tuple[J, Any], None, None]:
        """Check all workers, once a second."""
        now = time.monotonic()
        passed = now - self._checked
        if passed < CHECK:
            return
        self._checked = now
        for worker in list(self._crew):
            if passed > CHECK + GRACE:
                # This process itself was stopped (Ctrl-Z, a long write): the silence is not the workers'.
                worker.heard = worker.moved = now
            else:
                yield from self._check(worker)

    def _check(self, worker: "Worker[J]") -> Generator[tuple[J, Any], None, None]:
        """Replace a worker that does not answer, or whose job does not get on."""
        now = time.monotonic()
        if worker.reading and worker.reading[0] in worker.orders and worker.reading[1] > self._limits.reading:
            fact = f"reading it took more than {self._limits.reading:.0f} s of CPU time"
            yield from self._bury(worker, worker.reading[0], Lost("stuck", fact))
        elif worker.at_work is not None and now - worker.moved > max(self._limits.stall, SLOWER * worker.longest):
            fact = f"there was no progress for {now - worker.moved:.0f} s"
            yield from self._bury(worker, worker.at_work, Lost("stuck", fact))
        elif worker.is_ready and now - worker.heard > self._limits.silence:
            yield from self._bury(worker, None, None)

    def _bury(self, worker: "Worker[J]", number: int | None, lost: Lost | None) -> Generator[tuple[J, Any], None, None]:
        """Replace a worker. The job `number` is lost for the reason given; without one, the job that it died with is.

        If there were several, each is tried again alone: the next death tells which it is.
        """
        self._crew.remove(worker)
        worker.stop()
        worker.end(time.monotonic())
        orders = dict(worker.orders)
        again: list[PendingJob[J]] = []
        if number is not None and lost is not None:
            yield orders.pop(number).job, lost
            again = list(orders.values())
        elif len(orders) == 1:
            (order,) = orders.values()
            order.deaths += 1
            another = self._again(order.job, order.deaths)
            if another is None:
                fact = "the worker process ended unexpectedly, perhaps for want of memory"
                yield order.job, Lost("crashed", fact, worker.last_words)
            else:
                again = [replace(order, job=another, is_alone=True)]
        else:
            again = [replace(order, is_alone=True) for order in orders.values()]
        self._wait_again(again)
        self._replace(worker)

    def _wait_again(self, orders: Sequence["PendingJob[J]"]) -> None:
        """Put orders back, before the others and in their order."""
        self._waiting.extendleft(reversed([replace(order, is_worked=False) for order in orders]))

    def _replace(self, worker: "Worker[J]") -> None:
        """Start another worker in the place of one that has ended."""
        if worker.is_ready and self._waiting:
            self._hire(worker.device)
        elif not self._crew and self._waiting:
            raise OutOfMemory(
                "the worker process ended while it started, perhaps for want of memory", where=worker.device,
                next_step=f"Close other programs. It printed: {in_one_line(worker.last_words)}",
            )  # fmt: skip


class _Process(Worker[J]):
    """A worker process on this machine, and the pipes to it."""

    def __init__(self, device: str, heard: "queue.Queue[tuple[Worker[J], Any]]", inherited: Sequence[int]) -> None:
        super().__init__(device)
        self._printed: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end()
        self._process, inward, outward = start(self._printed, inherited)
        self._inward = inward
        self._say = Sender(inward)
        threading.Thread(target=self._hear, args=(outward, heard), daemon=True).start()

    def say(self, order: Any) -> None:
        """Send an order."""
        with suppress(OSError, ValueError):
            self._say(order)

    def stop(self) -> None:
        """Close the pipe, which is the order to end."""
        with suppress(OSError, ValueError):
            self._inward.close()

    def end(self, deadline: float) -> None:
        """Wait for the process, or kill it."""
        try:
            self._process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.last_words = read_last_words(self._printed)
        self._printed.close()

    def _hear(self, outward: BinaryIO, heard: "queue.Queue[tuple[Worker[J], Any]]") -> None:
        with outward, suppress(EOFError, OSError, ValueError):
            while True:
                heard.put((self, receive(outward)))
        heard.put((self, None))


def start(printed: BinaryIO, inherited: Sequence[int]) -> tuple[subprocess.Popen[bytes], BinaryIO, BinaryIO]:
    """Start a process that runs `worker`; return it, the pipe of its orders and the pipe of its messages."""
    return start_module("sanarestore.engine.worker", printed, inherited)
