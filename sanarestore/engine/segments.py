"""The finished parts of a clip in a hidden folder, with the state of the temporal filter after the last one.

A part is recorded only when it is complete on the disk. However a run ends, the next one continues from there, and its
result has the same bytes.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sanarestore.engine.temporal import State
from sanarestore.files import write_atomically

_RECORD = "progress.json"


class Segments:
    """The finished parts of one clip, in order."""

    def __init__(self, folder: Path, settings: str) -> None:
        """Read the parts that an earlier run with the same settings has finished; parts of other settings are
        removed."""
        self.folder = folder
        self._settings = settings
        self.done: list[dict[str, Any]] = []
        """The record of every finished part; `frames` is its number of frames."""
        self.notes: tuple[str, ...] = ()
        found = _read(folder / _RECORD)
        if found.get("settings") == settings:
            self.done = list(found["parts"])
            self.is_finished = bool(found["finished"])
        else:
            self.is_finished = False
            if found.get("parts"):
                self.notes = ("options or input have changed since it was begun, so it starts again",)
        kept = {_RECORD, *(name for name in (self._state.name, *map(_name, range(len(self.done)))) if self.done)}
        for path in folder.iterdir():
            if path.name not in kept and not path.name.startswith(".sanarestore."):  # the lock
                _remove(path)
        if self.done and not self.is_finished and not self._state.is_file():
            self.done = []  # it was removed; without the filter's state, the next part would differ

    @property
    def frames(self) -> int:
        """Number of finished frames."""
        return sum(int(part["frames"]) for part in self.done)

    def path(self, index: int) -> Path:
        """Path of a part, a file or a folder."""
        return self.folder / _name(index)

    def begun(self) -> Path:
        """Path under which the next part is written until it is complete."""
        path = self.folder / f"{_name(len(self.done))}.unfinished"
        _remove(path)
        return path

    def keep(self, part: Path, record: Mapping[str, Any], state: State | None) -> None:
        """Record a complete part, with the filter's state after its last frame."""
        before = self._state
        target = self.path(len(self.done))
        _remove(target)
        part.replace(target)
        self.done.append(dict(record))
        with write_atomically(self._state) as file:
            if state is None:
                np.savez(file)
            else:
                np.savez(file, result=state.result_CHW.numpy(), frames=state.frames_HW.numpy())
        self._write()
        before.unlink(missing_ok=True)

    def state(self) -> State | None:
        """The filter's state after the last finished part; None at the beginning, and without a filter."""
        if not self.done:
            return None
        with np.load(self._state) as found:
            if "result" not in found:
                return None
            return State(torch.from_numpy(found["result"]), torch.from_numpy(found["frames"]))

    def finish(self) -> None:
        """Record that the clip is finished; the parts are no longer needed."""
        self.is_finished = True
        self._write()
        self._state.unlink(missing_ok=True)
        for index in range(len(self.done)):
            _remove(self.path(index))

    def remove(self) -> None:
        """Remove the parts and their records. The lock stays: its holder removes it."""
        for path in self.folder.iterdir():
            if not path.name.startswith(".sanarestore."):
                _remove(path)

    @property
    def _state(self) -> Path:
        return self.folder / f"state-{len(self.done):05}.npz"

    def _write(self) -> None:
        record = {"settings": self._settings, "finished": self.is_finished, "parts": self.done}
        with write_atomically(self.folder / _RECORD) as file:
            file.write(json.dumps(record).encode())


def _name(index: int) -> str:
    return f"part-{index:05}"


def _read(path: Path) -> dict[str, Any]:
    """Return the record; empty if there is none, or if another program wrote it."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and {"settings", "finished", "parts"} <= found.keys() else {}


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
