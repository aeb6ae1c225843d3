"""Validation beyond a run's own weights: the base with its experts, settings of restoration, and pictures."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image as PillowImage

from sanarestore.engine.restorer import Restorer
from sanarestore.evaluation.metrics import psnr
from sanarestore.images import Image
from sanarestore.model.prompts import PromptEncoder
from sanarestore.model.refiner import Refiner
from sanarestore.options import RestoreOptions
from sanarestore.training.batching import Batch
from sanarestore.training.loop import Trainer
from sanarestore.training.objective import Objective
from sanarestore.training.objectives import new_objective
from sanarestore.training.progress import Schedule
from sanarestore.training.results import Results
from sanarestore.training.scores import decibels_of, measure
from sanarestore.training.settings import at_settings, by_base
from sanarestore.training.starting import Start
from sanarestore.training.validator import Validator
from tests.published import TINY_RECIPE as RECIPE
from tests.published import write_published
from tests.training.labelled import labelled
from tests.training.test_objectives import made


@pytest.fixture
def with_experts(tmp_path: Path) -> str:
    """A model whose experts for noise and JPEG differ from its refiner, and a router that mixes all."""
    objective = made("router")
    with torch.no_grad():
        objective.parts.experts.router.choice.bias.add_(torch.tensor([0.2, 0.6, 0.0]))  # type: ignore[attr-defined]
    objective.save(tmp_path / "base", RECIPE, {})
    return str(tmp_path / "base")


def adapted(base: str, objective: str = "refiner") -> Objective:
    return new_objective(replace(RECIPE, objective=objective), Start(base=base, rank=2))


def restored_by_engine(base: str, batch: Batch) -> torch.Tensor:
    restorer = Restorer(RestoreOptions(model=base, prompt=batch.prompts[0]))
    results = [
        restorer(Image(pixels_HWC=image.permute(1, 2, 0).numpy(), depth="float32", format="tiff")).pixels_HWC
        for image in batch.degraded_BCHW
    ]
    return torch.stack([torch.from_numpy(result).permute(2, 0, 1) for result in results])


@pytest.mark.parametrize("prompt", ["Restore this image", "remove noise"])
def test_the_base_is_measured_as_the_engine_restores_with_it(
    prompt: str, with_experts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Refiner, "margin", 0)  # crops have none
    batch = labelled("noise:25", 2, prompt=prompt)
    for objective in (adapted(with_experts), new_objective(RECIPE, Start(base=with_experts))):
        restore = by_base(objective)
        assert restore is not None
        with torch.no_grad():
            restored = restore(batch)
            general = objective.restore(batch)
        expected = restored_by_engine(with_experts, batch)
        torch.testing.assert_close(restored, expected, atol=2e-4, rtol=0)
        assert (general - expected).abs().max() > 0.01, "the experts change the result"
        image, target = (each[0].permute(1, 2, 0).numpy() for each in (expected.clamp(0, 1), batch.target_BCHW))
        assert float(decibels_of(restored[:1].clamp(0, 1), batch.target_BCHW[:1])) == pytest.approx(
            psnr(image, target), abs=0.02
        )


def test_a_base_without_experts_or_one_that_keeps_them_is_not_measured_again(with_experts: str, tmp_path: Path) -> None:
    made("refiner").save(tmp_path / "plain", RECIPE, {})
    assert by_base(adapted(str(tmp_path / "plain"))) is None
    for name in ("expert", "autoencoder", "router", "wording"):
        assert by_base(new_objective(replace(RECIPE, objective=name), Start(base=with_experts))) is None


def test_results_compare_the_trained_adapter_with_its_base(with_experts: str, tmp_path: Path) -> None:
    batches = [labelled("noise:25", 2), labelled("noise:50", 2, seed=5)]
    recipe = replace(RECIPE, steps=2, batch=2)
    trainer = Trainer(tmp_path / "run", adapted(with_experts), recipe, Schedule(), batches)
    results = trainer.begin()
    assert results is not None
    assert results.before is not None
    assert results.base is not None
    assert set(results.base.scores) == {"noise:25", "noise:50"}
    assert results.base.gain != results.before.gain
    trainer.validate()
    kept = Results.load(tmp_path / "run")
    assert (kept.before, kept.base) == (results.before, results.base)
    assert kept.after == results.before, "nothing was trained"
    resumed = Trainer(tmp_path / "run", adapted(with_experts), recipe, Schedule(), batches)
    resumed.resume()
    resumed.step = 1
    assert resumed.begin() is None
    assert resumed.results == kept


@pytest.fixture
def published(tmp_path: Path, encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "cache")
    return str(write_published(tmp_path / "published", encoder))


def test_a_latent_path_is_measured_at_its_own_steps_with_and_without_the_refiner(published: str) -> None:
    batch = labelled("noise:25", 2)
    objective = new_objective(replace(RECIPE, objective="end-to-end"), Start(base=published, rank=2))
    with torch.no_grad():
        torch.nn.init.normal_(objective.parts.refiner.head.weight, std=0.1)  # type: ignore[attr-defined]
        restore = at_settings(objective)
        assert restore is not None
        one = restore(batch)
        assert list(one) == ["1 step, fidelity 0", "1 step, fidelity 1"]
        torch.testing.assert_close(one["1 step, fidelity 1"], objective.restore(batch), atol=1e-5, rtol=0)
        assert (one["1 step, fidelity 0"] - one["1 step, fidelity 1"]).abs().max() > 0.01
        objective.parts.defaults["steps"] = 3  # type: ignore[attr-defined]
        several = at_settings(objective)
        assert several is not None
        assert list(several(batch)) == ["3 steps, fidelity 0", "3 steps, fidelity 1"]
        assert not torch.equal(several(batch)["3 steps, fidelity 0"], one["1 step, fidelity 0"])
    assert at_settings(made("refiner")) is None


def test_settings_are_measured_at_the_beginning_and_the_end_only(published: str, tmp_path: Path) -> None:
    objective = new_objective(replace(RECIPE, objective="flow"), Start(base=published, rank=2))
    validator = Validator(tmp_path, objective, replace(RECIPE, objective="flow"))
    batches = [labelled("noise:25", 1)]
    with torch.no_grad():
        before = validator.begin(batches)
        assert list(before.settings_before) == ["1 step, fidelity 0", "1 step, fidelity 1"]
        validator.measure(batches, 5)
        assert validator.results.settings_after == {}
        validator.measure(batches, 9, is_last=True)
    assert validator.results.settings_after == validator.results.settings_before
    assert Results.load(tmp_path) == validator.results


def test_pictures_are_drawn_when_they_are_due(tmp_path: Path, photos: list[Path]) -> None:
    from tests.training.test_loop import RECIPE as SHORT
    from tests.training.test_loop import trainer

    made, samples = trainer(tmp_path, photos, replace(SHORT, pictures_every=4))
    made.begin()
    list(made.run(samples))
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == [f"step-{step:06d}.webp" for step in (0, 4, 8, 10)]
    with PillowImage.open(tmp_path / "pictures" / names[0]) as opened:
        assert opened.width <= 1200
    # How often pictures are drawn may change when a run is resumed.
    trainer(tmp_path, photos, replace(SHORT, pictures_every=7))[0].resume()


def test_a_disk_that_refuses_pictures_does_not_stop_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no")

    monkeypatch.setattr("sanarestore.training.validator.write_pictures", refuse)
    Validator(tmp_path, made("refiner"), RECIPE).draw([labelled("noise:25", 1)], 3)


def test_random_pixels_are_neither_drawn_nor_compared_by_structure(tmp_path: Path) -> None:
    objective = made("colour-correction")
    validator = Validator(tmp_path, objective, replace(RECIPE, objective="colour-correction"))
    with torch.no_grad():
        validator.draw([labelled("colour:0.2", 1)], 0)
        found = validator.measure([labelled("colour:0.2", 1)], 0)
    assert not (tmp_path / "pictures").exists()
    assert found.scores["colour:0.2"].ssim_after is None
    assert measure(objective.restore, [labelled("x", 1)]).scores["x"].ssim_after is not None
