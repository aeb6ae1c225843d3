"""Which device runs what, by the name that a user gave."""

import torch

from sanarestore.errors import UsageError


def pick_device(name: str, flag: str = "--devices") -> torch.device:
    """auto is CUDA, then Apple's GPU, then the CPU; UsageError, naming the flag, for a device that is not here."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(
            f"'{name}' is no device", where=flag, next_step="Use cpu, cuda, cuda:1, mps, or auto."
        ) from error
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(device.type, False):
        raise UsageError(f"'{name}' is not on this machine", where=flag, next_step=f"Use {flag} cpu.")
    return device
