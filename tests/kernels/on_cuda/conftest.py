"""Fixtures for kernel tests: compiled on a GPU, or in Triton's interpreter when run by `test_interpreted`."""

import os

import pytest
import torch

from tests.kernels.guards import Guarded


@pytest.fixture
def device() -> torch.device:
    pytest.importorskip("triton")
    if os.environ.get("TRITON_INTERPRET") == "1":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        pytest.skip("no GPU: test_interpreted runs this in Triton's interpreter")
    return torch.device("cuda")


@pytest.fixture
def guarded(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> Guarded:
    return Guarded(device, monkeypatch)
