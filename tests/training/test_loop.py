"""The training loop: learning, resuming, validation, progress and errors."""

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
import torch

from sanarestore import images
from sanarestore.degradations.grammar import read_grammar
from sanarestore.degradations.requests import Request
from sanarestore.degradations.wordings import Language
from sanarestore.errors import Diverged, SanarestoreError, UsageError
from sanarestore.model.colour_correction import COLOUR_STATISTICS
from sanarestore.model.loading import load_model
from sanarestore.model.reading import is_reader
from sanarestore.training import checkpoint
from sanarestore.training.batching import Batch
from sanarestore.training.data import PhotoSamples, WordingSamples
from sanarestore.training.holding_back import hold_back
from sanarestore.training.loop import Trainer
from sanarestore.training.objectives import new_objective
from sanarestore.training.progress import Schedule, TrainingProgress
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.recipe_shapes import OPTIMIZERS, ModelShape
from sanarestore.training.starting import Start
from sanarestore.training.validation import validation_batches
from tests.conftest import photo
from tests.published import TINY_RECIPE

RECIPE = TrainingRecipe(
    name="tiny", seed=3, steps=10, batch=2, patch=32, learning_rate=2e-3, warmup=2, workers=0, validation_photos=1,
    validate_every=4, checkpoint_every=3, degradations={"noise:30": 1.0, "selective": 0.3},
    model=ModelShape(
        widths=(8, 8, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1), prompt_width=8, prompt_layers=1,
        prompt_heads=2, vocabulary=300,
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / f"{index}.png" for index in range(3)]
    for index, path in enumerate(paths):
        images.write(images.Image(pixels_HWC=photo(96, 96, seed=index), depth="uint8", format="png"), path)
    return paths


def trainer(
    folder: Path, photos: list[Path], recipe: TrainingRecipe = RECIPE, **schedule: float | str
) -> tuple[Trainer, PhotoSamples]:
    learnt, kept = hold_back(photos, recipe.validation_photos)
    objective = new_objective(recipe)
    made = Trainer(folder, objective, recipe, Schedule(**schedule), validation_batches(kept, side=48))  # type: ignore[arg-type]
    return made, PhotoSamples(learnt, recipe)


def weights_of(made: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in made.objective.modules.state_dict().items()}


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, photos: list[Path]) -> None:
    whole, samples = trainer(tmp_path / "whole", photos)
    losses = [progress.loss for progress in whole.run(samples)]

    first, samples = trainer(tmp_path / "parts", photos)
    running = first.run(samples)
    early = [progress.loss for progress in islice(running, 5)]
    running.close()
    second, samples = trainer(tmp_path / "parts", photos)
    second.resume()
    assert second.step == 5
    late = [progress.loss for progress in second.run(samples)]

    assert early + late == losses
    expected, got = weights_of(whole), weights_of(second)
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    averaged = whole.learner.ema.state()
    assert all(torch.equal(averaged[name], tensor) for name, tensor in second.learner.ema.state().items())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_resumes_to_the_bit_with_every_optimizer(name: str, tmp_path: Path, photos: list[Path]) -> None:
    """Covers moments in 8 bits: some kernels of this refiner are large enough for them."""
    recipe = replace(RECIPE, optimizer=name, validate_every=0, model=replace(RECIPE.model, widths=(8, 16, 64)))
    whole, samples = trainer(tmp_path / "whole", photos, recipe)
    list(whole.run(samples))
    first, samples = trainer(tmp_path / "parts", photos, recipe)
    running = first.run(samples)
    list(islice(running, 5))
    running.close()
    second, samples = trainer(tmp_path / "parts", photos, recipe)
    second.resume()
    list(second.run(samples))
    expected, got = weights_of(whole), weights_of(second)
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    stored = checkpoint.read_tensors(tmp_path / "parts" / "checkpoint", "optimizer")
    assert (torch.int8 in {tensor.dtype for tensor in stored.values()}) == name.endswith("8bit")


