"""Teachers restore as the models they are, in any view, and only those who learn from them change."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sanarestore.errors import UsageError
from sanarestore.model.loading import load_model, save_model
from sanarestore.model.prompts import PromptEncoder
from sanarestore.training.data import Batch
from sanarestore.training.objectives import new_objective
from sanarestore.training.teachers import VIEWS, Teacher, Teachers, turned, turned_back
from tests.conftest import random_refiner
from tests.published import TINY_RECIPE as RECIPE
from tests.published import latent_path
from tests.training.test_objectives import batch


def saved(folder: Path, encoder: PromptEncoder, **changes: Any) -> str:
    """A random model on disk."""
    save_model(
        folder, name="teacher", refiner=random_refiner(), encoder=encoder, usual_prompts=["remove noise"],
        defaults={"prompt": "remove noise", "latent": False}, training={}, **changes,
    )  # fmt: skip
    return str(folder)


def test_every_view_is_another_and_is_turned_back() -> None:
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    views = [turned(image, view) for view in range(VIEWS)]
    assert all(torch.equal(turned_back(each, view), image) for view, each in enumerate(views))
    assert not any(torch.equal(views[one], views[other]) for one in range(VIEWS) for other in range(one))


def test_a_teacher_restores_as_its_model_does(tmp_path: Path, encoder: PromptEncoder) -> None:
    teacher = Teacher.load(saved(tmp_path / "model", encoder))
    model = load_model(str(tmp_path / "model"))
    given = batch()
    with torch.no_grad():
        prompt_BD = model.prompts.pooled("remove noise").expand(4, -1)
        expected = model.refiner(given.degraded_BCHW, given.degraded_BCHW, prompt_BD, given.tone_BK)
        mirrored = model.refiner(given.degraded_BCHW.flip(3), given.degraded_BCHW.flip(3), prompt_BD, given.tone_BK)
    torch.testing.assert_close(teacher(given, 0), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(teacher(given, VIEWS // 2), mirrored.flip(3), atol=1e-5, rtol=0)
    assert (mirrored.flip(3) - expected).abs().max() > 1e-3  # or there would be nothing to learn from another view


def test_each_restores_its_share_in_views_that_the_step_draws() -> None:
    class Told(torch.nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.value, self.views = value, []

        def forward(self, given: Batch, view: int) -> torch.Tensor:
            self.views.append(view)
            return torch.full_like(given.degraded_BCHW, self.value)

    told = [Told(1.0), Told(2.0), Told(3.0)]
    teachers = Teachers(told)  # type: ignore[arg-type]
    taught = teachers(batch(), seed=5)
    assert taught.mean(dim=(1, 2, 3)).tolist() == [1, 2, 3, 1]
    for number in range(40):
        teachers(replace(batch(), number=number), seed=5)
    for each in told:
        assert set(each.views) == set(range(VIEWS))
    assert told[0].views != told[1].views
    assert told[0].views[0] == told[0].views[1]  # of one step, whatever was drawn before


def test_the_mean_of_the_views_is_what_is_learnt(tmp_path: Path, encoder: PromptEncoder) -> None:
    """Nearer to it than to the teacher as it stands, and the teacher stays as it was."""
    name = saved(tmp_path / "model", encoder)
    shape = replace(RECIPE.model, widths=(8, 8, 16, 16), tone=0)
    recipe = replace(RECIPE, model=shape, teachers=(name,), taught=1.0, loss_floor=1e-2, coarse_weight=0.0)
    objective: Any = new_objective(recipe, name)
    objective.to(torch.device("cpu"))
    teacher = Teacher.load(name)
    given = replace(batch(), target_BCHW=batch().degraded_BCHW)
    mean = torch.stack([teacher(given, view) for view in range(VIEWS)]).mean(dim=0)
    optimizer = torch.optim.AdamW(objective.modules.parameters(), 1e-3)
    for number in range(60):
        loss = objective.loss(replace(given, number=number))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        learnt = objective.restore(given)
    before = (teacher(given, 0) - mean).square().mean()
    assert (learnt - mean).square().mean() < before / 2
    untouched = Teacher.load(name).state_dict()
    assert all(
        torch.equal(tensor, untouched[key]) for key, tensor in objective._teachers.teachers[0].state_dict().items()
    )
    assert not any(parameter.requires_grad for parameter in objective._teachers.parameters())


def test_a_model_that_refines_what_it_generates_is_no_teacher(tmp_path: Path, encoder: PromptEncoder) -> None:
    name = saved(tmp_path / "model", encoder, latent=latent_path(prompt_width=encoder.width))
    assert Teacher.load(name)
    defaults = {"prompt": "remove noise", "latent": True}
    save_model(
        tmp_path / "other", name="teacher", refiner=random_refiner(), encoder=encoder, usual_prompts=["remove noise"],
        defaults=defaults, training={}, latent=latent_path(prompt_width=encoder.width),
    )  # fmt: skip
    with pytest.raises(UsageError, match="what its latent path generates"):
        Teacher.load(str(tmp_path / "other"))
