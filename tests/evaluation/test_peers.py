"""Peers denoise, are told nothing, and are said to be missing in words that help."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from sanarestore.errors import UsageError
from sanarestore.evaluation.metrics import psnr
from sanarestore.evaluation.peers import CLASSICAL, peer
from sanarestore.evaluation.tasks import Trial
from tests.conftest import photo


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", sorted(CLASSICAL))
def test_classical_methods_denoise(name: str, channels: int) -> None:
    for module in CLASSICAL[name][0]:
        pytest.importorskip(module)
    clean = photo(80, 96)[..., :channels]
    noisy = (clean + np.random.default_rng(0).normal(0, 25 / 255, clean.shape)).astype(np.float32)
    method = peer(name, "cpu")
    restored = method(Trial(degraded_HWC=noisy, target_HWC=clean), None, 0)
    assert restored.shape == clean.shape
    assert restored.dtype == np.float32
    assert psnr(restored, clean) > psnr(noisy, clean) + 3
    assert method.settings
    flat = np.full((32, 32, channels), 0.5, np.float32)
    assert np.allclose(method(Trial(degraded_HWC=flat, target_HWC=flat), None, 0), flat, atol=0.5 / 255)


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"'tv' needs skimage. pip install 'sanarestore\[bench\]'"):
        peer("tv", "cpu")
    (tmp_path / "net.pth").touch()
    with pytest.raises(UsageError, match="needs spandrel"):
        peer(str(tmp_path / "net.pth"), "cpu")
    with pytest.raises(UsageError, match=r"'bm3d' is no file and no method that is known\. Known: nlm, wavelet, tv"):
        peer("bm3d", "cpu")
