"""Messages between a batch and its worker processes: pickled objects with their length in front, on two pipes."""

import pickle
import struct
import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from sanarestore.errors import SanarestoreError

_LENGTH = struct.Struct("<Q")


class Task(Protocol):
    """The work on a job, in three steps, so that reading and writing overlap with the work in between.

    Errors of any step become a result by `fail`; UsageError, WeightsError and DiskFull end the whole batch.
    """

    def read(self, job: Any) -> Any:
        """Read what the job needs; runs in a thread of its own, one job ahead."""

    def work(self, job: Any, read: Any) -> Generator[Any, None, Any]:
        """Do the work in the main thread, yielding progress for the batch; return what is to be written."""

    def write(self, job: Any, worked: Any, seconds: float) -> Any:
        """Write the work, in a thread of its own, and return the job's result; `seconds` were spent before."""

    def fail(self, job: Any, error: Exception, seconds: float) -> Any:
        """The job's result after an error."""

    def abandon(self, job: Any) -> None:
        """Remove what is half-written; the worker ends."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker has built its task."""


@dataclass(frozen=True, slots=True)
class Alive:
    """Sent every second; `reading` is the number of the job that is being read, and the CPU seconds spent on it."""

    reading: tuple[int, float] | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """Work on a job has begun; it was read."""

    number: int


@dataclass(frozen=True, slots=True)
class Progress:
    """A value that the task yielded."""

    number: int
    event: Any


@dataclass(frozen=True, slots=True)
class Worked:
    """Only writing is left."""

    number: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The result of a job."""

    number: int
    result: Any


@dataclass(frozen=True, slots=True)
class Refused:
    """An error that concerns all jobs."""

    error: SanarestoreError


def receive(stream: BinaryIO) -> Any:
    """Read one object. EOFError if the other end is closed."""
    return rebuild(receive_packed(stream))


def receive_packed(stream: BinaryIO) -> bytes:
    """Read one object and leave it packed, to pass it on. EOFError if the other end is closed."""
    (length,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    return _exactly(stream, length)


def rebuild(packed: bytes) -> Any:
    """Rebuild an object that was sent. Any error if this process lacks what it needs."""
    return pickle.loads(packed)


def _exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data


class Sender:
    """Writes objects to a pipe, from any thread."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def __call__(self, message: Any) -> None:
        """Write one object at once. OSError or ValueError if the other end, or this one, is closed."""
        self.send_packed(pickle.dumps(message))

    def send_packed(self, data: bytes) -> None:
        """Write one object that is packed already; errors as above."""
        with self._lock:
            self._stream.write(_LENGTH.pack(len(data)) + data)
            self._stream.flush()
