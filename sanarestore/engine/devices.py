"""Devices and dtypes chosen by the names that users give."""

import torch

from sanarestore.errors import UsageError


def pick_device(name: str, flag: str = "--devices") -> torch.device:
    """Choose a device: auto is CUDA, then Apple's GPU, then the CPU. UsageError, naming the flag, if unavailable."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(
            f"'{name}' is not a known device", where=flag, next_step="Use cpu, cuda, cuda:1, mps, or auto."
        ) from error
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(device.type, False):
        raise UsageError(f"'{name}' is not on this machine", where=flag, next_step=f"Use {flag} cpu.")
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Choose a dtype: auto is bfloat16 on CUDA and float32 elsewhere."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def arithmetic(name: str, device: torch.device) -> str:
    """Name the arithmetic that a dtype means on a device: float32, bfloat16, or int8, whose ends are float32."""
    return name if name == "int8" else str(pick_dtype(name, device)).removeprefix("torch.")


def describe(device: torch.device) -> str:
    """Describe a device in words: a GPU's model, a CPU's threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        count = torch.get_num_threads()
        return f"CPU, {count} thread{'s' * (count > 1)}"
    return device.type


def exactly_float32(device: torch.device) -> None:
    """Turn off TF32 on CUDA: it rounds the factors of float32 products to 10 bits, and 16-bit codes would not survive a
    network's first and last layers."""
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
