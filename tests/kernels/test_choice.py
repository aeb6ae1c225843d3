"""Kernels are chosen by what is asked for and what is there; nothing is tried."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sanarestore.kernels import choice

MODULES = ("linear_attention", "feed_forward", "residual", "blend")


class OnCuda(Tensor):
    """A tensor that says it is on a GPU, where there is none."""

    device = torch.device("cuda", 0)  # type: ignore[assignment]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv(choice.VARIABLE, raising=False)
    monkeypatch.setattr(choice, "_installed", lambda: True)
    monkeypatch.setattr(choice, "_capability", lambda device: (9, 0))
    return monkeypatch


def on_cuda(dtype: torch.dtype = torch.bfloat16, *, size: int = 3) -> Tensor:
    return torch.zeros(size, dtype=dtype).as_subclass(OnCuda)  # type: ignore[no-untyped-call, no-any-return]


def test_what_fits(gpu: pytest.MonkeyPatch) -> None:
    assert choice.fits(on_cuda())
    assert choice.fits(on_cuda(torch.float32), None, on_cuda(torch.float32))
    assert not choice.fits(on_cuda(), on_cuda(torch.float32)), "one type"
    assert not choice.fits(on_cuda(torch.float16))
    assert not choice.fits(on_cuda(), torch.zeros(3, dtype=torch.bfloat16)), "one device"
    assert not choice.fits(on_cuda(size=0))
    assert not choice.fits(torch.zeros(3))


def test_gradients_are_the_references(gpu: pytest.MonkeyPatch) -> None:
    trained = on_cuda(torch.float32)
    trained.requires_grad_()
    assert not choice.fits(on_cuda(torch.float32), trained)
    with torch.no_grad():
        assert choice.fits(on_cuda(torch.float32), trained)
        gpu.setattr(torch, "is_autocast_enabled", lambda device_type: device_type == "cuda")
        assert not choice.fits(trained)


def test_what_turns_them_off(gpu: pytest.MonkeyPatch) -> None:
    with choice.references():
        assert not choice.fits(on_cuda())
    assert choice.fits(on_cuda())
    gpu.setenv(choice.VARIABLE, "0")
    assert not choice.fits(on_cuda())
    gpu.setenv(choice.VARIABLE, "1")
    assert choice.fits(on_cuda())


def test_old_devices_and_missing_triton(gpu: pytest.MonkeyPatch) -> None:
    gpu.setattr(choice, "_capability", lambda device: (7, 5))
    assert not choice.fits(on_cuda())
    gpu.setattr(choice, "_capability", lambda device: (12, 0))
    assert choice.fits(on_cuda())
    gpu.setattr(choice, "_installed", lambda: False)
    assert not choice.fits(on_cuda())


def test_without_a_compiler_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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


def test_importing_operations_needs_no_triton() -> None:
    code = (
        f"import sys; sys.modules['triton'] = None; from sanarestore.kernels import {', '.join(MODULES)}; print('fine')"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "fine"
