"""Distillation to few steps: the tangent, the teacher, learning, results and refusals."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sanarestore.errors import UsageError, WeightsError
from sanarestore.flow import SIGMA_DATA, Field, training_angles, trigonometric
from sanarestore.model.loading import load_model
from sanarestore.model.prompts import PromptEncoder
from sanarestore.training.distilling import (
    TANGENT_FLOOR,
    DistillationObjective,
    change_along,
    check_teacher,
    consistency_loss,
    normalized_tangent,
)
from sanarestore.training.memory import Setting, estimate_memory
from sanarestore.training.objectives import new_objective, objective_of
from sanarestore.training.order import Order
from sanarestore.training.ranks import Ranks
from sanarestore.training.run import runs
from sanarestore.training.starting import Start, from_scratch
from tests.published import CHANNELS, SPRINT, latent_path, tiny_transformer, write_published
from tests.published import TINY_RECIPE as TINY
from tests.training.test_objectives import batch

RECIPE = replace(TINY, objective="distillation", teacher=True, tangent_warmup=0, time_window=0.0, batch=4)
FLOW = replace(TINY, objective="flow")
NORMS = {"qk_norm": "rms_norm_across_heads"}


def distilling(**changes: Any) -> Any:
    """Distillation of a random transformer of the published class, whose condition has an effect."""
    recipe = replace(RECIPE, **changes)
    path = latent_path(prompt_width=TINY.model.prompt_width, kind="patch-embed", **NORMS)
    return objective_of(replace(from_scratch(recipe), latent=path), recipe)


def field_of(objective: DistillationObjective, transformer: Any = None) -> Field:
    """The field on the trigonometric path, by default of the transformer in training."""
    with torch.no_grad():
        condition, _ = objective.latents(batch())
        tokens = objective._tokens(batch())
    transformer = transformer or objective.parts.path.transformer
    return trigonometric(lambda latent, time: transformer(latent, condition, tokens, time))


def drawn(seed: int) -> Tensor:
    return torch.randn(4, CHANNELS, 2, 2, generator=torch.Generator().manual_seed(seed))


def test_the_tangent_is_that_of_finite_differences() -> None:
    objective = distilling()
    field, point, slope = field_of(objective), drawn(0), drawn(1)
    angle, apart = torch.tensor([0.1, 0.5, 1.0, 1.5]), 1e-4

    def end(shift: float) -> Tensor:
        at, moved = angle + shift, point + shift * slope
        cosine, sine = at.cos()[:, None, None, None], at.sin()[:, None, None, None]
        return cosine * moved - sine * field(moved, at)

    with torch.no_grad():
        change = angle.cos()[:, None, None, None] * (end(apart) - end(-apart)) / (2 * apart) * SIGMA_DATA
        size = change.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        changes = [change_along(field, point, angle, slope, window) for window in (0.0, apart)]
        found = normalized_tangent(field(point, angle), changes[0], point, angle, slope, 1.0)
        averaged = normalized_tangent(field(point, angle), changes[1], point, angle, slope, 1.0)
    expected = change / (size + TANGENT_FLOOR)
    assert float(size.min()) > 0.02, "there is something to compare"
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.02)
    torch.testing.assert_close(averaged, found, atol=0.02, rtol=0.02)


def test_the_averaged_change_ignores_fluctuations_and_stays_on_the_path() -> None:
    """A field that fluctuates within a thousandth of its time range, like networks with fine timesteps."""
    asked = []

    def field(point: Tensor, angle: Tensor) -> Tensor:
        asked.append(angle)
        wiggle = 0.05 * torch.sin(800 * angle)
        return (angle.square() + wiggle)[:, None, None, None] * torch.ones_like(point)

    point, angle = drawn(0), torch.tensor([0.0, 0.5, 1.0, torch.pi / 2])
    exact, mean = (change_along(field, point, angle, torch.zeros_like(point), window) for window in (0.0, 0.05))
    expected = angle.cos() * angle.sin() * 2 * angle
    assert float((mean[:, 0, 0, 0] - expected).abs().max()) < 0.6
    assert float((exact[:, 0, 0, 0] - expected).abs().max()) > 6
    assert min(float(each.min()) for each in asked) >= 0
    assert max(float(each.max()) for each in asked) <= torch.pi / 2 + 1e-6


def test_before_training_the_student_is_the_teacher_and_the_warm_up_costs_nothing() -> None:
    objective = distilling(tangent_warmup=10)
    point, angle = drawn(0), torch.tensor([0.1, 0.5, 1.0, 1.5])
    with torch.no_grad():
        taught, own = (field_of(objective, each)(point, angle) for each in (objective.teacher, None))
        torch.testing.assert_close(taught, own, atol=1e-6, rtol=1e-6)
        assert float(objective.loss(batch())) < 1e-8
        assert float(objective.loss(replace(batch(), number=5))) > 1e-3
        one = objective.loss(replace(batch(), number=10))
        assert torch.equal(objective.loss(replace(batch(), number=99)), one), "the warm-up is over"


def trained(objective: Any, steps: int, rate: float) -> None:
    optimizer = torch.optim.AdamW(objective.modules.parameters(), rate)
    for step in range(steps):
        loss = objective.loss(replace(batch(), number=step, first=4 * step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class Scaling(torch.nn.Module):
    """F(x, t) = a(t) x with a small network for a: enough for Gaussian latents, whose velocity is of that form."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Sequential(torch.nn.Linear(1, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))

    def forward(self, point: Tensor, angle: Tensor) -> Tensor:
        return self.net(angle[:, None])[:, :, None, None] * point  # type: ignore[no-any-return]


