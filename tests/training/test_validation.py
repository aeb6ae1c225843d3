"""What is validated on is kept back, and is the same every time."""

from pathlib import Path

import pytest
import torch

from sanarestore import images
from sanarestore.degradations.pairs import Pair
from sanarestore.degradations.recipes import Recipe as Degradation
from sanarestore.degradations.recipes import stream
from sanarestore.model.tone import overview, tone_statistics
from sanarestore.training import validation
from sanarestore.training.photos import hold_back, to_tensor
from sanarestore.training.validation import pair_validation, tone_validation, validation_batches, wording_validation
from tests.conftest import photo


def test_tones_are_validated_on_whole_photos(photos: list[Path]) -> None:
    found = tone_validation(photos[:2], side=8)
    assert [set(batch.prompts) for batch in found] == [{prompt} for _, prompt in validation.TONES_VALIDATED]
    assert found[0].degraded_BCHW.shape == (2 * validation.TONE_DRAWS, 3, 8, 8)
    assert found[0].degraded_BCHW.mean() < found[0].target_BCHW.mean() - 0.1
    assert tone_validation([]) == []


def test_some_photos_are_kept_back(photos: list[Path]) -> None:
    many = [Path(str(index)) for index in range(20)]
    train, kept = hold_back(many, 4)
    assert len(kept) == 4
    assert sorted(train + kept, key=lambda path: int(path.name)) == many
    assert hold_back(many[:1], 4) == ((many[0],), ())
    found = validation_batches(photos[:2], side=48)
    assert len(found) == len(validation.VALIDATED)
    assert found[0].degraded_BCHW.shape == (2, 3, 48, 48)


def test_pairs_are_validated_as_they_are(tmp_path: Path) -> None:
    clean = photo(80, 90)
    for name, pixels in (("clean", clean), ("bad", clean * 0.5)):
        images.write(images.Image(pixels_HWC=pixels, depth="float32", format="tiff"), tmp_path / f"{name}.tif")
    pair = Pair(target=tmp_path / "clean.tif", degraded=tmp_path / "bad.tif", prompt="brighten")
    (batch,) = pair_validation([pair], side=48)
    assert batch.prompts == ["brighten"]
    assert torch.equal(batch.tone_BK[0], tone_statistics(overview(to_tensor(clean * 0.5))))
    assert torch.equal(batch.target_BCHW[0], to_tensor(clean[16:64, 16:64]))
    assert torch.equal(batch.degraded_BCHW, batch.target_BCHW * 0.5)
    assert pair_validation([]) == []


def test_wordings_are_validated_on_what_their_prompt_names(photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is named is gone from the target, and the other degradation is still there."""
    monkeypatch.setattr(validation, "word_strangely", lambda _rng, removed: removed[0])
    (batch,) = wording_validation(photos[:1], side=64)
    for index, named in enumerate(batch.prompts):
        plan = Degradation.parse("selective").draw(stream("validation", "wording", photos[0].name, index), index)
        stays = [operation.kind for operation, gone in zip(plan.operations, plan.removed, strict=True) if not gone]
        assert named not in stays
        assert {named, *stays} == {operation.kind for operation in plan.operations}


def test_wordings_are_validated_on_pairs(photos: list[Path]) -> None:
    (batch,) = wording_validation(photos[:2], side=32)
    assert batch.degraded_BCHW.shape == (2 * validation.WORDING_DRAWS, 3, 32, 32)
    assert len(set(batch.prompts)) > validation.WORDING_DRAWS
    changed = (batch.degraded_BCHW - batch.target_BCHW).abs().flatten(1).amax(dim=1)
    assert (changed > 0).all()
    (again,) = wording_validation(photos[:2], side=32)
    assert again.prompts == batch.prompts
    assert wording_validation([]) == []
