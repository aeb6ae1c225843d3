"""Tests of compared methods: they denoise unprompted, and missing packages are reported."""

import importlib.util
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from sanarestore.errors import UsageError
from sanarestore.evaluation.benchmark import Benchmark
from sanarestore.evaluation.datasets import Item
from sanarestore.evaluation.metrics import psnr
from sanarestore.evaluation.peers import CLASSICAL, STRENGTHS, peer
from sanarestore.evaluation.rows import rows
from sanarestore.evaluation.running import run
from sanarestore.evaluation.tasks import Example, Levels, cases
from tests.conftest import photo, save_photo


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["wavelet", "tv"])
def test_classical_methods_reduce_noise(name: str, channels: int) -> None:
    for module in CLASSICAL[name]:
        pytest.importorskip(module)
    clean = photo(80, 96)[..., :channels]
    noisy = (clean + np.random.default_rng(0).normal(0, 25 / 255, clean.shape)).astype(np.float32)
    (method,) = peer(name, "cpu")
    restored = method(Example(degraded_HWC=noisy, target_HWC=clean), None, 0)
    assert restored.shape == clean.shape
    assert restored.dtype == np.float32
    assert psnr(restored, clean) > psnr(noisy, clean) + 3
    assert method.settings
    flat = np.full((32, 32, channels), 0.5, np.float32)
    assert np.allclose(method(Example(degraded_HWC=flat, target_HWC=flat), None, 0), flat, atol=0.5 / 255)


@pytest.mark.parametrize("channels", [1, 3])
def test_non_local_means_equals_opencv_at_each_strength(channels: int) -> None:
    cv2 = pytest.importorskip("cv2")
    clean = photo(64, 80)[..., :channels]
    noisy = (clean + np.random.default_rng(0).normal(0, 8 / 255, clean.shape)).astype(np.float32)
    codes = np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8)
    methods = peer("nlm", "cpu")
    assert [method.name for method in methods] == [f"nlm (h {h})" for h in (2, 3, 4, 6, 8, 10)]
    assert {method.best_of for method in methods} == {"nlm"}
    trial, found = Example(degraded_HWC=noisy, target_HWC=clean), {}
    for method, h in zip(methods, STRENGTHS, strict=True):
        if channels == 1:
            expected = cv2.fastNlMeansDenoising(codes, None, float(h)).reshape(codes.shape)
        else:
            bgr = cv2.cvtColor(codes, cv2.COLOR_RGB2BGR)
            expected = cv2.cvtColor(cv2.fastNlMeansDenoisingColored(bgr, None, float(h), float(h)), cv2.COLOR_BGR2RGB)
        restored = method(trial, "anything", 1)
        assert restored.dtype == np.float32
        assert np.array_equal(np.rint(restored * 255).astype(np.uint8), expected)
        found[h] = psnr(restored, clean)
    assert max(found.values()) > psnr(noisy, clean) + 3
    assert found[2] < found[6], "a strength of 2 is too small for the noise"


def test_the_best_strength_follows_the_noise(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    item = Item(name="a", clean=save_photo(tmp_path / "a.png", 64, 80))
    made = Benchmark(
        dataset="d", items=(item,), cases=cases("denoise", Levels(sigma=(3, 25))), methods=partial(peer, "nlm")
    )
    shown = [row for row in rows(run(made, ["cpu"])) if row.method != "degraded"]
    assert [row.level for row in shown] == ["3", "25"]
    few, many = (float(row.method.removeprefix("nlm (h ").removesuffix(")")) for row in shown)
    assert few < many
    assert "best mean PSNR of h 2, 3, 4, 6, 8, 10" in shown[0].conditions


def test_missing_packages_and_unknown_methods_are_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"'tv' needs skimage. pip install 'sanarestore\[bench\]'"):
        peer("tv", "cpu")
    with pytest.raises(UsageError, match=r"'nlm' needs cv2"):
        peer("nlm", "cpu")
    (tmp_path / "net.pth").touch()
    with pytest.raises(UsageError, match="needs spandrel"):
        peer(str(tmp_path / "net.pth"), "cpu")
    with pytest.raises(UsageError, match=r"'bm3d' is neither a file nor a known method\. Known: nlm, wavelet, tv"):
        peer("bm3d", "cpu")