@pytest.mark.parametrize("window", [0.0, 0.02])
def test_one_step_learns_where_the_path_of_the_teacher_ends(window: float) -> None:
    """Latents N(0, c^2) have known paths: noise e ends at c e, while one step of the teacher gives their mean, 0."""
    spread, count = 0.4, 256

    def taught(point: Tensor, angle: Tensor) -> Tensor:
        variance = spread**2 * angle.cos() ** 2 + angle.sin() ** 2
        return ((1 - spread**2) * angle.cos() * angle.sin() / variance)[:, None, None, None] * point

    student, generator = Scaling(), torch.Generator().manual_seed(1)

    @torch.no_grad()
    def scale() -> float:
        """The student's single step from noise, divided by it."""
        return -float(student(torch.ones(1, 1, 1, 1), torch.full((1,), torch.pi / 2)))

    def learn(steps: int, loss_of: Callable[[Tensor, Tensor], Tensor]) -> float:
        optimizer = torch.optim.Adam(student.parameters(), 5e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            angle = training_angles(count, generator)
            clean, noise = torch.randn(2, count, 2, 2, 2, generator=generator)
            cosine, sine = angle.cos()[:, None, None, None], angle.sin()[:, None, None, None]
            optimizer.zero_grad()
            loss_of(cosine * spread * clean + sine * noise, angle).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        return scale()

    mean = learn(300, lambda point, angle: (student(point, angle) - taught(point, angle)).square().mean())
    assert abs(mean) < 0.1, "the teacher's single step"
    end = learn(
        600, lambda point, angle: consistency_loss(student, point, angle, taught(point, angle), share=1, window=window)
    )
    assert end == pytest.approx(spread, abs=0.06)


def test_training_changes_the_student_and_not_the_teacher() -> None:
    objective = distilling(draws=2)
    teacher = {name: tensor.clone() for name, tensor in objective.teacher.state_dict().items()}
    trained(objective, 2, 1e-3)
    student = objective.parts.path.transformer.state_dict()
    assert all(torch.equal(teacher[name], tensor) for name, tensor in objective.teacher.state_dict().items())
    assert not any(torch.equal(teacher[name], student[name]) for name in ("transformer.proj_out.weight",))


def flow_adapter(folder: Path, encoder: PromptEncoder, rank: int | None) -> Start:
    """An adapter of a published base whose attention has norms, as flow training writes it; its name to begin from."""
    base = write_published(folder / "base", encoder)
    tiny_transformer(caption_channels=encoder.width, **NORMS).save_pretrained(base / "transformer")
    objective = new_objective(FLOW, Start(base=str(base), rank=rank))
    with torch.no_grad():
        for parameter in objective.modules.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    objective.save(folder / "teacher", FLOW, {})
    return Start(base=str(folder / "teacher"))


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "cache")


