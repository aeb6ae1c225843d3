"""The plan of a run: figures, a trial step that changes nothing, and refusals before anything is written."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from sanarestore.errors import UsageError
from sanarestore.training import fitting, plan
from sanarestore.training.learner import Learner
from sanarestore.training.loop import Trainer
from sanarestore.training.order import SCRATCH, Order, choose_recipe
from sanarestore.training.plan import plan_of, trial_seconds
from sanarestore.training.progress import Schedule
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.run import Run
from tests.published import TINY_RECIPE
from tests.training.test_objectives import made

RECIPE = replace(
    TINY_RECIPE, steps=3, batch=2, patch=32, warmup=1, workers=0, validation_photos=1, validate_every=0,
    checkpoint_every=0, degradations={"noise:30": 1.0},
)  # fmt: skip


pytestmark = pytest.mark.usefixtures("unestimated_memory")


@pytest.fixture
def folder(photos: list[Path], tmp_path: Path) -> Path:
    """A folder of photographs."""
    (tmp_path / "photos").mkdir()
    for path in photos:
        path.rename(tmp_path / "photos" / path.name)
    return tmp_path / "photos"


def a_run(data: Path, recipe: TrainingRecipe = RECIPE, folder: str = "run", **order: Any) -> Run:
    return Run(Order(data=data, folder=data.parent / folder, base=SCRATCH, **order), recipe)


@pytest.mark.usefixtures("estimated_memory")
def test_a_plan_says_what_a_run_will_do_and_take(folder: Path) -> None:
    found = plan_of(a_run(folder))
    assert (found.kind, found.samples, found.held_back, found.steps, found.step) == ("photos", 2, 1, 3, 0)
    assert found.megapixels in [(90 * 120 + 150 * 70) / 1e6, (90 * 120 + 40 * 200) / 1e6, (40 * 200 + 150 * 70) / 1e6]
    assert found.passes == pytest.approx(3 * 2 * 32**2 / (found.megapixels * 1e6))
    assert 0 < found.trained_parameters <= found.parameters
    assert found.memory["trained"] >= 4 * found.trained_parameters
    assert found.memory["total"] == sum(size for name, size in found.memory.items() if name != "total")
    assert found.memory_free is not None
    assert found.memory["total"] < found.memory_free
    assert found.seconds_per_step is not None
    assert found.seconds == pytest.approx(3 * found.seconds_per_step)
    assert found.checkpoint_bytes > 8 * found.trained_parameters
    assert not (folder.parent / "run").exists()
    assert plan_of(a_run(folder), tries=False).seconds is None


@pytest.mark.usefixtures("estimated_memory")
def test_a_checkpoint_and_a_result_have_about_the_planned_size(folder: Path) -> None:
    run = a_run(folder)
    found = plan_of(run)
    with run.begun():
        list(run.steps())
        model = run.finish()
    saved = sum(path.stat().st_size for path in (folder.parent / "run/checkpoint").glob("*.safetensors"))
    assert saved == pytest.approx(found.checkpoint_bytes, rel=0.15)
    written = sum(
        path.stat().st_size for path in model.rglob("*.safetensors") if path.name != "prompts.safetensors"
    )  # fmt: skip
    assert written == pytest.approx(found.result_bytes, rel=0.3), "the headers of so small files count"


def test_a_time_limit_ends_the_planned_time(folder: Path) -> None:
    found = replace(plan_of(a_run(folder), tries=False), seconds_per_step=60.0, max_minutes=2.0)
    assert found.seconds == 120
    assert replace(found, max_minutes=None).seconds == 180
    assert replace(found, step=2).seconds == 60


def test_a_run_that_was_tried_ends_with_the_same_weights(folder: Path) -> None:
    ends = []
    for name, is_tried in (("plain", False), ("tried", True)):
        run = a_run(folder, folder=name)
        if is_tried:
            plan_of(run)
        with run.begun():
            list(run.steps())
        ends.append({key: tensor.clone() for key, tensor in run.trainer.objective.modules.state_dict().items()})
        ends.append(run.trainer.learner.ema.state())
    for one, other in ((ends[0], ends[2]), (ends[1], ends[3])):
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_trial_leaves_weights_gradients_random_numbers_and_memories_alone(folder: Path) -> None:
    objective: Any = made("router", patch=32, batch=2)
    recipe = replace(RECIPE, objective="router")
    trainer = Trainer(folder.parent / "run", objective, recipe, Schedule())
    samples = a_run(folder).samples
    before = {key: tensor.clone() for key, tensor in objective.modules.state_dict().items()}
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    assert trial_seconds(trainer, samples, 0) > 0
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(before[key], tensor) for key, tensor in objective.modules.state_dict().items())
    assert all(parameter.grad is None for parameter in objective.modules.parameters())


def test_a_run_to_resume_is_planned_from_its_checkpoint_on(folder: Path) -> None:
    run = a_run(folder)
    with run.begun():
        list(run.steps())
    longer = replace(RECIPE, steps=9)
    found = plan_of(a_run(folder, longer, resume=True))
    assert (found.step, found.steps) == (3, 9)
    assert plan_of(a_run(folder, resume=True)).seconds_per_step is None, "no step is left"


@pytest.mark.usefixtures("estimated_memory")
def test_memory_that_runs_out_in_a_trial_step_is_answered_with_advice(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(folder)

    def too_much(*_: object) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Learner, "backward", too_much)
    with pytest.raises(UsageError, match=r"memory ran out in a trial step.* would fit with accumulate = 2"):
        plan_of(run)


@pytest.mark.usefixtures("estimated_memory")
def test_a_run_that_does_not_fit_is_refused_before_its_folder_is_made(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "free_memory", lambda: 10**5)
    with pytest.raises(UsageError, match="a training step takes about"):
        a_run(folder)
    assert not (folder.parent / "run").exists()


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_disk_without_room_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "disk_usage", lambda _: Usage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(UsageError, match=r"checkpoints and result take .* and 0\.0 MB are free"):
        plan_of(a_run(folder))


def test_a_place_that_cannot_be_written_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", denied)
    with pytest.raises(UsageError, match=r"nothing can be written there \(Permission denied\)"):
        plan_of(a_run(folder))


@pytest.mark.parametrize(
    ("order", "steps"),
    [({"rank": 4}, 300), ({}, 300), ({"steps": 7}, 7), ({"schedule": Schedule(max_minutes=5)}, 40_000)],
)
def test_the_default_recipe_has_steps_for_the_data_if_nobody_names_any(
    order: dict[str, Any], steps: int, folder: Path
) -> None:
    assert choose_recipe(Order(data=folder, folder=folder.parent / "run", **order)).steps == steps
    shutil.rmtree(folder)
    if steps != 300:
        return
    folder.mkdir()
    assert choose_recipe(Order(data=folder, folder=folder.parent / "run", **order)).steps == 300
