"""A worker on another machine: its files must lie on storage that it shares with the batch. Imports no torch."""

import os
import socket
from collections.abc import Callable, Generator
from typing import Any

from sanarestore.engine import lock
from sanarestore.engine.jobs import Job
from sanarestore.engine.wire import Task
from sanarestore.errors import MissingImage, UnwritableImage

NEXT_STEP = "Inputs and outputs need storage that all machines share under the same paths; see docs/cluster.md."


class OnSharedStorage:
    """A task whose jobs come from another machine (`wire.Task`)."""

    def __init__(self, build: Callable[[], Task]) -> None:
        self._task = build()
        self._host = socket.gethostname()

    def read(self, job: Job) -> Any:
        """Read the job's input; MissingImage or UnwritableImage if its folders are not those of the batch."""
        if not os.path.lexists(job.source):
            raise MissingImage(f"the machine {self._host} does not see it", where=job.path, next_step=NEXT_STEP)
        # The batch holds the lock: without it, a folder of that name is another one, on this machine's own disk.
        if job.folder is not None and not (job.folder / lock.NAME).exists():
            raise UnwritableImage(
                f"the machine {self._host} does not see this output folder", where=job.folder, next_step=NEXT_STEP
            )
        return self._task.read(job)

    def work(self, job: Job, read: Any) -> Generator[Any, None, Any]:
        """Do the task's work."""
        return self._task.work(job, read)

    def write(self, job: Job, worked: Any, seconds: float) -> Any:
        """Write the result."""
        return self._task.write(job, worked, seconds)

    def fail(self, job: Job, error: Exception, seconds: float) -> Any:
        """The outcome after an error."""
        return self._task.fail(job, error, seconds)

    def abandon(self, job: Job) -> None:
        """Remove what is half-written."""
        self._task.abandon(job)


def not_shared(job: Job) -> UnwritableImage:
    """The error for a result that a worker has written, and that the batch does not see."""
    return UnwritableImage(
        "the worker wrote it to another disk than this machine sees", where=job.output, next_step=NEXT_STEP
    )
