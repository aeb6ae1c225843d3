"""Tests of the choice of device and number format by name."""

import pytest
import torch

from sanarestore.engine.devices import describe, device_names, exactly_float32, pick_device, pick_dtype
from sanarestore.errors import UsageError


def test_unavailable_devices_are_refused() -> None:
    assert pick_device("cpu").type == "cpu"
    assert pick_device("cpu:1").type == "cpu"
    assert pick_device("auto").type in {"cpu", "cuda", "mps", "xpu"}
    for name in ("gpu", "", "meta", "cuda:99", "xpu:99"):
        with pytest.raises(UsageError, match="--devices"):
            pick_device(name)


@pytest.mark.parametrize(
    ("there", "auto", "names"),
    [
        ({}, "cpu", ["cpu"]),
        ({"xpu": 2}, "xpu", ["xpu:0", "xpu:1", "cpu"]),
        ({"mps": 1}, "mps", ["mps", "cpu"]),
        ({"cuda": 2, "xpu": 1}, "cuda", ["cuda:0", "cuda:1", "xpu:0", "cpu"]),
    ],
)
def test_machines_with_other_devices(
    there: dict[str, int], auto: str, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("cuda", "xpu"):
        monkeypatch.setattr(getattr(torch, kind), "is_available", lambda kind=kind: bool(there.get(kind)))
        monkeypatch.setattr(getattr(torch, kind), "device_count", lambda kind=kind: there.get(kind, 0))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: bool(there.get("mps")))
    assert pick_device("auto").type == auto
    assert device_names() == names
    for name in names:
        assert pick_device(name) == torch.device(name)
    for kind in ("cuda", "xpu"):
        with pytest.raises(UsageError, match="not on this machine"):
            pick_device(f"{kind}:{there.get(kind, 0)}")


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
    for kind in ("mps", "xpu"):
        assert pick_dtype("auto", torch.device(kind)) == torch.float32
    assert (pick_dtype("float32", cuda), pick_dtype("bfloat16", cpu)) == (torch.float32, torch.bfloat16)


def test_a_cpu_is_described_by_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert describe(torch.device("cpu")) == "CPU, 3 threads"
    assert describe(torch.device("mps")) == "mps"