def test_a_checkpoint_from_before_optimizers_had_names_resumes(tmp_path: Path, photos: list[Path]) -> None:
    made, samples = trainer(tmp_path, photos)
    list(islice(made.run(samples), 1))
    made.save_checkpoint()
    path = tmp_path / "checkpoint" / checkpoint.STATE
    state = json.loads(path.read_text())
    assert state["recipe"].pop("optimizer") == "muon"
    path.write_text(json.dumps(state))
    resumed, _ = trainer(tmp_path, photos)
    resumed.resume()
    other, _ = trainer(tmp_path, photos, replace(RECIPE, optimizer="adamw"))
    with pytest.raises(UsageError, match="it differs in optimizer"):
        other.resume()


def test_weights_stay_float32_when_training_in_bfloat16(tmp_path: Path, photos: list[Path]) -> None:
    losses = {}
    for dtype in ("float32", "bfloat16"):
        made, samples = trainer(tmp_path / dtype, photos, dtype=dtype)
        losses[dtype] = [progress.loss for progress in made.run(samples)]
        assert {tensor.dtype for tensor in weights_of(made).values()} == {torch.float32}
    assert losses["bfloat16"] == pytest.approx(losses["float32"], abs=1.0)
    assert losses["bfloat16"] != losses["float32"]


def run_whole_and_in_parts(begun: Callable[[str], tuple[Trainer, Any]]) -> tuple[Trainer, Trainer]:
    """Train without a stop, and with one after two steps; the losses are equal. Returns both trainers at the end."""
    whole, samples = begun("whole")
    losses = [progress.loss for progress in whole.run(samples)]
    first, samples = begun("parts")
    running = first.run(samples)
    early = [progress.loss for progress in islice(running, 2)]
    running.close()
    second, samples = begun("parts")
    second.resume()
    assert early + [progress.loss for progress in second.run(samples)] == losses
    return whole, second


@pytest.mark.parametrize("objective", ["autoencoder", "flow", "end-to-end", "distillation"])
def test_a_resumed_latent_objective_equals_an_uninterrupted_one(
    tmp_path: Path, photos: list[Path], objective: str
) -> None:
    """Covers kernels large enough for Muon, frozen parts, and noise that depends on the step."""
    recipe = replace(
        TINY_RECIPE, objective=objective, steps=4, batch=2, patch=32, warmup=1, workers=0, validation_photos=1,
        teacher=True, tangent_warmup=2,
        model=replace(TINY_RECIPE.model, widths=(32, 32, 32)), degradations={"noise:30": 1.0},
    )  # fmt: skip
    first_of_all = replace(recipe, objective="flow") if objective == "distillation" else recipe
    new_objective(first_of_all).save(tmp_path / "base", recipe, {})

    def begun(folder: str) -> tuple[Trainer, PhotoSamples]:
        made = new_objective(recipe, Start(base=str(tmp_path / "base")))
        return Trainer(tmp_path / folder, made, recipe, Schedule()), PhotoSamples(photos, recipe)

    whole, second = run_whole_and_in_parts(begun)
    expected, got = weights_of(whole), weights_of(second)
    assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_a_resumed_reader_run_equals_an_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sanarestore.training.data.languages", lambda: (Language(grammar=read_grammar("en")),))
    recipe = replace(TINY_RECIPE, objective="wording", steps=4, batch=6, warmup=1, workers=0, validation_photos=0)

    def begun(folder: str) -> tuple[Trainer, WordingSamples]:
        return Trainer(tmp_path / folder, new_objective(recipe), recipe, Schedule()), WordingSamples(recipe)

    _, second = run_whole_and_in_parts(begun)
    assert is_reader(second.finish({}))


def test_validation_caps_the_psnr_of_nearly_clean_inputs(tmp_path: Path, photos: list[Path]) -> None:
    made, _ = trainer(tmp_path, photos)
    clean = torch.full((2, 3, 48, 48), 0.5)
    nearly = clean + torch.tensor([0.001, 0.1])[:, None, None, None]  # 60 and 20 dB
    made.validation = [
        Batch(
            degraded_BCHW=nearly,
            target_BCHW=clean,
            statistics_BK=torch.zeros(2, COLOUR_STATISTICS),
            prompts=["", ""],
            requests=(Request(), Request()),
        )
    ]
    made.objective.restore = lambda batch: clean + 0.03  # type: ignore[method-assign]
    # From 40 (not 60) and 20 dB to 30.5.
    assert made.validate().gain == pytest.approx((-9.54 + 10.46) / 2, abs=0.01)


