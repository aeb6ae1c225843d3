"""Jobs distributed over devices: in this process for one device, in one process per device for more.

Every worker restores whole files with the same code and a fixed number of threads, and scheduling never composes
batches: the bytes written do not depend on the number of workers or on which worker takes which file.
"""

import multiprocessing
import signal
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from multiprocessing.connection import Connection, wait

from sanarestore.engine.jobs import Job, Outcome, TileDone
from sanarestore.errors import SanarestoreError, UsageError
from sanarestore.options import RestoreOptions

Event = TileDone | Outcome


def parse_devices(text: str) -> tuple[str, ...]:
    """Parse `cuda:0,cuda:1`, `cpu`, `auto` or `all` (every CUDA GPU, or `auto` if there is none) into device names.

    UsageError if a name is empty; devices are checked later, when they are used.
    """
    if text == "all":
        import torch

        return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count())) or ("auto",)
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise UsageError(f"'{text}' names no device", where="--devices", next_step="Use cpu, cuda:0,cuda:1 or all.")
    return names


def restore(jobs: Sequence[Job], options: RestoreOptions, devices: Sequence[str]) -> Generator[Event, None, None]:
    """Restore all jobs on all devices, yielding events as they come; jobs stay in order on one device only.

    Closing the generator early ends the work and discards files being written. UsageError or WeightsError if a worker
    cannot begin.
    """
    if len(devices) == 1 or len(jobs) <= 1:
        from sanarestore.engine.restorer import Restorer

        with closing(Restorer(options, device=devices[0]).restore(jobs)) as events:
            yield from events
        return
    crew = [_Worker(device, options) for device in devices[: len(jobs)]]
    try:
        yield from _dispatch(deque(jobs), crew, options)
    finally:
        for worker in crew:
            worker.stop()
        for worker in crew:
            worker.dismiss()


class _Worker:
    """A worker process on a device, the pipe to it, and its current job."""

    def __init__(self, device: str, options: RestoreOptions) -> None:
        context = multiprocessing.get_context("spawn")
        self.device = device
        self.job: Job | None = None
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(device, options, theirs), daemon=True)
        self._process.start()
        # Only the process keeps the other end, so the pipe closes however the process dies.
        theirs.close()

    def give(self, job: Job) -> None:
        """Send the next job, one at a time, so that a job lost with its worker is known by name."""
        self.job = job
        with suppress(OSError):  # if the process has died, hear() raises EOFError
            self.pipe.send(job)

    def hear(self) -> Event | SanarestoreError | None:
        """Receive the next event; None when the process is ready to begin. EOFError if it has died."""
        try:
            event: Event | SanarestoreError | None = self.pipe.recv()
        except OSError as error:
            raise EOFError from error
        return event

    def stop(self) -> None:
        """Ask the process to end; SIGTERM lets it remove half-written files."""
        self._process.terminate()

    def dismiss(self) -> None:
        """End the process and wait until it has ended."""
        self.stop()
        self._process.join(timeout=10)
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _dispatch(waiting: deque[Job], crew: list[_Worker], options: RestoreOptions) -> Generator[Event, None, None]:
    """Send jobs to free workers until all have an outcome; `crew` changes as workers die and are replaced."""
    while crew and (waiting or any(worker.job for worker in crew)):
        heard = wait([worker.pipe for worker in crew])
        for worker in [worker for worker in crew if worker.pipe in heard]:
            try:
                event = worker.hear()
            except EOFError:
                crew.remove(worker)
                worker.dismiss()
                # A worker that died before it had a job is not replaced: the next would die too.
                if worker.job is not None:
                    yield _lost(worker.job)
                    if waiting:
                        crew.append(_Worker(worker.device, options))
                continue
            if isinstance(event, SanarestoreError):
                raise event
            if event is not None:
                yield event
            if not isinstance(event, TileDone):
                worker.job = None
                if waiting:
                    worker.give(waiting.popleft())
    yield from map(_lost, waiting)


def _lost(job: Job) -> Outcome:
    return Outcome(
        path=job.source,
        status="failed",
        error=f"{job.source}: the worker process ended unexpectedly, perhaps for want of memory. "
        "Try a smaller --tile or fewer devices.",
    )


def _work(device: str, options: RestoreOptions, pipe: Connection) -> None:
    """Run one worker: send None when ready, then answer every job with its events."""
    # Ctrl-C reaches every process of the terminal, but only the main process acts on it. It sends SIGTERM, which raises
    # SystemExit here, so that a half-written temporary file is removed.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: _leave())
    from sanarestore.engine.restorer import Restorer

    with suppress(EOFError, BrokenPipeError):  # the main process is gone
        try:
            restorer = Restorer(options, device=device)
            pipe.send(None)
            while True:
                for event in restorer.restore([pipe.recv()]):
                    pipe.send(event)
        except SanarestoreError as error:
            pipe.send(error)


def _leave() -> None:
    # A second SIGTERM while the process is ending would end it with a traceback.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(143)
