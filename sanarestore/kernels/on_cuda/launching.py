"""Launching of kernels."""

from contextlib import nullcontext
from typing import Any

import torch


def launch(kernel: Any, programs: int, device: torch.device, *given: Any, **fixed: Any) -> None:
    """Launch `programs` programs on the tensors' device, which need not be the current one; `fixed` are constants.

    All programs lie along one axis, because the other axes end at 65,535.
    """
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        kernel[(programs,)](*given, **fixed)
