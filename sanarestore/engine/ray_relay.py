"""The Ray actor on a machine of a cluster: it starts a worker process there and relays its messages.

The worker is the same as on one machine. It is a process of its own, so that what it prints, and its death, stay apart
from Ray, and it ends with the actor, because its pipe closes. Imports neither Ray nor torch.
"""

import os
import queue
import socket
import subprocess
import tempfile
import threading
from contextlib import suppress
from typing import BinaryIO

import sanarestore
from sanarestore.engine import processes, workers
from sanarestore.engine.ray_messages import Heard, Setup
from sanarestore.engine.wire import Sender, receive_packed
from sanarestore.errors import UsageError


class Relay:
    """One worker process and its pipes. `say` and `hear` run in a thread each."""

    def start(self, setup: Setup) -> str:
        """Start the worker; return the machine's name. UsageError if another version is installed here."""
        host = socket.gethostname()
        if sanarestore.__version__ != setup.version:
            raise UsageError(
                f"sanarestore {sanarestore.__version__} is installed there, and {setup.version} here", where=host,
                next_step="Install the same version on all machines of the cluster.",
            )  # fmt: skip
        try:
            os.chdir(setup.folder)
        except OSError:
            # The batch's folder is not shared. Relative names must not be found by chance in another folder.
            os.chdir(os.sep)
        os.environ.update(setup.environment)
        self._printed: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        self._process, self._inward, outward = workers.start(self._printed, ())
        self._say = Sender(self._inward)
        self._heard: queue.Queue[bytes | None] = queue.Queue()
        threading.Thread(target=self._listen, args=(outward,), daemon=True).start()
        return host

    def say(self, data: bytes) -> None:
        """Send a packed order; if the worker has died, its end is heard instead."""
        with suppress(OSError, ValueError):
            self._say.send_packed(data)

    def hear(self) -> Heard:
        """Wait for messages; return all there are."""
        messages = [self._heard.get()]
        with suppress(queue.Empty):
            while True:
                messages.append(self._heard.get_nowait())
        whole = tuple(each for each in messages if each is not None)
        if None not in messages:
            return Heard(whole)
        self.end()
        return Heard(whole, has_ended=True, printed=processes.read_last_words(self._printed))

    def end(self) -> None:
        """End the worker; it has ended when this returns."""
        with suppress(OSError, ValueError):
            self._inward.close()
        try:
            self._process.wait(workers.GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _listen(self, outward: BinaryIO) -> None:
        with outward, suppress(EOFError, OSError, ValueError):
            while True:
                self._heard.put(receive_packed(outward))
        self._heard.put(None)
