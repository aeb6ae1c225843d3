"""A run's checkpoint: a folder that is replaced whole, so that at any moment one of three names holds a whole one.

Written as `checkpoint.new`, with `state.json` last; then the one before steps aside as `checkpoint.old`, and goes.
"""

import json
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from sanarestore.model.tensors import write_json

CURRENT, FRESH, OLD = NAMES = ("checkpoint", "checkpoint.new", "checkpoint.old")

STATE = "state.json"


def write(run: Path, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
    """Replace the checkpoint of a run: a file per group of tensors, and what else there is to know."""
    fresh, current, old = (run / name for name in (FRESH, CURRENT, OLD))
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name, group in tensors.items():
        # Safetensors writes contiguous tensors only; clones, because some may share memory.
        plain = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in group.items()}
        save_file(plain, fresh / f"{name}.safetensors")
    write_json(fresh / STATE, dict(state))
    shutil.rmtree(old, ignore_errors=True)
    if current.exists():
        current.replace(old)
    fresh.replace(current)
    shutil.rmtree(old, ignore_errors=True)


def find(run: Path) -> Path | None:
    """The run's checkpoint that is whole, the newest first where a crash left several."""
    return next((run / name for name in NAMES if (run / name / STATE).is_file()), None)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """What `write` was given besides the tensors."""
    state: dict[str, Any] = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    return state


def read_tensors(checkpoint: Path, name: str) -> dict[str, Tensor]:
    """One group of tensors, on the CPU."""
    tensors: dict[str, Tensor] = load_file(checkpoint / f"{name}.safetensors")
    return tensors


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Put Ctrl-C off until the end of the block: weights moved by half a step would be saved as if by none.

    Only the main thread is told of signals; elsewhere nothing needs to be done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[Any] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: asked.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if asked and callable(before):
        before(signal.SIGINT, asked[0])
