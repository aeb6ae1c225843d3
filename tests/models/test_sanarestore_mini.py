"""The committed weights restore photographs; a broken or swapped weight file fails here."""

import functools
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sanarestore import images, weights
from sanarestore.degradations.recipes import Recipe, stream
from sanarestore.degradations.requests import DEFAULT_PROMPT
from sanarestore.degradations.wordings import HELD_OUT
from sanarestore.engine.restorer import Restorer
from sanarestore.evaluation.metrics import psnr, to_8bit
from sanarestore.images import Pixels
from sanarestore.model.loading import RestorationModel, load_model
from sanarestore.model.routing import routing_features
from sanarestore.options import RestoreOptions
from tests.conftest import photo


@pytest.fixture(scope="module")
def mini() -> RestorationModel:
    return load_model(weights.EMBEDDED)


def restore(model: RestorationModel, pixels_HWC: Pixels, prompt: str | None = None) -> Pixels:
    image = images.Image(pixels_HWC=pixels_HWC, depth="float32", format="tiff")
    return Restorer(RestoreOptions(prompt=prompt), device="cpu", model=model)(image).pixels_HWC


def degrade(line: str, clean_HWC: Pixels, seed: int) -> Pixels:
    return to_8bit(Recipe.parse(line).draw(stream(line, seed), 0).degraded(clean_HWC)).astype(np.float32)


