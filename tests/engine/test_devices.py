"""Tests of the choice of device and number format by name."""

import pytest
import torch

from sanarestore.engine.devices import describe, exactly_float32, pick_device, pick_dtype
from sanarestore.errors import UsageError


def test_unavailable_devices_are_refused() -> None:
    assert pick_device("cpu").type == "cpu"
    assert pick_device("cpu:1").type == "cpu"
    assert pick_device("auto").type in {"cpu", "cuda", "mps"}
    for name in ("gpu", "", "meta", "cuda:99", "xpu"):
        with pytest.raises(UsageError, match="--devices"):
            pick_device(name)


def test_float32_is_not_rounded_to_tf32_on_cuda() -> None:
    backends = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = True
        exactly_float32(torch.device("cpu"))
        assert all(backend.allow_tf32 for backend in backends)
        exactly_float32(torch.device("cuda"))
        assert not any(backend.allow_tf32 for backend in backends)
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed


def test_the_automatic_dtype_is_bfloat16_only_on_cuda() -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert (pick_dtype("auto", cuda), pick_dtype("auto", cpu)) == (torch.bfloat16, torch.float32)
    assert (pick_dtype("float32", cuda), pick_dtype("bfloat16", cpu)) == (torch.float32, torch.bfloat16)


def test_a_cpu_is_described_by_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert describe(torch.device("cpu")) == "CPU, 3 threads"
    assert describe(torch.device("mps")) == "mps"
