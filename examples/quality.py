"""Measure a model on the published test sets: the figures of the model card.

    python examples/quality.py DATA [--model sanarestore-mini] [--json FILE]

DATA holds the folders cbsd68, kodak24 and live1. Every row uses the default prompt and default settings unless it says
otherwise. Colour denoising follows the usual scripts: `np.random.seed(0)` before every image, float noise, neither
clipped nor rounded, whole image, output clamped and rounded to 8 bits, PSNR over all RGB values, mean of the decibels.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from sanarestore import images
from sanarestore.degradations.operations import Pixels
from sanarestore.degradations.recipes import Recipe, stream
from sanarestore.degradations.wordings import HELD_OUT
from sanarestore.engine.restorer import Restorer
from sanarestore.evaluation.metrics import psnr, ssim, to_8bit
from sanarestore.model.loading import load_model
from sanarestore.options import RestoreOptions

Degrade = Callable[[Pixels, int], Pixels]


def white_noise(sigma: float) -> Degrade:
    """The literature's noise, drawn in RGB order after `np.random.seed(0)`."""

    def degrade(clean_HWC: Pixels, index: int) -> Pixels:
        np.random.seed(0)
        return (clean_HWC + np.random.normal(0, sigma / 255, clean_HWC.shape)).astype(np.float32)

    return degrade


def recipe(line: str, *, stored: bool = True) -> Degrade:
    """A recipe with one stream per image; stored as 8-bit codes, as a file would be."""

    def degrade(clean_HWC: Pixels, index: int) -> Pixels:
        degraded = Recipe.parse(line).draw(stream("quality", line, index), index).degraded(clean_HWC)
        return to_8bit(degraded).astype(np.float32) if stored else degraded

    return degrade


ROWS: list[tuple[str, str, Degrade]] = [
    ("cbsd68", "noise sigma 25 (protocol)", white_noise(25)),
    ("cbsd68", "noise sigma 15 (protocol)", white_noise(15)),
    ("cbsd68", "noise sigma 50 (protocol)", white_noise(50)),
    ("cbsd68", "noise sigma 25, clipped, 8 bit", recipe("noise:25")),
    ("live1", "jpeg q20", recipe("jpeg:20")),
    ("live1", "jpeg q10", recipe("jpeg:10")),
    ("live1", "jpeg q40", recipe("jpeg:40")),
    ("kodak24", "noise sigma 25 (protocol)", white_noise(25)),
    ("kodak24", "poisson c 4", recipe("poisson:4")),
    ("kodak24", "camera noise 30", recipe("camera:30")),
    ("kodak24", "blur sigma 1.6", recipe("blur:1.6")),
    ("kodak24", "blur kernel 5", recipe("kernel:5")),
    ("kodak24", "2x", recipe("lowres:2")),
    ("kodak24", "3x", recipe("lowres:3")),
    ("kodak24", "4x", recipe("lowres:4")),
    ("kodak24", "low light 2 EV", recipe("lowlight:2")),
    ("kodak24", "colour 0.2", recipe("colour:0.2")),
    ("kodak24", "combined", recipe("combined")),
    ("kodak24", "noise 25 then jpeg q20", recipe("noise:25+jpeg:20")),
]


def photos(folder: Path, limit: int | None) -> list[images.Image]:
    """The images of a folder, in order."""
    return [images.read(found.path) for found in images.find([str(folder)]).images[:limit]]


def run(restorer: Restorer, pixels_HWC: Pixels) -> Pixels:
    """Restore an array through the Python API, in float."""
    image = images.Image(pixels_HWC=pixels_HWC, depth="float32", format="tiff")
    return to_8bit(restorer(image).pixels_HWC).astype(np.float32)


def measure(restorer: Restorer, data: Path, limit: int | None) -> Iterator[dict[str, object]]:
    """A row per degradation: PSNR and SSIM before and after."""
    for name, label, degrade in ROWS:
        before, after, structure, pixels, seconds = [], [], [], 0, 0.0
        for index, image in enumerate(photos(data / name, limit)):
            clean = image.pixels_HWC
            degraded = degrade(clean, index)
            begun = time.perf_counter()
            restored = run(restorer, degraded)
            seconds += time.perf_counter() - begun
            pixels += clean.shape[0] * clean.shape[1]
            before.append(psnr(to_8bit(degraded), clean))
            after.append(psnr(restored, clean))
            structure.append(ssim(restored, clean))
        gain = statistics.mean(after) - statistics.mean(before)
        yield {
            "set": name, "row": label, "psnr_before": round(statistics.mean(before), 3),
            "psnr": round(statistics.mean(after), 3), "gain": round(gain, 3),
            "ssim": round(statistics.mean(structure), 4),
            "improved": round(float(np.mean(np.array(after) > np.array(before))), 3),
            "seconds_per_mp": round(seconds / pixels * 1e6, 2),
        }  # fmt: skip


def prompts(model: str, data: Path, draws: int, limit: int | None) -> dict[str, object]:
    """Selective pairs worded as never in training: how often, and by how much, the right prompt beats the wrong one."""
    loaded = load_model(model)
    restorers: dict[str, Restorer] = {}

    def restorer(prompt: str) -> Restorer:
        if prompt not in restorers:
            restorers[prompt] = Restorer(RestoreOptions(prompt=prompt), model=loaded)
        return restorers[prompt]

    margins = []
    for index, image in enumerate(photos(data / "kodak24", limit)):
        for draw in range(draws):
            rng = stream("prompts", index, draw)
            plan = Recipe.parse("selective").draw(rng, draw)
            kinds = [operation.kind for operation in plan.operations]
            named = plan.removed.index(True)
            right, wrong = (
                HELD_OUT[kind][int(rng.integers(len(HELD_OUT[kind])))] for kind in (kinds[named], kinds[1 - named])
            )
            clean = image.pixels_HWC
            degraded, target = (to_8bit(made).astype(np.float32) for made in (plan.degraded(clean), plan.target(clean)))
            scores = [psnr(run(restorer(prompt), degraded), target) for prompt in (right, wrong)]
            margins.append(min(scores[0], 60) - min(scores[1], 60))
    return {
        "set": "kodak24", "row": f"selective pairs, held-out wordings, {len(margins)} pairs",
        "right_beats_wrong": round(float(np.mean(np.array(margins) > 0)), 4),
        "margin_db": round(statistics.mean(margins), 3),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="sanarestore-mini")
    parser.add_argument("--draws", type=int, default=6, help="selective pairs per photo")
    parser.add_argument("--limit", type=int, help="photos per set, for a quick look")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    restorer = Restorer(RestoreOptions(model=chosen.model))
    rows = []
    for row in measure(restorer, chosen.data, chosen.limit):
        rows.append(row)
        print(
            f"{row['set']:8} {row['row']:32} {row['psnr_before']:6.2f} -> {row['psnr']:6.2f} dB ({row['gain']:+.2f})"
            f"  SSIM {row['ssim']:.3f}  better in {row['improved']:.0%}  {row['seconds_per_mp']} s/MP",
            flush=True,
        )
    rows.append(prompts(chosen.model, chosen.data, chosen.draws, chosen.limit))
    print(rows[-1])
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
