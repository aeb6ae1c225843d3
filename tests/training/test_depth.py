"""Runs that grow or prune the transformer of their base: measurements, records, resuming and refusals."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sanarestore import weights
from sanarestore.errors import UsageError
from sanarestore.model.depth import depth_of
from sanarestore.model.loading import load_model
from sanarestore.model.prompts import PromptEncoder
from sanarestore.training import run as run_module
from sanarestore.training.depth_record import FILE, DepthRecord
from sanarestore.training.memory import estimate_memory
from sanarestore.training.objectives import new_objective
from sanarestore.training.order import SCRATCH, Order, choose_recipe
from sanarestore.training.plan import plan_of
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.record import RunRecord
from sanarestore.training.run import Run, runs
from sanarestore.training.starting import Start
from tests.published import TINY_RECIPE, tiny_transformer, write_published
from tests.training.conftest import finished

FLOW = replace(
    TINY_RECIPE, objective="flow", steps=2, batch=2, patch=32, warmup=1, workers=0, validation_photos=0,
    validate_every=0, checkpoint_every=0, learning_rate=1e-3, degradations={"noise:30": 1.0},
)  # fmt: skip


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, unestimated_memory: None) -> None:
    """Measure importances on few samples, and skip the estimate of memory, which has its own test."""
    monkeypatch.setattr("sanarestore.training.depth.SAMPLES", 2)


@pytest.fixture
def base(tmp_path: Path, encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch) -> str:
    """A published base of five random blocks."""
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "cache")
    folder = write_published(tmp_path / "base", encoder)
    tiny_transformer(caption_channels=encoder.width, num_layers=5).save_pretrained(folder / "transformer")
    return str(folder)


def a_run(data: Path, base: str, folder: str = "run", *, resume: bool = False, **changes: Any) -> Run:
    order = Order(data=data, folder=data.parent / folder, base=base, resume=resume)
    return Run(order, replace(FLOW, **changes))


def depth(run: Run) -> int:
    return depth_of(run.trainer.objective.parts.path.transformer.transformer)  # type: ignore[attr-defined]


def blocks_in(folder: Path) -> int:
    return int(json.loads((folder / "transformer/config.json").read_text())["num_layers"])


def test_a_pruned_base_becomes_an_adapter_with_fewer_blocks(data: Path, base: str) -> None:
    run = a_run(data, base, prune=2, validation_photos=1)
    record = run.depth
    assert record is not None
    assert (record.before, record.after, len(record.removed), len(record.importances)) == (5, 3, 2, 5)
    assert set(record.removed) < {1, 2, 3}
    assert record.validation_before is not None
    assert record.validation_after is not None
    assert depth(run) == 3
    adapter = finished(run)
    assert weights.read_adapter_index(adapter)["change"] == "full"
    assert blocks_in(adapter) == 3
    latent = load_model(base, str(adapter)).latent
    assert latent is not None
    assert depth_of(latent.transformer.transformer) == 3
    (stage,) = weights.read_adapter_index(adapter)["training"]["stages"]
    assert stage["blocks"] == {"before": 5, "after": 3, "removed": [*record.removed]}
    found = RunRecord.read(run.folder)
    assert found.depth == record
    assert found.results.before == record.validation_after, "training begins from the pruned transformer"
    page = (run.folder / "report.html").read_text()
    assert record.words in page
    assert "Importance of the blocks" in page
    assert record.words in (adapter / "README.md").read_text()
    assert "Importance of the blocks" in (adapter / "curves.svg").read_text()


def test_a_grown_base_is_trained_on_from_the_one_without_its_last_blocks(data: Path, base: str) -> None:
    run = a_run(data, base, grow=3, validation_photos=1)
    assert run.depth is not None
    assert (run.depth.removed, run.depth.appended, run.depth.after, depth(run)) == ((3, 4), 3, 6, 6)
    shorter = a_run(data, base, folder="other", grow=1, validation_photos=1)
    assert run.depth.validation_after == shorter.depth.validation_after  # type: ignore[union-attr]
    adapter = finished(run)
    assert blocks_in(adapter) == 6
    again = Run(Order(data=data, folder=data.parent / "on", base=str(adapter)), FLOW)
    assert depth(again) == 6
    assert again.depth is None


def test_growth_that_keeps_all_blocks_costs_nothing(data: Path, base: str) -> None:
    found = a_run(data, base, grow=2, keep_all=True, validation_photos=1).depth
    assert found is not None
    assert found.after == 7
    assert found.validation_before == found.validation_after
    gain = f"{found.validation_before.gain:+.2f} dB"  # type: ignore[union-attr]
    assert found.cost() == f"{gain} before, {gain} with these blocks"


def test_the_new_blocks_alone_can_be_trained(data: Path, base: str) -> None:
    run = a_run(data, base, grow=1, new_blocks_only=True)
    transformer = run.trainer.objective.parts.path.transformer.transformer  # type: ignore[attr-defined]
    before = {name: each.clone() for name, each in transformer.state_dict().items()}
    finished(run)
    changed = {name for name, each in transformer.state_dict().items() if not torch.equal(each, before[name])}
    assert changed
    assert all(name.startswith("transformer_blocks.3.") for name in changed)


@pytest.mark.parametrize("changes", [{"prune": 1}, {"grow": 2}, {"grow": 1, "new_blocks_only": True}])
def test_a_resumed_run_has_the_same_blocks_and_weights_as_an_uninterrupted_one(
    data: Path, base: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = finished(a_run(data, base, folder="whole", **changes))
    finished(a_run(data, base, **changes), stop_at=1)
    monkeypatch.setattr(run_module, "change_depth", None)  # nothing is measured again
    resumed = a_run(data, base, resume=True, **changes)
    assert resumed.depth == DepthRecord.load(data.parent / "whole")
    again = finished(resumed)
    file = "transformer/diffusion_pytorch_model.safetensors"
    assert (again / file).read_bytes() == (whole / file).read_bytes()
    assert blocks_in(again) == (4 if "prune" in changes else 3 + changes["grow"])


def test_a_resumed_run_without_its_record_is_refused(data: Path, base: str) -> None:
    folder = finished(a_run(data, base, prune=1), stop_at=1)
    (folder / FILE).write_text("{")
    with pytest.raises(UsageError, match=r"depth\.json: cannot be read"):
        a_run(data, base, resume=True, prune=1)
    (folder / FILE).unlink()
    with pytest.raises(UsageError, match=r"depth\.json: is missing"):
        a_run(data, base, resume=True, prune=1)


def test_a_restoration_model_is_saved_whole_at_its_new_depth(data: Path) -> None:
    recipe = replace(FLOW, latent=replace(FLOW.latent, layers=3))
    model = finished(Run(Order(data=data, folder=data.parent / "first", base=SCRATCH), recipe))
    grown = finished(a_run(data, str(model), grow=1, keep_all=True))
    assert not weights.is_adapter(grown)
    assert blocks_in(grown) == 4
    latent = load_model(str(grown)).latent
    assert latent is not None
    assert depth_of(latent.transformer.transformer) == 4


def test_low_rank_changes_of_an_adapter_are_merged_before_its_depth_changes(data: Path, base: str) -> None:
    order = Order(data=data, folder=data.parent / "low", base=base, rank=2)
    low_rank = finished(Run(order, replace(FLOW, learning_rate=0.1)))
    expected = load_model(base, str(low_rank)).latent
    assert expected is not None
    run = a_run(data, str(low_rank), grow=1, keep_all=True)
    merged = run.trainer.objective.parts.path.transformer.transformer  # type: ignore[attr-defined]
    found = merged.state_dict()
    state = expected.transformer.transformer.state_dict()
    assert all(torch.equal(found[name], each) for name, each in state.items())
    assert weights.read_adapter_index(finished(run))["change"] == "full"


def test_only_the_first_stage_changes_the_depth(data: Path, base: str) -> None:
    table = {**FLOW.to_dict(), "grow": 1, "stages": [{"steps": 1}, {"steps": 1}]}
    recipe = TrainingRecipe.from_dict(table)
    assert [stage.grow for stage in recipe.stages] == [1, 0]
    assert TrainingRecipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    order = Order(data=data, folder=data.parent / "run", base=base)
    for each in runs(order, recipe):
        finished(each)
    assert [blocks_in(data.parent / f"run/stage-{number}/model") for number in (1, 2)] == [4, 4]
    assert blocks_in(data.parent / "run/model") == 4


def test_flags_are_for_the_first_stage(data: Path, base: str) -> None:
    path = data.parent / "staged.toml"
    path.write_text('[[stage]]\nobjective = "flow"\n[[stage]]\nobjective = "refiner"\n')
    order = Order(data=data, folder=data.parent / "run", base=base, recipe=path, prune=2)
    assert [stage.prune for stage in choose_recipe(order).stages] == [2, 0]


def test_the_recipe_follows_the_base_where_none_is_named(data: Path, base: str) -> None:
    order = Order(data=data, folder=data.parent / "mine", base=base, prune=3)
    found = choose_recipe(order)
    assert (found.name, found.objective, found.steps, found.patch, found.prune) == ("mine", "flow", 100, 512, 3)
    found = choose_recipe(replace(order, base=weights.EMBEDDED, prune=None, grow=1, keep_all=True, steps=7))
    assert (found.patch, found.grow, found.keep_all, found.prune, found.steps) == (128, 1, True, 0, 7)


@pytest.mark.parametrize("changes", [{"grow": 4, "keep_all": True}, {"prune": 3}])
def test_memory_is_estimated_at_the_new_depth_from_configurations(
    data: Path, base: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(data, base, **changes)
    trained = sum(each.numel() for each in run.trainer.objective.modules.parameters())
    assert plan_of(run, tries=False).trained_parameters == trained
    adapter = finished(run)
    monkeypatch.setattr("sanarestore.training.starting.load_base", None)
    assert estimate_memory(replace(FLOW, **changes), Start(base=base)).trained == 4 * trained
    again = estimate_memory(FLOW, Start(base=str(adapter)))
    assert again.trained == 4 * trained, "an adapter's own depth counts, not its base's"


def test_what_makes_no_sense_is_refused(data: Path, base: str, encoder: PromptEncoder, tmp_path: Path) -> None:
    for changes, message in (
        ({"prune": 1, "grow": 1}, "grow and prune exclude each other"),
        ({"keep_all": True}, "keep_all and new_blocks_only need grow"),
        ({"grow": 1, "objective": "refiner"}, "grow and prune apply only to the objectives flow and end-to-end"),
        ({"prune": -1}, "must not be negative"),
    ):
        with pytest.raises(UsageError, match=message):
            replace(FLOW, **changes).check()  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"the base has 5 blocks, and the first and the last stay.*Remove 3 at most"):
        a_run(data, base, prune=4)
    tiny_transformer(caption_channels=encoder.width, num_layers=2).save_pretrained(Path(base) / "transformer")
    with pytest.raises(UsageError, match="the base has 2 blocks, and growth drops the last 2"):
        a_run(data, base, grow=1)
    own = tmp_path / "flow.toml"
    own.write_text('objective = "flow"\ngrow = 1\n')
    order = Order(data=data, folder=data.parent / "run", base=base, recipe=own)
    with pytest.raises(UsageError, match="low-rank changes belong to the base's own blocks"):
        choose_recipe(replace(order, rank=4))
    with pytest.raises(UsageError, match="new weights have the depth of the recipe"):
        choose_recipe(replace(order, base=SCRATCH))


def test_a_base_without_a_transformer_is_refused(data: Path) -> None:
    model = finished(
        Run(Order(data=data, folder=data.parent / "first", base=SCRATCH), replace(FLOW, objective="refiner"))
    )
    with pytest.raises(UsageError, match="this base has no transformer"):
        new_objective(replace(FLOW, grow=1), Start(base=str(model)))
