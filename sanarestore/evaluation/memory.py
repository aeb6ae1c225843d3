"""How much memory a piece of work takes at most, beyond what was held before it."""

import re
from pathlib import Path

import torch

from sanarestore.engine.tiles import release

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Begins to watch when it is made; on CUDA the device's memory as torch counts it, else the process's, on Linux.

    Where an allocator cannot be told to give back what it kept of earlier work, that is held before: the first work of
    its size shows most.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device if device.type == "cuda" else None
        if self._device:
            torch.cuda.init()  # type: ignore[no-untyped-call] # the first to use the device may be this
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before: int | None = torch.cuda.memory_allocated(self._device)
        else:
            # What the allocator kept of earlier work, or the work after it would seem to take nothing.
            release(device)
            self._before = _resident() if _forget_peak() else None

    def taken(self) -> int | None:
        """Bytes at most since then; None where the system does not tell."""
        if self._before is None:
            return None
        peak = torch.cuda.max_memory_allocated(self._device) if self._device else _status("VmHWM")
        return max(peak - self._before, 0)


def _resident() -> int:
    return _status("VmRSS")


def _forget_peak() -> bool:
    """Let the kernel count the peak anew; False where it is not Linux, or not allowed."""
    try:
        _RESET.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", _STATUS.read_text(encoding="ascii"), re.MULTILINE)
    assert found is not None, "a Linux kernel says both"
    return int(found[1]) * 1024
