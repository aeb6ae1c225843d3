"""Tests of refinement by experts: which expert restores a photograph, and with what result."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sanarestore.engine import refinement
from sanarestore.engine.file_restorer import FileRestorer
from sanarestore.engine.jobs import Job
from sanarestore.engine.restorer import Restorer
from sanarestore.model.experts import SHARED, Experts
from sanarestore.model.loading import RestorationModel
from sanarestore.model.routing import routing_features
from sanarestore.options import RestoreOptions
from tests.conftest import photo, random_refiner, save_photo
from tests.engine.test_file_restorer import through
from tests.engine.test_restorer import ROUNDING, difference, image_of, ran


def with_experts(model: RestorationModel, chosen: str | None) -> RestorationModel:
    """Return the model with two experts; the router picks `chosen` for every photograph."""
    general, experts = random_refiner(colour_correction=4), {}
    for seed, name in enumerate(("noise", "jpeg")):
        experts[name] = copy.deepcopy(general)
        generator = torch.Generator().manual_seed(seed)
        for key, parameter in experts[name].named_parameters():
            if key.split(".")[0] not in SHARED:
                parameter.data += 0.01 * torch.randn(parameter.shape, generator=generator)
    found = Experts.of(general, experts)
    found.router.requires_grad_(False)
    found.router.choice.weight.zero_()
    found.router.choice.bias.copy_(torch.tensor([float(chosen == name) for name in (None, "noise", "jpeg")]) * 9)
    return replace(model, refiner=general, experts=found)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("chosen", ["noise", "jpeg", None])
def test_the_chosen_expert_restores_the_photograph(
    chosen: str | None, dtype: str, tiny_model: RestorationModel
) -> None:
    """The result equals that of a model whose refiner is the expert, which is built before the cast."""
    model, image = with_experts(tiny_model, chosen), image_of(photo(90, 130))
    assert model.experts
    restorer = Restorer(RestoreOptions(dtype=dtype), device="cpu", model=model)  # type: ignore[arg-type]
    refiner = model.experts.refiner(chosen, model.refiner) if chosen else model.refiner
    alone = replace(model, refiner=refiner, experts=None)
    assert difference(restorer(image), ran(alone, image, dtype=dtype)) == 0
    general = ran(replace(model, experts=None), image, dtype=dtype)
    assert (difference(restorer(image), general) > 1e-3) == (chosen is not None)
    assert restorer.expert == chosen


def test_an_outcome_names_the_expert(tiny_model: RestorationModel, tmp_path: Path) -> None:
    source = save_photo(tmp_path / "in.png", 40, 50)
    for chosen in ("jpeg", None):
        restorer = Restorer(RestoreOptions(), device="cpu", model=with_experts(tiny_model, chosen))
        outcomes, _ = through(FileRestorer(restorer), Job(source=source, target=tmp_path / f"{chosen}.png"))
        assert outcomes[0].to_json()["expert"] == chosen


def test_one_expert_is_chosen_for_all_tiles_of_a_photograph(
    tiny_model: RestorationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The choice is made once, from the whole photograph."""
    model, seen = with_experts(tiny_model, "jpeg"), []
    monkeypatch.setattr(
        refinement,
        "routing_features",
        lambda image_CHW: seen.append(tuple(image_CHW.shape)) or routing_features(image_CHW),
    )
    image = image_of(photo(150, 410))
    whole = ran(model, image, tile=1024)
    assert difference(ran(model, image, tile=64), whole) < ROUNDING
    assert seen == [(3, 150, 410)] * 2


def test_an_expert_is_built_once_for_all_photographs(
    tiny_model: RestorationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, made = with_experts(tiny_model, "noise"), []
    refiner = Experts.refiner
    monkeypatch.setattr(Experts, "refiner", lambda *given: made.append(given[1]) or refiner(*given))
    restorer = Restorer(RestoreOptions(), device="cpu", model=model)
    for seed in range(3):
        restorer(image_of(photo(40, 50, seed)))
    assert made == ["noise"]