@functools.cache
def leaves(seed: int, height: int = 128, width: int = 160) -> Pixels:
    """Draw overlapping discs with power-law radii, [H, W, 3] on 8-bit codes.

    Their edges and spectra are like those of natural images (Lee et al. 2001), unlike the smooth waves of `photo`.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 2 * height, 0 : 2 * width]
    image, empty = np.zeros((2 * height, 2 * width, 3)), np.ones((2 * height, 2 * width), bool)
    light = rng.uniform(0.15, 0.85, 3)
    while empty.mean() > 0.002:
        radius = 3 / np.sqrt(rng.uniform((3 / 120) ** 2, 1))
        middle = [rng.uniform(-radius, 2 * side + radius) for side in (height, width)]
        rows, columns = (
            slice(*(int(np.clip(at, 0, 2 * side)) for at in (place - radius, place + radius + 1)))
            for place, side in zip(middle, (height, width), strict=True)
        )
        down, across = y[rows, columns] - middle[0], x[rows, columns] - middle[1]
        shown = (down**2 + across**2 < radius**2) & empty[rows, columns]
        colour = 0.5 * light + 0.5 * rng.uniform(0, 1, 3)
        grain = 0.012 * rng.standard_normal((*down.shape, 1)) + 0.1 * (down / radius)[..., None]
        image[rows, columns][shown] = (colour + grain)[shown]
        empty[rows, columns][shown] = False
    small = image.reshape(height, 2, width, 2, 3).mean(axis=(1, 3))
    return to_8bit(small).astype(np.float32)


@pytest.mark.parametrize(
    ("line", "least"),
    [
        ("noise:15", 12.0), ("noise:25", 13.7), ("noise:50", 15.0), ("poisson:4", 13.1), ("camera:30", 2.5),
        ("jpeg:10", 1.7), ("jpeg:20", 1.2), ("noise:25+jpeg:20", 2.0),
    ],
)  # fmt: skip
def test_every_degradation_gains_psnr(mini: RestorationModel, line: str, least: float) -> None:
    """Check the mean gain in dB over three synthetic photographs, a little below what these weights measure."""
    assert gain(mini, line, photo) > least


@pytest.mark.parametrize(
    ("line", "prompt", "least"),
    [
        ("blur:1.6", None, 1.5), ("lowres:3", None, 0.4), ("lowres:4", None, 0.1), ("blur:1.6", "deblur", 2.6),
        ("kernel:5", "deblur", 2.8), ("lowres:2", "increase the resolution", 0.6),
    ],
)  # fmt: skip
def test_blurred_and_low_resolution_images_become_sharper(
    mini: RestorationModel, line: str, prompt: str | None, least: float
) -> None:
    assert gain(mini, line, lambda height, width, seed: leaves(seed, height, width), prompt) > least


def gain(
    model: RestorationModel, line: str, made: Callable[[int, int, int], Pixels], prompt: str | None = None
) -> float:
    gains = []
    for seed in range(3):
        clean = made(128, 160, seed)
        degraded = degrade(line, clean, seed)
        gains.append(psnr(np.clip(restore(model, degraded, prompt), 0, 1), clean) - psnr(degraded, clean))
    return float(np.mean(gains))


@pytest.mark.parametrize(
    ("line", "expert"),
    [
        ("noise:15", "noise"), ("noise:25", "noise"), ("poisson:4", "noise"), ("jpeg:20", "jpeg"), ("jpeg:40", "jpeg"),
        ("blur:1.6", None), ("lowres:3", None), ("noise:25+jpeg:20", None),
    ],
)  # fmt: skip
def test_a_single_degradation_goes_to_its_expert(mini: RestorationModel, line: str, expert: str | None) -> None:
    assert mini.experts is not None
    prompt_D = mini.prompts.pooled(DEFAULT_PROMPT)
    for seed in range(2):
        degraded = torch.from_numpy(degrade(line, photo(512, 640, seed), seed)).permute(2, 0, 1)
        shares = mini.experts.shares(routing_features(degraded), prompt_D)
        assert max(shares, key=lambda name: shares[name]) == expert


def test_a_dark_photograph_is_brightened_when_requested(mini: RestorationModel) -> None:
    """A prompt for something else leaves the brightness unchanged."""
    clean = photo(128, 160)
    dark = degrade("lowlight:2", clean, 0)
    brighter, other = (restore(mini, dark, prompt) for prompt in ("brighten this photo", "remove JPEG artefacts"))
    assert psnr(np.clip(brighter, 0, 1), clean) > psnr(dark, clean) + 8
    assert abs(other.mean() - dark.mean()) < 2 / 255


@pytest.mark.parametrize("prompt", [None, "remove noise"])
def test_a_clean_photograph_stays_nearly_unchanged(mini: RestorationModel, prompt: str | None) -> None:
    for seed in range(3):
        clean = photo(128, 160, seed)
        assert psnr(to_8bit(restore(mini, clean, prompt)), clean) > 48


@pytest.mark.parametrize("line", ["lowlight:2", "colour:0.2"])
def test_light_and_colour_stay_unless_requested(mini: RestorationModel, line: str) -> None:
    """The mean of every channel changes by less than half a code."""
    given = degrade(line, photo(128, 160), 0)
    for prompt in (None, "remove noise", "restore everything", "hello, how are you?"):
        changed = restore(mini, given, prompt).mean(axis=(0, 1)) - given.mean(axis=(0, 1))
        assert np.abs(changed).max() < 0.5 / 255, prompt


def plain_fields() -> Pixels:
    """Return a grid of 4,096 colours, [N, 3]."""
    levels = np.arange(16, dtype=np.float32) / np.float32(15)
    return np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)


@pytest.mark.parametrize("prompt", [None, "remove noise"])
def test_flat_fields_are_returned_bit_for_bit_by_every_refiner(mini: RestorationModel, prompt: str | None) -> None:
    """Fields of 16 px include the border; checking every refiner makes the result independent of the shares.

    The refiners share the colours, and the second prompt is given the colours of the next refiner.
    """
    prompt_BD = mini.prompts.pooled(mini.prompts.wording(prompt, mini.prompts.request(prompt)))[None]
    assert mini.experts is not None
    refiners = [mini.refiner, *(mini.experts.refiner(name, mini.refiner) for name in mini.experts.names)]
    every, first = plain_fields(), 0 if prompt is None else 1
    edges = every[np.isin(every, (every.min(), every.max())).all(axis=1)]
    for number, refiner in enumerate(refiners):
        own = every[(first + number) % len(refiners) :: len(refiners)]
        for colours_N3 in np.array_split(np.concatenate([edges, own]), 4):
            given = torch.from_numpy(colours_N3)[:, :, None, None].expand(-1, -1, 16, 16)
            with torch.inference_mode():
                assert torch.equal(refiner(given, given, prompt_BD.expand(len(given), -1)), given)


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
@pytest.mark.parametrize("tile", [None, 128])
def test_a_plain_half_of_an_image_keeps_its_colour(
    mini: RestorationModel, depth: images.Depth, tile: int | None
) -> None:
    """The backdrop changes by at most one code of the file's depth, also at the image border."""
    for colour in ((1, 1, 1), (0, 0, 1), (0.94, 0.94, 0.92)):
        pixels = np.empty((160, 320, 3), np.float32)
        pixels[:] = colour
        pixels[:, :128] = photo(160, 128)
        codes = images.from_float(pixels, depth)
        image = images.Image(pixels_HWC=images.to_float(codes, depth), depth=depth, format="png")
        restored = Restorer(RestoreOptions(tile=tile), device="cpu", model=mini)(image)
        changed = images.from_float(restored.pixels_HWC, depth).astype(int) - codes.astype(int)
        assert np.abs(changed[:, 128 + mini.refiner.halo :]).max() <= 1


