"""The folder of a training run: held by one run at a time, and without what dead runs have left there."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sanarestore.engine.lock import Lock
from sanarestore.errors import UsageError

LAUNCHER = "SANARESTORE_LAUNCHER"
"""Environment variable with the id of the process that started those of a training."""

_DECODED = ".decoded-"


def decoded_in(run: Path) -> Path:
    """The folder for decoded photos of this process's run."""
    return run / f"{_DECODED}{os.getpid()}"


@contextmanager
def claimed(run: Path, *, is_first: bool = True) -> Iterator[None]:
    """Hold a run's folder within the block, and remove decoded photos: those of dead runs before, our own after it.

    Of several processes of one run, the first one holds the folder. UsageError if another run is training there, or if
    nothing can be written there.
    """
    if not is_first:
        try:
            yield
        finally:
            shutil.rmtree(decoded_in(run), ignore_errors=True)
        return
    try:
        lock = Lock(run, next_step="Wait for its end, or name another folder with -o.")
    except OSError as error:
        raise UsageError(
            f"nothing can be written there ({error.strerror or error})", where=run,
            next_step="Check its permissions, or name another folder with -o.",
        ) from error  # fmt: skip
    with lock:
        _remove_decoded(run)
        try:
            yield
        finally:
            _remove_decoded(run)


def _remove_decoded(run: Path) -> None:
    for folder in run.glob(f"{_DECODED}*"):
        shutil.rmtree(folder, ignore_errors=True)
