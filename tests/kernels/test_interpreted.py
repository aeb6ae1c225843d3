"""The kernels in Triton's interpreter on a CPU, in a process of their own: Triton decides that when it is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_kernels_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    folder = Path(__file__).parent / "on_cuda"
    command = [sys.executable, "-m", "pytest", str(folder), "-p", "no:cacheprovider", "-rs"]
    told = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(command, env=told, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-10_000:] + run.stderr[-2_000:]
    assert "passed" in run.stdout
    assert "skipped" not in run.stdout
