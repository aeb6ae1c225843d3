"""Choice between the Triton kernels and the reference: one predicate for all kernels, which catches no errors.

The reference runs on a CPU, on Apple's and AMD's devices, where Triton is not installed or has no C compiler, in
training, under autocast, and for other dtypes. The environment variable SANARESTORE_TRITON=0 turns all kernels off.
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
"""Environment variable; 0 turns the kernels off."""

DTYPES = (torch.bfloat16, torch.float32)

CAPABILITY = (8, 0)
"""Lowest supported compute capability: the first with bfloat16 in its matrix units."""

_references = ContextVar("references", default=False)


def fits(*tensors: Tensor | None) -> bool:
    """Return whether kernels can take these: on one CUDA device that runs them, of one dtype, not empty, no gradient
    needed.

    None stands for a tensor that is not given.
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
    """Return whether kernels can run on this device, in the current context."""
    if device.type != "cuda" or _references.get() or os.environ.get(VARIABLE) == "0":
        return False
    return _installed() and _capability(device) >= CAPABILITY


@contextmanager
def references() -> Iterator[None]:
    """Run the references inside this context even where kernels fit, so that their operations can be counted."""
    token = _references.set(True)
    try:
        yield
    finally:
        _references.reset(token)


@cache
def _installed() -> bool:
    # AMD's devices are called cuda too, and the kernels are untested on them.
    return torch.cuda.is_available() and torch.version.hip is None and find_spec("triton") is not None and compiles()


def compiles() -> bool:
    """Return whether Triton can build its launchers, which takes a C compiler and Python's headers. Slim container
    images have neither, and the first kernel would fail."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    return bool(compiler) and (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file()


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)