@pytest.mark.parametrize("colour", [(1, 1, 1), (0, 0, 0), (0, 0, 1), (1, 1, 0)])
def test_a_backdrop_keeps_its_colour_when_light_is_requested(mini: RestorationModel, colour: tuple[int, ...]) -> None:
    pixels = np.empty((192, 192, 3), np.float32)
    pixels[:] = colour
    pixels[64:128, 64:128] = degrade("lowlight:2", photo(64, 64), 0)
    restored = to_8bit(restore(mini, pixels, "brighten this photo"))
    assert np.abs(restored[:24] - np.float32(colour)).max() <= 1 / 255
    assert restored[64:128, 64:128].mean() > pixels[64:128, 64:128].mean() + 0.05


def test_gray_stored_as_colour_stays_gray(mini: RestorationModel) -> None:
    gray = degrade("noise:25", photo(96, 96)[..., :1], 0)
    for prompt in (None, "remove noise", "fix the colours"):
        restored = restore(mini, np.repeat(gray, 3, axis=2), prompt)
        assert np.ptp(restored, axis=2).max() == 0
        assert np.array_equal(restored[..., :1], restore(mini, gray, prompt))


def test_expert_shares_of_crops_are_near_those_of_the_whole(mini: RestorationModel) -> None:
    """Compare the shares of a photograph with those of its quarters."""
    assert mini.experts is not None
    prompt_D = mini.prompts.pooled(DEFAULT_PROMPT)
    differences = []
    for line in ("noise:15", "jpeg:20", "blur:1.6", "clean"):
        whole = torch.from_numpy(degrade(line, photo(512, 512), 0)).permute(2, 0, 1)
        quarters = [part for half in whole.chunk(2, dim=1) for part in half.chunk(2, dim=2)]
        wanted, *found = (mini.experts.shares(routing_features(image), prompt_D) for image in (whole, *quarters))
        differences += [max(abs(wanted.get(name, 0) - each.get(name, 0)) for name in wanted | each) for each in found]
    assert np.mean(differences) < 0.25
    assert np.median(differences) < 0.1


@pytest.mark.parametrize(
    ("first", "second"),
    [("jpeg:15", "noise:30"), ("blur:2", "noise:30"), ("lowlight:2", "noise:30"), ("lowres:3", "noise:25")],
)
def test_the_prompt_decides_which_degradation_is_removed(mini: RestorationModel, first: str, second: str) -> None:
    """Apply two degradations and name one in words held out from training; the target keeps the other one."""
    clean = photo(128, 160)
    plan = Recipe.parse(f"{first}+{second}").draw(stream("prompts"), 0)
    degraded = plan.degraded(clean)
    kinds = [operation.kind for operation in plan.operations]
    for named in (0, 1):
        target = plan.operations[1 - named](clean)
        right, wrong = (restore(mini, degraded, HELD_OUT[kinds[each]][0]) for each in (named, 1 - named))
        assert psnr(right, target) > psnr(wrong, target) + 0.3


