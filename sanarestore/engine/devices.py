"""Devices and dtypes chosen by the names that users give."""

import torch

from sanarestore.errors import UsageError

NUMBERED = ("cuda", "xpu")
"""Kinds of devices of which a machine may have several."""


def counts() -> dict[str, int]:
    """Number of devices of each kind on this machine, the kind that `auto` prefers first, the CPU last."""
    return {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
        "xpu": torch.xpu.device_count() if torch.xpu.is_available() else 0,
        "cpu": 1,
    }


def device_names() -> list[str]:
    """Names of all devices of this machine, the CPU last."""
    return [
        f"{kind}:{index}" if kind in NUMBERED else kind for kind, count in counts().items() for index in range(count)
    ]


def pick_device(name: str, flag: str = "--devices") -> torch.device:
    """Choose a device: auto is CUDA, then Apple's GPU, then Intel's, then the CPU.

    UsageError, naming the flag, if it is unavailable.
    """
    there = counts()
    if name == "auto":
        name = next(kind for kind, count in there.items() if count)
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(
            f"'{name}' is not a known device", where=flag, next_step="Use cpu, cuda, cuda:1, mps, xpu, or auto."
        ) from error
    # A CPU's number has no meaning.
    if device.type != "cpu" and (device.index or 0) >= there.get(device.type, 0):
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
    if device.type == "xpu":
        return torch.xpu.get_device_name(device)
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
