"""Devices tried: a small computation compared with its known result, and a small restoration by the embedded model."""

from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F

from sanarestore.engine.devices import describe, pick_device, pick_dtype
from sanarestore.engine.restorer import Restorer
from sanarestore.kernels import int8_convolution
from sanarestore.options import DType, RestoreOptions

SIDE = 96
"""Side of the image that is restored, in pixels."""

NOISE = 25 / 255
"""Standard deviation of its noise; the embedded model removes most of it."""


def tried(name: str) -> str:
    """Compute and restore on a device; return what it is and how it did. RuntimeError if a result is wrong."""
    device = pick_device(name)
    _convolve(device, torch.float32)
    if pick_dtype("auto", device) != torch.float32:
        _convolve(device, pick_dtype("auto", device))
    seconds = _seconds(name, "auto")
    speed = f"computes rightly and restores ({SIDE}x{SIDE} px in {seconds:.2f} s)"
    if device.type == "cpu" and int8_convolution.available():
        speed += f", also with --dtype int8 ({_seconds(name, 'int8'):.2f} s)"
    return f"{describe(device)}{_memory(device)}, {speed}"


def _convolve(device: torch.device, dtype: torch.dtype) -> None:
    """Convolve small integers, whose sums every floating type represents exactly."""
    image = torch.arange(64.0).remainder(5).view(1, 1, 8, 8)
    kernel = torch.tensor([[[[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]]])
    expected = F.conv2d(image.double(), kernel.double(), padding=1)
    found = F.conv2d(image.to(device, dtype), kernel.to(device, dtype), padding=1)
    if not torch.equal(found.cpu().double(), expected):
        raise RuntimeError(f"a convolution in {str(dtype).removeprefix('torch.')} has a wrong result")


def _seconds(name: str, dtype: DType) -> float:
    """Seconds in which a test image is restored; RuntimeError if most of its noise stays."""
    left, seconds = _restored(name, dtype)
    if not left < 0.5:
        raise RuntimeError(f"restoring in {dtype} leaves {left:.0%} of the noise in a test image")
    return seconds


def _restored(name: str, dtype: DType) -> tuple[float, float]:
    """Share of the noise that is left after restoring a test image, and the seconds that a second run takes."""
    clean = np.linspace(0.2, 0.8, SIDE, dtype=np.float32)[:, None, None].repeat(SIDE, 1).repeat(3, 2)
    noise = np.random.default_rng(0).normal(0, NOISE, clean.shape).astype(np.float32)
    restorer = Restorer(RestoreOptions(prompt="remove noise", dtype=dtype), device=name)
    restorer(clean + noise)
    begun = perf_counter()
    restored = restorer(clean + noise)
    return float((restored - clean).std() / noise.std()), perf_counter() - begun


def _memory(device: torch.device) -> str:
    if device.type != "cuda":
        return ""
    free, whole = torch.cuda.mem_get_info(device)
    return f", {free / 1e9:.1f} GB of {whole / 1e9:.1f} GB free"
