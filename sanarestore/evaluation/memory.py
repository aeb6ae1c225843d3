"""Peak memory of a piece of work, beyond what was held before it."""

import re
from pathlib import Path

import torch

from sanarestore.engine.tiles import release

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Watches memory from its creation on: on CUDA the device's as torch counts it, elsewhere the process's, on Linux.

    Memory that the allocator keeps from earlier work and cannot be made to release counts as held before: the first
    work of its size then shows more than later work.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device if device.type == "cuda" else None
        if self._device:
            torch.cuda.init()  # type: ignore[no-untyped-call] # this may be the first use of the device
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before: int | None = torch.cuda.memory_allocated(self._device)
        else:
            # Otherwise later work would reuse what the allocator kept, and seem to take nothing.
            release(device)
            self._before = _resident() if _forget_peak() else None

    def taken(self) -> int | None:
        """Return the peak in bytes beyond what was held at the start; None where the system does not report it."""
        if self._before is None:
            return None
        peak = torch.cuda.max_memory_allocated(self._device) if self._device else _status("VmHWM")
        return max(peak - self._before, 0)


def _resident() -> int:
    return _status("VmRSS")


def _forget_peak() -> bool:
    """Reset the kernel's count of the peak; False where this is not Linux, or not permitted."""
    try:
        _RESET.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", _STATUS.read_text(encoding="ascii"), re.MULTILINE)
    assert found is not None, "a Linux kernel says both"
    return int(found[1]) * 1024
