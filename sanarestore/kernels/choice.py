"""Where the Triton kernels run: one predicate for all of them, that looks and never tries.

Everywhere else the reference runs: on a CPU, on Apple's and AMD's devices, where Triton is not installed or has no C
compiler, in training, under autocast, in other arithmetic. The environment variable SANARESTORE_TRITON=0 turns all
kernels off.
"""

import os
import shutil
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

VARIABLE = "SANARESTORE_TRITON"
"""0 turns the kernels off."""

DTYPES = (torch.bfloat16, torch.float32)

CAPABILITY = (8, 0)
"""Of the oldest devices that are served: bfloat16 in their matrix units."""

_references = ContextVar("references", default=False)


def fits(*tensors: Tensor | None) -> bool:
    """Whether kernels may take these: all on one CUDA device that has them, of one type, not empty, no gradient wanted.

    None stands for what was not given.
    """
    given = [tensor for tensor in tensors if tensor is not None]
    device, dtype = given[0].device, given[0].dtype
    return (
        available(device)
        and dtype in DTYPES
        and all(tensor.device == device and tensor.dtype == dtype and tensor.numel() > 0 for tensor in given)
        and not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given))
        and not torch.is_autocast_enabled(device.type)
    )


def available(device: torch.device) -> bool:
    """Whether this device runs kernels at all, here and now."""
    if device.type != "cuda" or _references.get() or os.environ.get(VARIABLE) == "0":
        return False
    return _installed() and _capability(device) >= CAPABILITY


@contextmanager
def references() -> Iterator[None]:
    """Inside, the references run whatever would fit: their operations can be counted one by one."""
    token = _references.set(True)
    try:
        yield
    finally:
        _references.reset(token)


@cache
def _installed() -> bool:
    # AMD's devices call themselves cuda too: nothing was ever tried there.
    return torch.cuda.is_available() and torch.version.hip is None and find_spec("triton") is not None and compiles()


def compiles() -> bool:
    """Whether there is what Triton builds its launchers with: a C compiler, and Python's headers. Slim images of
    containers have neither, and the first kernel would fail."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    return bool(compiler) and (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file()


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)
