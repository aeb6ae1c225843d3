"""Compilation of every kernel for several GPU architectures, and its shared memory, without a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ARCHITECTURES = (90, 80, 120)
"""Hopper, Ampere, and the smaller Blackwell."""

SHARED = 99 * 1024
"""Shared memory of a program in bytes on the smallest of these architectures."""


def test_kernels_compile_without_a_device(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    root = Path(__file__).parents[2]
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(root), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "tests.kernels.compiling", *map(str, ARCHITECTURES)]
    run = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    kernels = [json.loads(line) for line in run.stdout.splitlines()]
    assert {kernel["architecture"] for kernel in kernels} == {*ARCHITECTURES}
    for architecture in ARCHITECTURES:
        names = {kernel["kernel"] for kernel in kernels if kernel["architecture"] == architecture}
        assert names == {kernel["kernel"] for kernel in kernels}
    for kernel in kernels:
        assert kernel["target"], kernel
        assert kernel["cubin"] > 0, kernel
        assert kernel["shared"] <= SHARED, kernel
