"""Lock of an output folder: one run at a time, or several that have a part each. Imports no torch.

The lock belongs to an open file, and worker processes inherit it: it is free only once the run and all its workers have
ended, however they end. The file also names the run that holds it.
"""

import json
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from sanarestore.errors import UsageError
from sanarestore.options import Shard

NAME = ".sanarestore.lock"

_PATIENCE = 5.0
"""Seconds to wait for the workers of a run that was killed; they end within two."""

_ADVICE = "Wait for its end, name another output with -o, or share the work by --shard."


class Lock:
    """An exclusive lock on a folder, or a lock shared with the other parts and exclusive for its own.

    Context manager; the folder is created. UsageError if another run holds it. OSError if no file can be made there.
    """

    def __init__(self, folder: Path, shard: Shard | None = None, *, next_step: str = _ADVICE) -> None:
        """`next_step` is what the error advises."""
        self._next_step = next_step
        folder.mkdir(parents=True, exist_ok=True)
        self._held: list[tuple[Path, int]] = []
        try:
            self._hold(folder / NAME, shared=shard is not None)
            if shard is not None:
                self._hold(folder / _name_of(f"{shard.index}-of-{shard.count}"), shared=False)
            elif os.name != "nt":
                for left in folder.glob(_name_of("*-of-*")):  # of parts that were killed; none is alive
                    left.unlink(missing_ok=True)
        except BaseException:
            self.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def handles(self) -> tuple[int, ...]:
        """File descriptors that worker processes inherit."""
        return tuple(handle for _, handle in self._held)

    def release(self) -> None:
        """Remove the lock's files; another run may begin."""
        for path, handle in self._held:
            if os.name == "nt":  # an open file cannot be removed there
                os.close(handle)
            # Others share it until the last of them ends, and remove it then.
            with suppress(OSError):
                if os.name == "nt" or _is_lockable(handle, shared=False):
                    path.unlink()
            if os.name != "nt":
                os.close(handle)
        self._held.clear()

    def _hold(self, path: Path, *, shared: bool) -> None:
        deadline = time.monotonic() + _PATIENCE
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            if _is_lockable(handle, shared=shared):
                if _is_same(path, handle):
                    break
                os.close(handle)  # the run before has just removed the file
                continue
            owner = _owner(handle)
            os.close(handle)
            if _is_alive(owner) or time.monotonic() > deadline:
                raise _in_use(path.parent, owner, self._next_step)
            time.sleep(0.1)
        self._held.append((path, handle))
        if not shared:
            text = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()
            os.ftruncate(handle, 0)
            os.lseek(handle, 0, os.SEEK_SET)
            os.write(handle, text)


def _name_of(part: str) -> str:
    """Name of a part's own lock."""
    return NAME.replace(".lock", f".{part}.lock")


def _in_use(folder: Path, owner: dict[str, Any], next_step: str) -> UsageError:
    by = f" (process {owner['pid']} on {owner['host']})" if {"pid", "host"} <= owner.keys() else ""
    return UsageError(f"another run is writing there{by}", where=folder, next_step=next_step)


if sys.platform == "win32":
    import msvcrt

    _PLACE = 1 << 30

    def _is_lockable(handle: int, *, shared: bool) -> bool:
        """Lock a byte far behind the text, so that others can read who holds it; parts do not lock each other out."""
        if shared:
            return True
        os.lseek(handle, _PLACE, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _is_lockable(handle: int, *, shared: bool) -> bool:
        """Lock the open file if nobody else has; on a disk without locks, what the file says decides."""
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return not _is_alive(_owner(handle))
        return True


def _is_same(path: Path, handle: int) -> bool:
    """Return whether the open file still has its name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _owner(handle: int) -> dict[str, Any]:
    os.lseek(handle, 0, os.SEEK_SET)
    with suppress(ValueError, OSError, RecursionError):
        owner = json.loads(os.read(handle, 4096))
        if isinstance(owner, dict):
            return owner
    return {}


def _is_alive(owner: dict[str, Any]) -> bool:
    """Return whether the run that holds a lock still exists; True for runs on other machines."""
    pid = owner.get("pid")
    if owner.get("host") != socket.gethostname() or not isinstance(pid, int) or os.name == "nt":
        return bool(owner)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
