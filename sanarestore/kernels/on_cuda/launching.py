"""How a kernel is started."""

from contextlib import nullcontext
from typing import Any

import torch


def launch(kernel: Any, programs: int, device: torch.device, *given: Any, **fixed: Any) -> None:
    """So many programs on the device of the tensors, which need not be the current one. `fixed` are constants.

    One long axis of programs: the others end at 65,535.
    """
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        kernel[(programs,)](*given, **fixed)
