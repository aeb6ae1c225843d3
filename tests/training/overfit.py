"""Check that the whole training of a published base works: a narrow transformer overfits eight pairs.

    python -m tests.training.overfit PHOTOS OUT [--minutes 30] [--side 256]

A transformer of the published class with random weights, over the embedded model's trained autoencoder, is trained on
crops of eight photographs, noisy, first for velocities and then end to end. At fidelity 0 the result must come within
0.5 dB of the autoencoder's own reconstruction and lie 6 dB above that of the untrained model, at 1 and at 4 steps; and
it must fail with the condition set to zero, since it then cannot know the photograph.
"""

import argparse
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sanarestore import images, weights
from sanarestore.cli.app import run
from sanarestore.engine.restorer import Restorer
from sanarestore.images import Pixels
from sanarestore.model.loading import load_model
from sanarestore.options import RestoreOptions

RECIPE = """
name = "overfit"
muon_rate = 0.0
optimizer = "adamw"
batch = 8
patch = {side}
weight_decay = 0.0
warmup = 50
ema = 0.99
p_one = 0.5
validation_photos = 0
checkpoint_every = 500
workers = 0

[model]
widths = [16, 16, 16]
encoder_blocks = [1, 1]
decoder_blocks = [1, 1]

[[stage]]
objective = "flow"
steps = 3000
learning_rate = 1e-3
draws = 2
cached_passes = 8

[[stage]]
objective = "end-to-end"
steps = 300
learning_rate = 2e-4
"""


def main() -> int:
    """Train, measure and say what holds; 0 if everything does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--side", type=int, default=256)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    base = write_base(asked.out / "base")
    pairs = write_pairs(sorted(asked.photos.iterdir())[:8], asked.out, asked.side)
    recipe = asked.out / "overfit.toml"
    recipe.write_text(RECIPE.format(side=asked.side))
    arguments = ["train", str(asked.out / "pairs.csv"), "--recipe", str(recipe), "--base", str(base)]
    if run([*arguments, "-o", str(asked.out / "run"), "--max-minutes", str(asked.minutes)]):
        return 1
    if run([*arguments, "-o", str(asked.out / "untrained"), "--steps", "2", "--max-minutes", "0.01"]):
        return 1
    return judge(asked.out, pairs)


def write_base(folder: Path) -> Path:
    """A base in the published layout: the embedded model's autoencoder and text encoder, a new transformer."""
    from diffusers import SanaTransformer2DModel

    embedded = weights.resolve(weights.EMBEDDED)
    for part in ("vae", "text_encoder", "tokenizer", "scheduler"):
        shutil.copytree(embedded / part, folder / part, dirs_exist_ok=True)
    torch.manual_seed(0)
    make: Any = SanaTransformer2DModel
    make(
        in_channels=32, out_channels=32, num_attention_heads=8, attention_head_dim=32, num_layers=4,
        num_cross_attention_heads=8, cross_attention_head_dim=32, cross_attention_dim=256, caption_channels=128,
        sample_size=8, patch_size=1, interpolation_scale=None, qk_norm="rms_norm_across_heads",
    ).save_pretrained(folder / "transformer")  # fmt: skip
    index = {
        "_class_name": "SanaPipeline", "scheduler": ["diffusers", "DPMSolverMultistepScheduler"],
        "text_encoder": ["transformers", "Gemma2Model"], "tokenizer": ["transformers", "GemmaTokenizerFast"],
        "transformer": ["diffusers", "SanaTransformer2DModel"], "vae": ["diffusers", "AutoencoderDC"],
    }  # fmt: skip
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def write_pairs(photos: list[Path], out: Path, side: int) -> list[tuple[Path, Path]]:
    """Crops from the middle of each photograph, clean and noisy, and their list."""
    pairs, rows = [], ["image_path,condition_image_path,caption"]
    for number, path in enumerate(photos):
        pixels_HWC = images.read(path).pixels_HWC[..., :3]
        top, left = ((size - side) // 2 for size in pixels_HWC.shape[:2])
        clean_HWC = np.ascontiguousarray(pixels_HWC[top : top + side, left : left + side])
        noise_HWC = np.random.default_rng(number).normal(0, 40 / 255, clean_HWC.shape)
        files = (out / f"clean-{number}.png", out / f"noisy-{number}.png")
        for file, result_HWC in zip(files, (clean_HWC, clean_HWC + noise_HWC), strict=True):
            image = images.Image(
                pixels_HWC=np.clip(result_HWC, 0, 1).astype(np.float32), depth="uint8", format="png"
            )  # fmt: skip
            images.write(image, file, overwrite=True)
        pairs.append(files)
        rows.append(f"{files[0].name},{files[1].name},remove noise")
    (out / "pairs.csv").write_text("\n".join(rows) + "\n")
    return pairs


def judge(out: Path, pairs: list[tuple[Path, Path]]) -> int:
    """Print the PSNR of every arm, and whether the limits hold."""
    model = load_model(None, str(out / "run/model"))
    assert model.latent is not None
    autoencoder = model.latent.autoencoder
    clean = [images.read(path).pixels_HWC for path, _ in pairs]
    with torch.no_grad():
        decoded = [autoencoder.decode(autoencoder.encode(_tensor(each)))[0].permute(1, 2, 0).numpy() for each in clean]
    reconstruction = _mean(decoded, clean)
    print(f"autoencoder reconstruction {reconstruction:.2f} dB")
    noisy, holds = [images.read(path) for _, path in pairs], reconstruction > 24
    print(f"input {_mean([each.pixels_HWC for each in noisy], clean):.2f} dB")
    for steps in (1, 4):
        figures = {}
        for arm, folder in (("trained", "run"), ("untrained", "untrained"), ("without condition", "run")):
            found = load_model(None, str(out / folder / "model"))
            assert found.latent is not None
            if arm == "without condition":
                for parameter in found.latent.transformer.condition.parameters():
                    parameter.zero_()
                latent = found.latent
                found = replace(found, load_latent=lambda latent=latent: latent)  # type: ignore[misc]
            restorer = Restorer(RestoreOptions(fidelity=0.0, steps=steps, prompt="remove noise"), model=found)
            figures[arm] = _mean([restorer(each).pixels_HWC for each in noisy], clean)
        print(f"{steps} steps: " + ", ".join(f"{arm} {value:.2f} dB" for arm, value in figures.items()))
        holds &= figures["trained"] > reconstruction - 0.5
        holds &= figures["trained"] > figures["untrained"] + 6
        holds &= figures["without condition"] < figures["trained"] - 6
    print("all holds" if holds else "MISSED")
    return 0 if holds else 1


def _tensor(pixels_HWC: Pixels) -> torch.Tensor:
    return torch.from_numpy(pixels_HWC.copy()).permute(2, 0, 1)[None]


def _mean(results: list[Pixels], clean: list[Pixels]) -> float:
    """Mean PSNR over the photographs, in dB."""
    errors = [np.mean((np.clip(one, 0, 1) - other) ** 2) for one, other in zip(results, clean, strict=True)]
    return float(np.mean(-10 * np.log10(errors)))


if __name__ == "__main__":
    sys.exit(main())
