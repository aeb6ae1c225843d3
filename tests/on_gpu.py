"""Measurements that need a GPU, run by hand: kernels, quantized products, memory and speed of large models.

    python -m tests.on_gpu --output FOLDER [--device cuda:0] [--model SANA1.5_1.6B_1024px] [--sizes 1024,4096] [--quick]

It prints one JSON object per line, and writes them to FOLDER/on_gpu.jsonl:

    kernels    whether the kernels agree with their references (pytest tests/kernels/on_cuda)
    product    relative error and milliseconds of quantized products beside bfloat16, at the sizes of a block
    memory     peak and seconds of a restoration by precision and offload, beside the estimate

Without a GPU, `--device cpu --quick` runs all of it on the smallest sizes; `peak` then counts new tensors only, and no
weights.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import nn

from sanarestore import images
from sanarestore.engine.footprint import footprint
from sanarestore.engine.live_bytes import LiveBytes
from sanarestore.engine.restorer import Restorer
from sanarestore.evaluation.speed.random_models import CHECKPOINTS, PROMPT, random_model
from sanarestore.model.loading import RestorationModel
from sanarestore.model.quantization import QuantizedLinear
from sanarestore.options import OFFLOADS, PRECISIONS, RestoreOptions

WIDTH = 2240
"""Features of a token at 1.6B."""

REPEATS = 20


def main() -> None:
    """Run all measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--model", default="SANA1.5_1.6B_1024px")
    parser.add_argument("--sizes", default="1024,4096")
    parser.add_argument("--quick", action="store_true", help="the smallest sizes only")
    given = parser.parse_args()
    device = torch.device(given.device)
    given.output.mkdir(parents=True, exist_ok=True)
    sizes = [64] if given.quick else [int(each) for each in given.sizes.split(",")]
    with (given.output / "on_gpu.jsonl").open("w", encoding="utf-8") as file:
        for row in (
            *_kernels(device),
            *_products(device, width=64 if given.quick else WIDTH, rows=96 if given.quick else 16384),
            *_memory(given.model, device, sizes, quick=given.quick),
        ):
            print(json.dumps(row), flush=True)
            file.write(json.dumps(row) + "\n")
            file.flush()


def _kernels(device: torch.device) -> Iterator[dict[str, Any]]:
    """Run the tests of the kernels, compiled on a GPU, elsewhere in the interpreter."""
    chosen = "tests/kernels/on_cuda" if device.type == "cuda" else "tests/kernels/test_interpreted.py"
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-q", chosen], capture_output=True, text=True, check=False
    )
    yield {"what": "kernels", "passed": ended.returncode == 0, "said": ended.stdout.strip().splitlines()[-1:]}


def _products(device: torch.device, *, width: int, rows: int) -> Iterator[dict[str, Any]]:
    """Time the products of a block in each precision."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    for outputs, inputs in ((width, width), (5 * width, width), (width, 5 * width // 2)):
        torch.manual_seed(0)
        layer = nn.Linear(inputs, outputs, bias=False).to(device, dtype)
        given = torch.randn(rows, inputs, device=device, dtype=dtype)
        with torch.inference_mode():
            exact, plain = given.float() @ layer.weight.float().T, _milliseconds(layer, given)
            for precision in PRECISIONS:
                quantized = QuantizedLinear(layer, precision)
                quantized.read(layer.weight)
                error = float((quantized(given).float() - exact).norm() / exact.norm())
                yield {
                    "what": "product", "precision": precision, "shape": [rows, inputs, outputs], "error": error,
                    "milliseconds": _milliseconds(quantized, given), "plain": plain,
                }  # fmt: skip


def _memory(name: str, device: torch.device, sizes: list[int], *, quick: bool) -> Iterator[dict[str, Any]]:
    """Restore an image with each precision and offload."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    if quick:  # the same layout, narrow
        small = {"num_attention_heads": 4, "num_cross_attention_heads": 4, "cross_attention_head_dim": 32}
        CHECKPOINTS[name] = replace(
            CHECKPOINTS[name],
            changes={**CHECKPOINTS[name].changes, **small, "cross_attention_dim": 128, "num_layers": 3},
        )
    offloads = OFFLOADS if device.type == "cuda" else OFFLOADS[:1]
    for precision in (None, *PRECISIONS):
        # A restorer that shares its model copies it, so each loads its own.
        for offload in offloads:
            model = random_model(name, dtype=dtype)
            options = RestoreOptions(quantize=precision, offload=offload, tile=1024)
            restorer = Restorer(options, device=str(device), model=model)
            for side in sizes:
                yield {
                    "what": "memory", "precision": precision or str(dtype), "offload": offload, "side": side,
                    **_restored(restorer, device, side), "estimate": _estimate(model, options, dtype, side),
                }  # fmt: skip
            del restorer, model
            if device.type == "cuda":
                torch.cuda.empty_cache()


def _restored(restorer: Restorer, device: torch.device, side: int) -> dict[str, Any]:
    """Peak bytes on the device, and seconds of the second of two restorations."""
    pixels = np.random.default_rng(0).random((side, side, 3), dtype=np.float32)
    image = images.Image(pixels_HWC=pixels, depth="float32", format="tiff")
    if device.type != "cuda":
        with LiveBytes() as live:
            restorer(image)
        return {"peak": live.most, "seconds": None}
    torch.cuda.reset_peak_memory_stats(device)
    restorer(image)
    begun = perf_counter()
    restorer(image)
    torch.cuda.synchronize(device)
    return {"peak": torch.cuda.max_memory_allocated(device), "seconds": perf_counter() - begun}


def _estimate(model: RestorationModel, options: RestoreOptions, dtype: torch.dtype, side: int) -> int:
    found = footprint(model, options, PROMPT, tile=1024, dtype=dtype, size=(side, side), is_generated=True)
    return found.peak(options.offload)


def _milliseconds(layer: nn.Module, given: torch.Tensor) -> float:
    layer(given)
    if given.device.type != "cuda":
        begun = perf_counter()
        layer(given)
        return 1000 * (perf_counter() - begun)
    begins, ends = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begins.record()
    for _ in range(REPEATS):
        layer(given)
    ends.record()
    torch.cuda.synchronize()
    elapsed: float = begins.elapsed_time(ends)
    return elapsed / REPEATS


if __name__ == "__main__":
    main()
