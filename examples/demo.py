"""Degrade photographs, restore them with the embedded model, and show the results side by side.

    python examples/demo.py --output demo

The photographs are those in scikit-image's wheel (extra `demo`), and a rendered landscape, which is also the picture in
the README. Nothing is downloaded.
"""

import argparse
import io
import time
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont
from scene import landscape

from sanarestore import images
from sanarestore.cli import console
from sanarestore.degradations.recipes import Recipe, stream
from sanarestore.engine.restorer import Restorer
from sanarestore.evaluation.columns import Column, Table
from sanarestore.evaluation.metrics import psnr
from sanarestore.images import Pixels
from sanarestore.model.loading import RestorationModel, load_model
from sanarestore.options import RestoreOptions

PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")

DAMAGE = (
    ("noise", "noise:25", "remove noise"),
    ("jpeg", "jpeg:20", "remove JPEG artefacts"),
    ("both", "noise:25+jpeg:20", "remove noise and JPEG artefacts"),
)
"""Name, recipe, and prompt."""

PICTURE = ("noise:25", 5, (40, 424))
"""Recipe and seed of the picture in the README, and its first and last row in the rendered landscape."""


def demo_photos() -> list[tuple[str, images.Image]]:
    """The photographs of scikit-image's wheel, by name."""
    folder = files("skimage") / "data"
    return [(Path(name).stem, images.decode((folder / name).read_bytes(), name=name)) for name in PHOTOS]


def picture(model: RestorationModel) -> PillowImage.Image:
    """Render a noisy landscape, and restore its right half without a prompt."""
    recipe, seed, rows = PICTURE
    clean = landscape(seed=seed)
    degraded = Recipe.parse(recipe).draw(stream("picture", recipe), seed).degraded(clean)
    codes = images.from_float(np.clip(degraded, 0, 1), "uint8")
    photo = images.decode(_png(codes), name="landscape")
    both = images.from_float(np.clip(Restorer(model=model)(photo).pixels_HWC, 0, 1), "uint8").astype(np.uint8)
    middle = both.shape[1] // 2
    both[:, :middle] = codes[:, :middle]
    both[:, middle - 1 : middle + 1] = 255
    return PillowImage.fromarray(both[slice(*rows)])


def _png(codes_HWC: npt.NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    PillowImage.fromarray(codes_HWC.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def side_by_side(panels: list[tuple[str, Pixels]]) -> PillowImage.Image:
    """Panels in a row, each with its caption above."""
    height, width, _ = panels[0][1].shape
    band, gap = 26, 6
    sheet = PillowImage.new("RGB", (len(panels) * (width + gap) - gap, height + band), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for index, (caption, pixels_HWC) in enumerate(panels):
        left = index * (width + gap)
        codes = images.from_float(pixels_HWC, "uint8")
        sheet.paste(PillowImage.fromarray(codes.astype(np.uint8)), (left, band))
        draw.text((left + 4, 4), caption, fill="black", font=font)
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("demo"))
    output: Path = parser.parse_args().output
    model = load_model("sanarestore-mini")
    output.mkdir(parents=True, exist_ok=True)
    picture(model).save(output / "before-after.webp", quality=88)
    rows: list[list[str]] = []
    for damage, recipe, prompt in DAMAGE:
        restorer = Restorer(RestoreOptions(prompt=prompt), model=model)
        for index, (name, photo) in enumerate(demo_photos()):
            clean = photo.pixels_HWC
            degraded = Recipe.parse(recipe).draw(stream("demo", name), index).degraded(clean)
            damaged = replace(photo, pixels_HWC=np.clip(degraded, 0, 1), format="png")
            images.write(damaged, output / "degraded" / damage / f"{name}.png")
            damaged = images.read(output / "degraded" / damage / f"{name}.png")
            begun = time.perf_counter()
            restored = restorer(damaged)
            seconds = (time.perf_counter() - begun) / photo.megapixels
            images.write(restored, output / "restored" / damage / f"{name}.png")
            before, after = psnr(damaged.pixels_HWC, clean), psnr(np.clip(restored.pixels_HWC, 0, 1), clean)
            rows.append([name, damage, f"{before:.2f}", f"{after:.2f}", f"{after - before:+.2f}", f"{seconds:.2f}"])
            panels = [
                (f"{damage}: {before:.2f} dB", damaged.pixels_HWC),
                (f"restored, “{prompt}”: {after:.2f} dB", restored.pixels_HWC),
                ("the photograph", clean),
            ]
            (output / "before-after").mkdir(parents=True, exist_ok=True)
            side_by_side(panels).save(output / "before-after" / f"{name}-{damage}.png")
    words = [Column(title, words=True) for title in ("photo", "damage")]
    figures = [Column(title) for title in ("before dB", "after dB", "gain dB", "s per MP")]
    console.table("Restored with the embedded model", Table([*words, *figures], rows))
    console.say(f"Pictures: {output / 'before-after'}   files: {output / 'restored'}")


if __name__ == "__main__":
    main()
