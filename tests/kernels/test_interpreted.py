"""Kernels in Triton's interpreter on a CPU, in a subprocess, because Triton chooses its mode at import."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_kernels_pass_their_tests_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    folder = Path(__file__).parent / "on_cuda"
    # The tests around this one keep the other cores busy.
    command = [sys.executable, "-m", "pytest", str(folder), "-p", "no:cacheprovider", "-rs", "--numprocesses", "0"]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(command, env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-10_000:] + run.stderr[-2_000:]
    assert "passed" in run.stdout
    assert "skipped" not in run.stdout
