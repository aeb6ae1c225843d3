"""Write and read a run's checkpoint folder, so that a crash at any moment leaves one complete checkpoint.

`write` fills `checkpoint.new`, `state.json` last, and syncs it to disk; then it renames the previous checkpoint to
`checkpoint.old` and the new one to `checkpoint`, and deletes `checkpoint.old`.
"""

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from safetensors.torch import load_file, save_file
from torch import Tensor

from sanarestore.files import replace_folder
from sanarestore.model.tensors import write_json
from sanarestore.training.claim import LAUNCHER

CURRENT, FRESH, OLD = NAMES = ("checkpoint", "checkpoint.new", "checkpoint.old")

STATE = "state.json"

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def write(run: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
    """Replace a run's checkpoint: one safetensors file per group of tensors, and `state` as JSON."""
    fresh, current, old = (run / name for name in (FRESH, CURRENT, OLD))
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name, group in tensors.items():
        # Without a name, the copies of a group are freed before those of the next are made.
        save_file(_plain(group), fresh / f"{name}.safetensors")
    write_json(fresh / STATE, dict(state))
    replace_folder(fresh, current, old)


def _plain(group: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies as safetensors accepts them: contiguous, and none that share memory."""
    return {key: tensor.detach().cpu().contiguous().clone() for key, tensor in group.items()}


def find_checkpoint(run: Path) -> Path | None:
    """Find a run's complete checkpoint, the first of `NAMES` if a crash left several; None if there is none."""
    return next((run / name for name in NAMES if (run / name / STATE).is_file()), None)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Read the `state` that `write` was given."""
    state: dict[str, Any] = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    return state


def read_tensors(checkpoint: Path, name: str) -> dict[str, Tensor]:
    """Read one group of tensors, on the CPU."""
    tensors: dict[str, Tensor] = load_file(checkpoint / f"{name}.safetensors")
    return tensors


@dataclass
class StopRequest:
    """A request to stop a training of several processes."""

    asked: bool = False
    parent: int = field(default_factory=os.getppid)
    launcher: int = field(default_factory=lambda: int(os.environ.get(LAUNCHER, "0")))

    @property
    def is_due(self) -> bool:
        """Whether a signal has arrived, or the process that started this one has ended."""
        if self.asked or os.getppid() != self.parent:
            return True
        return self.launcher > 0 and not psutil.pid_exists(self.launcher)


@contextmanager
def stopping(together: bool) -> Iterator[StopRequest]:
    """Note signals within the block instead of acting on them, if processes must stop `together`, after the same step.

    Only the main thread receives signals; in other threads this does nothing.
    """
    request = StopRequest()
    if not together or threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(_number: int, _frame: Any) -> None:
        request.asked = True

    handlers = {name: signal.signal(name, note) for name in _SIGNALS}
    try:
        yield request
    finally:
        for name, handler in handlers.items():
            signal.signal(name, handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C to the end of the block, so that no checkpoint holds the weights of a half-finished step.

    So are SIGTERM and SIGHUP, if they are handled. Only the main thread receives signals; in other threads this does
    nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[tuple[int, Any]] = []
    handlers = {name: signal.getsignal(name) for name in _SIGNALS}
    handled = {name: handler for name, handler in handlers.items() if callable(handler)}
    try:
        for name in handled:
            signal.signal(name, lambda number, frame: asked.append((number, frame)))
        yield
    finally:
        for name, handler in handled.items():
            signal.signal(name, handler)
    for number, frame in asked[:1]:
        handled[signal.Signals(number)](number, frame)
