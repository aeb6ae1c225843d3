"""Choice of kernels: from the inputs, the device and the installation, without trial runs."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sanarestore.kernels import choice

MODULES = ("linear_attention", "feed_forward", "residual", "blend")


class OnCuda(Tensor):
    """A CPU tensor that reports a GPU as its device."""

    device = torch.device("cuda", 0)  # type: ignore[assignment]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv(choice.VARIABLE, raising=False)
    monkeypatch.setattr(choice, "_installed", lambda: True)
    monkeypatch.setattr(choice, "_capability", lambda device: (9, 0))
    return monkeypatch


def on_cuda(dtype: torch.dtype = torch.bfloat16, *, size: int = 3) -> Tensor:
    return torch.zeros(size, dtype=dtype).as_subclass(OnCuda)  # type: ignore[no-untyped-call, no-any-return]


def test_kernels_fit_tensors_of_one_supported_type_on_one_gpu(gpu: pytest.MonkeyPatch) -> None:
    assert choice.fits(on_cuda())
    assert choice.fits(on_cuda(torch.float32), None, on_cuda(torch.float32))
    assert not choice.fits(on_cuda(), on_cuda(torch.float32)), "all tensors must have one type"
    assert not choice.fits(on_cuda(torch.float16))
    assert not choice.fits(on_cuda(), torch.zeros(3, dtype=torch.bfloat16)), "all tensors must be on one device"
    assert not choice.fits(on_cuda(size=0))
    assert not choice.fits(torch.zeros(3))


def test_gradients_and_autocast_use_the_references(gpu: pytest.MonkeyPatch) -> None:
    trained = on_cuda(torch.float32)
    trained.requires_grad_()
    assert not choice.fits(on_cuda(torch.float32), trained)
    with torch.no_grad():
        assert choice.fits(on_cuda(torch.float32), trained)
        gpu.setattr(torch, "is_autocast_enabled", lambda device_type: device_type == "cuda")
        assert not choice.fits(trained)


def test_kernels_can_be_turned_off(gpu: pytest.MonkeyPatch) -> None:
    with choice.references():
        assert not choice.fits(on_cuda())
    assert choice.fits(on_cuda())
    gpu.setenv(choice.VARIABLE, "0")
    assert not choice.fits(on_cuda())
    gpu.setenv(choice.VARIABLE, "1")
    assert choice.fits(on_cuda())


def test_kernels_need_a_recent_device_and_triton(gpu: pytest.MonkeyPatch) -> None:
    gpu.setattr(choice, "_capability", lambda device: (7, 5))
    assert not choice.fits(on_cuda())
    gpu.setattr(choice, "_capability", lambda device: (12, 0))
    assert choice.fits(on_cuda())
    gpu.setattr(choice, "_installed", lambda: False)
    assert not choice.fits(on_cuda())


def test_compilation_needs_a_compiler_and_python_headers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(choice.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(choice.shutil, "which", lambda name: "/usr/bin/clang" if name == "clang" else None)
    assert choice.compiles()
    monkeypatch.setattr(choice.shutil, "which", lambda name: None)
    assert not choice.compiles()
    monkeypatch.setenv("CC", "cc")
    assert choice.compiles()
    (tmp_path / "Python.h").unlink()
    assert not choice.compiles()


def test_importing_operations_does_not_need_triton() -> None:
    code = (
        f"import sys; sys.modules['triton'] = None; from sanarestore.kernels import {', '.join(MODULES)}; print('fine')"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "fine"