def test_a_gray_photograph_stays_gray_and_gains_psnr(mini: RestorationModel) -> None:
    clean = photo(96, 96)[..., :1]
    degraded = degrade("noise:25", clean, 0)
    restored = restore(mini, degraded)
    assert restored.shape == clean.shape
    assert psnr(restored, clean) > psnr(degraded, clean) + 10


def test_prompts_need_neither_the_text_encoder_nor_transformers() -> None:
    """Importing transformers takes longer than restoring a small photo."""
    script = (
        "import sys; from sanarestore.model.loading import load_model; "
        "prompts = load_model('sanarestore-mini').prompts; "
        "texts = ('so grainy', 'a cat', '明るくして'); "
        "[prompts.pooled(prompts.wording(text, prompts.request(text))) for text in texts]; "
        "print('transformers' in sys.modules, prompts.request('so grainy').removes)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False ('noise',)"


def test_any_prompt_gives_a_finite_result() -> None:
    model, clean = load_model(weights.EMBEDDED), photo(64, 64)
    for prompt in ("enlève le bruit", "ノイズ除去", "🙂", "...", "x" * 2000):
        assert np.isfinite(restore(model, clean, prompt)).all()


def test_wordings_of_the_same_request_give_the_same_result() -> None:
    model, noisy = load_model(weights.EMBEDDED), degrade("noise:15", photo(64, 64), 0)
    for texts in (
        ("remove noise", "REMOVE NOISE", "Remove Noise.", "  remove   noise ", "Rauschen entfernen", "убрать шум"),
        (None, "Restore this image", "fix everything", "asdf qwer"),
    ):
        first, *others = (restore(model, noisy, text) for text in texts)
        assert all(np.array_equal(first, other) for other in others), texts


def test_the_model_folder_is_below_60_mb() -> None:
    folder = weights.resolve(weights.EMBEDDED)
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 60e6
    assert (folder / "README.md").is_file()


PUBLISHED = (
    ("cbsd68", "noise:25", 8.2),
    ("live1", "jpeg:20", 1.1),
    ("kodak24", "jpeg:20", 1.0),
    ("kodak24", "blur:1.6", 1.5),
    ("kodak24", "lowres:2", 0.3),
    ("kodak24", "lowres:3", 0.35),
)
"""Test set, degradation, minimum gain in dB."""


def test_photographs_of_published_test_sets_gain_psnr(mini: RestorationModel, real_data: Path) -> None:
    """A few images of each set gain a little less than the card states for the whole sets."""
    for name, line, least in PUBLISHED:
        gains = []
        for found in images.find([str(real_data / name)]).images[:4]:
            clean = images.read(found.path).pixels_HWC[:256, :256]
            degraded = degrade(line, clean, 0)
            gains.append(psnr(to_8bit(restore(mini, degraded)), clean) - psnr(degraded, clean))
        assert np.mean(gains) > least, (name, gains)


@pytest.mark.parametrize(("name", "line", "least"), [("kodak24", "noise:25", 0.1), ("live1", "jpeg:20", 0.2)])
def test_experts_gain_psnr_over_the_general_refiner(
    mini: RestorationModel, real_data: Path, name: str, line: str, least: float
) -> None:
    """Measure the gain in dB over the model without experts."""
    gains = []
    for found in images.find([str(real_data / name)]).images[:3]:
        clean = images.read(found.path).pixels_HWC
        degraded = degrade(line, clean, 0)
        alone, together = (restore(model, degraded) for model in (replace(mini, experts=None), mini))
        gains.append(psnr(to_8bit(together), clean) - psnr(to_8bit(alone), clean))
    assert np.mean(gains) > least, gains
