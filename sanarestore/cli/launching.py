"""Start `train` again in one process per device, as torchrun does."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import typer

from sanarestore.errors import SanarestoreError
from sanarestore.training.claim import LAUNCHER


def is_needed(device: str) -> bool:
    """Return whether several devices are named, and no launcher has started a process for each yet."""
    return len(_devices(device)) > 1 and "WORLD_SIZE" not in os.environ


def own_device(device: str) -> str:
    """The device of this process: of several, the one at its place on this machine."""
    place = os.environ.get("LOCAL_RANK", "")
    devices = _devices(device)
    if not place.isdigit():
        return devices[0]
    if len(devices) > 1:
        return devices[int(place) % len(devices)]
    if device in ("auto", "cuda"):
        import torch

        if count := torch.cuda.device_count():
            return f"cuda:{int(place) % count}"
    return devices[0]


def launch(context: typer.Context, folder: Path, device: str) -> None:
    """Run the command once per device, and wait for all processes; SanarestoreError if one fails.

    KeyboardInterrupt and exit codes are passed on.
    """
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(len(_devices(device))),
        "-m", "sanarestore", "train", *_arguments(context), "--output", str(folder),
    ]  # fmt: skip
    # Each process uses its share of the cores; torchrun would give each a single one.
    threads = max(1, (os.cpu_count() or 1) // len(_devices(device)))
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ, LAUNCHER: str(os.getpid())}
    # In a session of their own, processes get each signal once; the terminal's would reach them twice, `kill` never.
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()  # the processes finish a step together, and save a checkpoint
        raise
    if code:
        raise SanarestoreError(
            f"a process of the training ended with code {code}", where="--devices",
            next_step="See the message above; --resume continues from the last checkpoint.",
        )  # fmt: skip


def _devices(device: str) -> list[str]:
    if device != "all":
        return [name.strip() for name in device.split(",")]
    import torch

    return [f"cuda:{index}" for index in range(torch.cuda.device_count())] or ["auto"]


def _arguments(context: typer.Context) -> list[str]:
    """The command's arguments as they were given, without the output folder, which must be the same for all."""
    found: list[str] = []
    for parameter in context.command.params:
        value: Any = context.params.get(parameter.name or "")
        if parameter.name == "output" or value is None or value == parameter.get_default(context):
            continue
        if parameter.param_type_name == "argument":
            found.append(str(value))
        elif value is True:
            found.append(parameter.opts[0])
        else:
            found += [parameter.opts[0], str(value)]
    return found
