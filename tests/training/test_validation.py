"""Validation batches: made of held-back photographs, of overviews, and of pairs."""

from pathlib import Path

import torch

from sanarestore import images
from sanarestore.degradations.pairs import Pair, read_pairs
from sanarestore.degradations.requests import DEFAULT_PROMPT, Request
from sanarestore.model.colour_correction import colour_statistics, overview
from sanarestore.training import validation
from sanarestore.training.photos import to_tensor
from sanarestore.training.validation import overview_validation, pair_validation, validation_batches
from tests.conftest import photo


def test_colour_corrections_are_validated_on_whole_photos(photos: list[Path]) -> None:
    found = overview_validation(photos[:2], side=8)
    asked = [Request.of(kind) for _, kind in validation.CORRECTIONS_VALIDATED]
    assert [set(batch.requests) for batch in found] == [{request} for request in asked]
    assert [set(batch.prompts) for batch in found] == [{request.plain} for request in asked]
    assert found[0].degraded_BCHW.shape == (2 * validation.OVERVIEW_DRAWS, 3, 8, 8)
    assert found[0].degraded_BCHW.mean() < found[0].target_BCHW.mean() - 0.1
    assert overview_validation([]) == []


def test_every_kind_of_degradation_has_a_validation_batch(photos: list[Path]) -> None:
    found = validation_batches(photos[:2], side=48)
    assert len(found) == len(validation.VALIDATED)
    assert [batch.label for batch in found] == list(validation.VALIDATED)
    assert found[0].degraded_BCHW.shape == (2, 3, 48, 48)
    for batch in found:
        assert set(batch.requests) == {Request()}
        assert set(batch.prompts) == {DEFAULT_PROMPT}


def test_pairs_are_validated_without_further_degradation(tmp_path: Path) -> None:
    clean = photo(80, 90)
    for name, pixels in (("clean", clean), ("bad", clean * 0.5)):
        images.write(images.Image(pixels_HWC=pixels, depth="float32", format="tiff"), tmp_path / f"{name}.tif")
    pair = Pair(target=tmp_path / "clean.tif", degraded=tmp_path / "bad.tif", prompt="brighten")
    (batch,) = pair_validation([pair], side=48)
    assert batch.prompts == ["brighten"]
    assert batch.requests == (None,), "the prompt of a pair is read later"
    assert torch.equal(batch.statistics_BK[0], colour_statistics(overview(to_tensor(clean * 0.5))))
    assert torch.equal(batch.target_BCHW[0], to_tensor(clean[16:64, 16:64]))
    assert torch.equal(batch.degraded_BCHW, batch.target_BCHW * 0.5)
    assert pair_validation([]) == []


def test_small_inputs_of_pairs_are_enlarged_before_they_are_validated(tmp_path: Path) -> None:
    clean = photo(96, 128)
    small = images.resize(clean, 32, 24)
    for name, pixels in (("clean", clean), ("small", small)):
        images.write(images.Image(pixels_HWC=pixels, depth="float32", format="tiff"), tmp_path / f"{name}.tif")
    pair = Pair(target=tmp_path / "clean.tif", degraded=tmp_path / "small.tif", prompt="enlarge")
    (batch,) = pair_validation([pair], side=64, scale=4)
    enlarged = images.resize(small, 128, 96)
    assert torch.equal(batch.target_BCHW[0], to_tensor(clean[16:80, 32:96]))
    assert torch.allclose(batch.degraded_BCHW[0], to_tensor(enlarged[16:80, 32:96]), atol=1e-6)


def test_pairs_are_validated_by_label_or_else_by_caption(tmp_path: Path) -> None:
    for name in ("clean", "bad"):
        images.write(images.Image(pixels_HWC=photo(48, 48), depth="uint8", format="png"), tmp_path / f"{name}.png")
    rows = [
        "image_path,condition_image_path,caption,label,sha256",
        "clean.png,bad.png,remove noise,noise:25,a", "clean.png,bad.png,deblur,blur:2,a",
        "clean.png,bad.png,denoise,noise:25,b", "clean.png,bad.png,remove dust|no dust,,", "clean.png,bad.png,,,",
    ]  # fmt: skip
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    pairs = read_pairs(tmp_path / "pairs.csv")
    assert [pair.source for pair in pairs] == ["a", "a", "b", "", ""]
    found = pair_validation(pairs, side=32)
    assert [(batch.label, batch.prompts) for batch in found] == [
        ("noise:25", ["remove noise", "denoise"]), ("blur:2", ["deblur"]), ("remove dust", ["remove dust"]),
        ("no caption", [""]),
    ]  # fmt: skip