def test_resuming_from_another_base_is_refused(tmp_path: Path, photos: list[Path]) -> None:
    made, samples = trainer(tmp_path, photos)
    made.origin = "model 1a2b"
    running = made.run(samples)
    next(running)
    running.close()
    other, _ = trainer(tmp_path, photos)
    other.origin = "model 3c4d"
    with pytest.raises(UsageError, match=r"began from model 1a2b, not from model 3c4d.*--base"):
        other.resume()


def test_training_gains_psnr_on_noise(tmp_path: Path, photos: list[Path]) -> None:
    recipe = replace(
        RECIPE, steps=120, batch=4, learning_rate=8e-3, validate_every=0, degradations={"noise:40": 1.0}, ema=0.98
    )
    made, samples = trainer(tmp_path, photos, recipe)
    seen = list(made.run(samples))
    assert seen[-1].validation is not None
    made.validation = made.validation[:1]  # noise
    assert made.validate().gain > 1.5


def test_a_trained_model_holds_the_ema_weights(tmp_path: Path, photos: list[Path]) -> None:
    made, samples = trainer(tmp_path, photos)
    list(made.run(samples))
    folder = made.finish({"base": "scratch"})
    model = load_model(str(folder))
    averaged = made.learner.ema.state()
    for name, tensor in model.refiner.state_dict().items():
        assert torch.equal(tensor, averaged[f"refiner.{name}"].half().float()), name
    assert json.loads((folder / "restoration/config.json").read_text())["training"] == {"base": "scratch"}


def test_progress_is_reported_and_metrics_are_written(tmp_path: Path, photos: list[Path]) -> None:
    made, samples = trainer(tmp_path, photos)
    seen = list(made.run(samples))
    assert [progress.step for progress in seen] == list(range(1, 11))
    assert [progress.step for progress in seen if progress.validation is not None] == [4, 8, 10]
    assert seen[-1].share == 1
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 10]
    assert lines[-1]["validation"] == seen[-1].validation


def test_a_time_limit_ends_the_run_and_its_schedule(tmp_path: Path, photos: list[Path]) -> None:
    made, samples = trainer(tmp_path, photos, replace(RECIPE, steps=10_000), max_minutes=0.02)
    seen = list(made.run(samples))
    assert len(seen) < 10_000
    assert seen[-1].share == 1
    assert seen[-1].learning_rate < 0.5 * max(progress.learning_rate for progress in seen)


def test_resuming_requires_a_checkpoint_of_the_same_recipe(tmp_path: Path, photos: list[Path]) -> None:
    made, samples = trainer(tmp_path, photos)
    with pytest.raises(UsageError, match="no checkpoint"):
        made.resume()
    list(islice(made.run(samples), 1))
    made.save_checkpoint()
    other, _ = trainer(tmp_path, photos, replace(RECIPE, learning_rate=1e-3))
    with pytest.raises(UsageError, match="another recipe: it differs in learning_rate"):
        other.resume()
    # The number of workers does not change the result of training.
    trainer(tmp_path, photos, replace(RECIPE, workers=3))[0].resume()


def test_a_diverged_run_stops_with_an_error(tmp_path: Path, photos: list[Path]) -> None:
    made, samples = trainer(tmp_path, photos)
    with torch.no_grad():
        next(made.objective.modules.parameters()).fill_(float("nan"))
    with pytest.raises(SanarestoreError, match=r"not a number at step 1.*learning_rate"):
        list(made.run(samples))


def break_steps(made: Trainer, monkeypatch: pytest.MonkeyPatch, steps: Callable[[int], bool]) -> None:
    """Make the loss infinite at some steps, counted from the first that is computed."""
    computed, loss = count(), made.learner.loss

    def broken(batch: Batch) -> torch.Tensor:
        value = loss(batch)
        return value * float("inf") if steps(next(computed)) else value

    monkeypatch.setattr(made.learner, "loss", broken)


