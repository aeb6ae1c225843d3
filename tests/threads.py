"""Workers as threads of the test's own process: the same messages and code, without seconds of importing torch."""

import os
import subprocess
import threading
from collections.abc import Sequence
from typing import BinaryIO

from sanarestore.engine import worker


class Thread:
    """Takes the place of a worker's `subprocess.Popen`."""

    def __init__(self, inward: BinaryIO, outward: BinaryIO) -> None:
        self._thread = threading.Thread(target=self._serve, args=(inward, outward), daemon=True)
        self._thread.start()

    def wait(self, timeout: float | None = None) -> int:
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise subprocess.TimeoutExpired("a worker's thread", timeout or 0)
        return 0

    def kill(self) -> None:
        """A thread cannot be killed: it ends after its current step."""

    @staticmethod
    def _serve(inward: BinaryIO, outward: BinaryIO) -> None:
        with inward, outward:
            worker.serve(inward, outward, leave=lambda: None)


def start(_printed: BinaryIO, _inherited: Sequence[int]) -> tuple[Thread, BinaryIO, BinaryIO]:
    """Take the place of `workers.start`."""
    return connect(Thread)


def connect(kind: type[Thread]) -> tuple[Thread, BinaryIO, BinaryIO]:
    """Start a thread; return it, the pipe to it and the pipe from it."""
    orders, inward = os.pipe()
    outward, messages = os.pipe()
    thread = kind(os.fdopen(orders, "rb"), os.fdopen(messages, "wb"))
    return thread, os.fdopen(inward, "wb"), os.fdopen(outward, "rb")
