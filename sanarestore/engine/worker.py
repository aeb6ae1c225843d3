"""A worker process: `python -m sanarestore.engine.worker`, with orders on stdin and messages on stdout.

The first order builds the task (`wire.Task`), the others are jobs. Three threads share them: one reads a job ahead, the
main one works, one writes. The end of stdin is the order to end at once; it also comes when the batch is killed, so no
worker outlives its batch. The program's own main module is never imported, so scripts need no guard.
"""

import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO

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
    rebuild,
    receive_packed,
)
from sanarestore.errors import DiskFull, SanarestoreError, UsageError, WeightsError

BEAT = 1.0
"""Seconds between signs of life."""

_CONCERNS_ALL = (UsageError, WeightsError, DiskFull)

Leave = Callable[[], None]


def main() -> None:
    """Serve on this process's stdin and stdout."""
    # Ctrl-C reaches every process of the terminal, but only the batch acts on it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    inward, outward = take_pipes()
    serve(inward, outward, leave=lambda: os._exit(0))
    sys.stderr.flush()
    # Not the interpreter's own end: threads of libraries could hold it up.
    os._exit(0)


def take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Take stdin and stdout for messages; what libraries print goes to stderr, so that it cannot get between them."""
    inward, outward = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    sys.stdout = sys.stderr
    return inward, outward


def serve(inward: BinaryIO, outward: BinaryIO, *, leave: Leave) -> None:
    """Serve until the orders end; then `leave` is called, in a thread, with nothing half-written left behind."""
    _Server(inward, outward, leave).run()


class _Server:
    """The state of one worker."""

    def __init__(self, inward: BinaryIO, outward: BinaryIO, leave: Leave) -> None:
        self._inward, self._leave = inward, leave
        self._say = Sender(outward)
        self._orders: queue.Queue[Any] = queue.Queue()
        self._read: queue.Queue[Any] = queue.Queue(maxsize=1)
        self._worked: queue.Queue[Any] = queue.Queue(maxsize=1)
        self._task: Task | None = None
        self._jobs: dict[int, Any] = {}
        self._reading: tuple[int, float, int] | None = None
        self._ended = threading.Event()

    def run(self) -> None:
        """Build the task, then do the jobs."""
        self._start(self._listen)
        self._start(self._beat)
        build = self._orders.get()
        if build is None:
            return
        try:
            self._task = build()
        except SanarestoreError as error:
            self._tell(Refused(error))
            return
        self._tell(Ready())
        self._start(self._read_ahead)
        writing = self._start(self._write_behind)
        while not self._ended.is_set() and (order := self._read.get()) is not None:
            self._work(*order)
            del order
        self._worked.put(None)
        writing.join()

    def _start(self, loop: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        return thread

    def _listen(self) -> None:
        with suppress(EOFError, OSError, ValueError):  # the batch wants no more, or is gone
            is_first = True
            while (order := self._understood(receive_packed(self._inward))) is not None:
                if not is_first:
                    number, job = order
                    self._jobs[number] = job
                is_first = False
                self._orders.put(order)
        self._ended.set()
        if self._task is not None:
            for job in list(self._jobs.values()):
                self._task.abandon(job)
        self._leave()
        for waiting in (self._orders, self._read):
            with suppress(queue.Full):
                waiting.put(None, timeout=BEAT)

    def _understood(self, packed: bytes) -> Any:
        """Rebuild an order; None, with a message to the batch, if what it needs is missing here."""
        try:
            return rebuild(packed)
        except Exception as error:  # importing what an order names may raise anything
            fact = f"a worker process does not understand its orders ({type(error).__name__}: {error})"
            self._tell(Refused(SanarestoreError(fact)))
            return None

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            reading = self._reading
            spent = None if reading is None else (reading[0], _cpu_seconds(reading[2]) - reading[1])
            if not self._tell(Alive(spent)):
                return

    def _read_ahead(self) -> None:
        assert self._task is not None
        while (order := self._orders.get()) is not None:
            number, job = order
            begun = time.perf_counter()
            thread = threading.get_ident()
            self._reading = number, _cpu_seconds(thread), thread
            try:
                read = self._task.read(job)
            except Exception as error:  # codecs and drivers raise anything; the other jobs continue
                self._reading = None
                self._fail(number, job, error, time.perf_counter() - begun)
                continue
            self._reading = None
            self._read.put((number, job, [read], time.perf_counter() - begun))
            del read
        self._read.put(None)

    def _work(self, number: int, job: Any, read: list[Any], seconds: float) -> None:
        """Do a job; `read` is a list of one, so that its content can be freed before the result is written."""
        assert self._task is not None
        begun = time.perf_counter()
        self._tell(Begun(number))
        steps = self._task.work(job, read.pop())
        try:
            while not self._ended.is_set():
                self._tell(Progress(number, next(steps)))
        except StopIteration as done:
            seconds += time.perf_counter() - begun
            self._tell(Worked(number))
            self._worked.put((number, job, [done.value], seconds))
        except Exception as error:  # as above
            self._fail(number, job, error, seconds + time.perf_counter() - begun)
        finally:
            steps.close()

    def _write_behind(self) -> None:
        assert self._task is not None
        while (order := self._worked.get()) is not None:
            number, job, worked, seconds = order
            del order
            begun = time.perf_counter()
            try:
                result = self._task.write(job, worked.pop(), seconds)
            except Exception as error:  # as above
                self._fail(number, job, error, seconds + time.perf_counter() - begun)
            else:
                self._finish(number, result)

    def _fail(self, number: int, job: Any, error: Exception, seconds: float) -> None:
        assert self._task is not None
        if isinstance(error, _CONCERNS_ALL):
            self._tell(Refused(error))
        else:
            self._finish(number, self._task.fail(job, error, seconds))

    def _finish(self, number: int, result: Any) -> None:
        self._jobs.pop(number, None)
        self._tell(Finished(number, result))

    def _tell(self, message: Any) -> bool:
        """Send a message; False if the batch is gone, which `_listen` also sees."""
        try:
            self._say(message)
        except (OSError, ValueError):
            return False
        return True


def _cpu_seconds(thread: int) -> float:
    """CPU seconds that a thread has spent; where the system does not say, seconds on the clock."""
    if hasattr(time, "pthread_getcpuclockid"):
        with suppress(OSError):
            return time.clock_gettime(time.pthread_getcpuclockid(thread))
    return time.monotonic()


if __name__ == "__main__":
    main()