def test_a_run_that_diverges_goes_back_and_on_at_half_the_rate(
    tmp_path: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, samples = trainer(tmp_path, photos)
    break_steps(made, monkeypatch, lambda number: number == 4)
    made.begin()
    seen = list(made.run(samples))
    assert [progress.step for progress in seen] == [1, 2, 3, 4, 4, 5, 6, 7, 8, 9, 10]
    assert seen[4].learning_rate == pytest.approx(seen[3].learning_rate / 2, rel=0.2)
    (note,) = seen[4].notes
    assert note.startswith("the loss is not a number at step 5: back to step 3, at 0.5 times the learning rate")
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if record.get("event") == "setback"] == [3]


def test_a_run_that_diverges_at_once_goes_back_to_its_beginning(
    tmp_path: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, samples = trainer(tmp_path, photos)
    break_steps(made, monkeypatch, lambda number: number == 0)
    made.begin()
    assert [progress.step for progress in made.run(samples)] == list(range(1, 11))


def test_a_run_that_keeps_diverging_stops_and_keeps_its_checkpoint(
    tmp_path: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, samples = trainer(tmp_path, photos)
    break_steps(made, monkeypatch, lambda number: number >= 4)
    made.begin()
    with pytest.raises(Diverged, match=r"not a number at step 4.*last checkpoint stays"):
        list(made.run(samples))
    resumed, _ = trainer(tmp_path, photos)
    resumed.resume()
    assert resumed.step == 3


def test_a_run_resumed_after_a_setback_equals_an_uninterrupted_one(
    tmp_path: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, samples = trainer(tmp_path / "whole", photos)
    break_steps(whole, monkeypatch, lambda number: number == 4)
    whole.begin()
    list(whole.run(samples))

    first, samples = trainer(tmp_path / "parts", photos)
    break_steps(first, monkeypatch, lambda number: number == 4)
    first.begin()
    running = first.run(samples)
    list(islice(running, 6))
    running.close()
    second, samples = trainer(tmp_path / "parts", photos)
    second.resume()
    list(second.run(samples))
    expected, got = weights_of(whole), weights_of(second)
    assert all(torch.equal(expected[name], got[name]) for name in expected)


@pytest.mark.parametrize("objective", ["refiner", "flow", "end-to-end"])
def test_a_batch_in_parts_takes_the_same_step(tmp_path: Path, photos: list[Path], objective: str) -> None:
    recipe = replace(
        TINY_RECIPE, objective=objective, steps=2, batch=4, warmup=1, workers=0, validation_photos=0,
        degradations={"noise:30": 1.0}, draws=2,
    )  # fmt: skip
    found = []
    for parts in (1, 2, 4):
        made, samples = trainer(tmp_path / str(parts), photos, replace(recipe, accumulate=parts))
        losses = [progress.loss for progress in made.run(samples)]
        found.append((losses, weights_of(made)))
    (losses, weights), *others = found
    for other_losses, other in others:
        assert other_losses == pytest.approx(losses, abs=2e-3)
        assert all(torch.allclose(weights[name], other[name], atol=2e-4) for name in weights)


def test_a_batch_that_cannot_be_divided_is_refused(tmp_path: Path, photos: list[Path]) -> None:
    with pytest.raises(UsageError, match=r"a batch of 2 cannot be divided equally into 3 parts\. Use a multiple of 3"):
        trainer(tmp_path, photos, replace(RECIPE, accumulate=3))


def test_more_steps_lengthen_a_finished_run(tmp_path: Path, photos: list[Path]) -> None:
    made, samples = trainer(tmp_path, photos)
    list(made.run(samples))
    longer, samples = trainer(tmp_path, photos, replace(RECIPE, steps=14))
    longer.resume()
    assert [progress.step for progress in longer.run(samples)] == [11, 12, 13, 14]
    shorter, _ = trainer(tmp_path, photos, replace(RECIPE, steps=12))
    with pytest.raises(UsageError, match="differs in steps"):
        shorter.resume()


def test_a_run_without_ema_trains_and_saves_its_own_weights(tmp_path: Path, photos: list[Path]) -> None:
    made, samples = trainer(tmp_path, photos, replace(RECIPE, ema=0.0, steps=3))
    list(made.run(samples))
    assert made.learner.ema.state() == {}
    model = load_model(str(made.finish({})))
    trained = made.objective.modules["refiner"].state_dict()  # type: ignore[index, operator]
    assert all(torch.equal(tensor.half().float(), model.refiner.state_dict()[name]) for name, tensor in trained.items())


def test_metrics_begin_with_the_facts_of_the_run(tmp_path: Path, photos: list[Path]) -> None:
    made, samples = trainer(tmp_path, photos)
    before = made.begin()
    list(made.run(samples))
    facts, at_first, *rest = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert (facts["event"], facts["processes"], facts["batch_per_process"], facts["dtype"]) == (
        "start",
        1,
        2,
        "float32",
    )
    assert facts["trained_parameters"] == sum(each.numel() for each in made.objective.modules.parameters())
    assert before is not None
    assert before.before is not None
    assert (at_first["event"], at_first["validation"]) == ("before", before.before.gain)
    assert [record["step"] for record in rest] == [4, 8, 10]


@pytest.mark.parametrize("where", ["AdamW", "average", "validation"])
def test_ctrl_c_within_a_step_does_not_change_the_resumed_run(
    where: str, tmp_path: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, samples = trainer(tmp_path / "whole", photos)
    list(whole.run(samples))
    first, samples = trainer(tmp_path / "parts", photos)
    target = {"AdamW": first.learner.optimizers[0], "average": first.learner.ema, "validation": first.learner.ema}[
        where
    ]
    name = {"AdamW": "step", "average": "update", "validation": "swap"}[where]
    real, calls = getattr(target, name), 0

    def interrupt(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 3:
            signal.raise_signal(signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(target, name, interrupt)
    with pytest.raises(KeyboardInterrupt):
        list(first.run(samples))
    second, samples = trainer(tmp_path / "parts", photos)
    second.resume()
    assert second.step == (8 if where == "validation" else 3)
    list(second.run(samples))
    expected, got = weights_of(whole), weights_of(second)
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    averaged = whole.learner.ema.state()
    assert all(torch.equal(averaged[name], tensor) for name, tensor in second.learner.ema.state().items())


def test_periodic_validation_and_checkpoints_can_be_turned_off(tmp_path: Path, photos: list[Path]) -> None:
    made, samples = trainer(tmp_path, photos, replace(RECIPE, validate_every=0, checkpoint_every=0))
    seen = list(made.run(samples))
    assert [progress.step for progress in seen if progress.validation is not None] == [10]
    assert (tmp_path / "checkpoint").is_dir()


def test_resuming_with_other_photos_is_refused(tmp_path: Path, photos: list[Path]) -> None:
    made, samples = trainer(tmp_path, photos)
    made.data = "1a2b"
    list(islice(made.run(samples), 1))
    made.save_checkpoint()
    other, _ = trainer(tmp_path, photos)
    other.data = "3c4d"
    with pytest.raises(UsageError, match="not those that the run began with"):
        other.resume()


def test_unreadable_photos_are_reported_once_and_left_out(tmp_path: Path, photos: list[Path]) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(photos[0].read_bytes()[:200])
    made, _ = trainer(tmp_path, photos)
    seen = list(made.run(PhotoSamples([photos[1], bad], RECIPE)))
    notes = {note for progress in seen for note in progress.notes}
    assert len(notes) == 1
    assert str(bad) in notes.pop()
    assert len(seen) == 10


def test_progress_converts_to_json() -> None:
    progress = TrainingProgress(
        step=1, steps=2, loss=0.5, learning_rate=1e-3, images_per_second=3, minutes=1, share=0.5
    )
    assert json.loads(json.dumps(progress.to_dict()))["validation"] is None