@pytest.mark.parametrize("rank", [2, None])
def test_an_adapter_of_many_steps_becomes_one_of_few_that_brings_its_solver(
    rank: int | None, tmp_path: Path, encoder: PromptEncoder
) -> None:
    start = flow_adapter(tmp_path, encoder, rank)
    teacher = load_model(None, start.base).latent
    objective: Any = new_objective(RECIPE, start)
    trained(objective, 2, 1e-2)
    objective.save(tmp_path / "student", RECIPE, {})
    index = json.loads((tmp_path / "student/adapter.json").read_text())
    assert index["change"] == ("lora" if rank else "full")
    assert {"steps": 1, "steps_range": [1, 4], "solver": "consistency"}.items() <= index["defaults"].items()
    found = load_model(None, str(tmp_path / "student")).latent
    assert teacher
    assert found
    assert (teacher.flow.solver, found.flow.solver) == ("dpm", "consistency")
    with pytest.raises(UsageError, match="distilled to few steps"):
        new_objective(FLOW, Start(base=str(tmp_path / "student")))
    with pytest.raises(UsageError, match="model of few steps"):
        new_objective(RECIPE, Start(base=str(tmp_path / "student")))


def test_the_teacher_of_low_rank_weights_shares_the_base(tmp_path: Path, encoder: PromptEncoder) -> None:
    objective: Any = new_objective(RECIPE, flow_adapter(tmp_path, encoder, 2))
    own, taught = (each.transformer.proj_out.weight for each in (objective.parts.path.transformer, objective.teacher))
    assert own is taught
    point, angle = drawn(0), torch.tensor([0.1, 0.5, 1.0, 1.5])
    with torch.no_grad():
        before = field_of(objective, objective.teacher)(point, angle)
        trained_before = field_of(objective)(point, angle)
        torch.testing.assert_close(trained_before, before, atol=1e-6, rtol=1e-6)
    trained(objective, 3, 1e-2)
    with torch.no_grad():
        assert torch.equal(field_of(objective, objective.teacher)(point, angle), before)
        assert not torch.allclose(field_of(objective)(point, angle), before, atol=1e-4)
    low_rank = objective._everything[-1]
    assert type(low_rank).__name__ == "Lora", "it is moved to the device with the teacher"
    assert not any(parameter.requires_grad for parameter in low_rank.parameters())


def test_a_whole_model_is_written_with_its_solver(tmp_path: Path) -> None:
    new_objective(FLOW).save(tmp_path / "base", FLOW, {})
    new_objective(RECIPE, Start(base=str(tmp_path / "base"))).save(tmp_path / "model", RECIPE, {})
    found = load_model(str(tmp_path / "model"))
    assert found.latent
    assert found.latent.flow.solver == "consistency"
    assert found.defaults["steps_range"] == [1, 4]


def test_an_unknown_solver_of_an_adapter_is_refused(tmp_path: Path, encoder: PromptEncoder) -> None:
    start = flow_adapter(tmp_path, encoder, 2)
    path = Path(str(start.base), "adapter.json")
    index = json.loads(path.read_text())
    index["defaults"]["solver"] = "heun"
    path.write_text(json.dumps(index))
    with pytest.raises(WeightsError, match="'heun' is not a solver"):
        load_model(None, start.base)


def test_memory_is_estimated_with_the_teacher(tmp_path: Path, encoder: PromptEncoder) -> None:
    start = flow_adapter(tmp_path, encoder, None)
    recipe = replace(RECIPE, draws=64)
    alone, both = (
        estimate_memory(replace(recipe, teacher=teacher), start, Setting(length=8)) for teacher in (False, True)
    )
    assert both.frozen >= alone.frozen + both.trained
    assert both.activations > 0


def test_what_cannot_be_distilled_is_refused(tmp_path: Path, encoder: PromptEncoder) -> None:
    with pytest.raises(UsageError, match=r"--base scratch: there is no latent path.*teacher = false"):
        new_objective(RECIPE)
    base = str(write_published(tmp_path / "base", encoder))
    with pytest.raises(UsageError, match="its condition is untrained"):
        new_objective(RECIPE, Start(base=base))
    with pytest.raises(UsageError, match="does not normalise queries and keys"):
        new_objective(replace(RECIPE, teacher=False), Start(base=base))
    staged = replace(FLOW, stages=(FLOW, RECIPE))
    with pytest.raises(UsageError, match="does not normalise queries and keys"):
        next(runs(Order(data=tmp_path, folder=tmp_path / "run", base=base), staged))
    few = replace(from_scratch(RECIPE), latent=latent_path(prompt_width=8, **SPRINT), defaults={"prompt": "x"})
    with pytest.raises(UsageError, match="model of few steps"):
        check_teacher(few, RECIPE, "sprint")
    check_teacher(few, replace(RECIPE, teacher=False), "sprint")
    with pytest.raises(UsageError, match=r"--shard: .*forward-mode"):
        distilling().shard(Ranks())
    with pytest.raises(UsageError, match="grow and prune apply only to the objectives flow and end-to-end"):
        replace(RECIPE, prune=1).check()
