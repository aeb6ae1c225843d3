"""Tests of reading the weights, configurations and recipes of earlier versions."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sanarestore import weights
from sanarestore.errors import UsageError
from sanarestore.files import hash_file
from sanarestore.model.loading import EXPERTS, REFINER, load_model
from sanarestore.model.refiner_config import RefinerConfig
from sanarestore.old_names import OBJECTIVES, RECIPE, TENSORS, renamed_recipe, renamed_tensors
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.recipe_shapes import OBJECTIVES as KNOWN


def test_tensors_are_renamed_part_by_part() -> None:
    given = {"middle.conv_in.weight": 1, "noise.steering.mix.bias": 2, "router.evidence.weight": 3, "tone.mix.bias": 4}
    assert list(renamed_tensors(given).items()) == [
        ("bottleneck.conv_in.weight", 1), ("noise.spatial_modulation.mix.bias", 2), ("router.features.weight", 3),
        ("colour_correction.mix.bias", 4),
    ]  # fmt: skip
    # Only whole parts of a name are renamed: `middleman` keeps its name.
    assert list(renamed_tensors({"middleman.bias": 1})) == ["middleman.bias"]


def test_current_names_are_not_changed() -> None:
    names = load_model(weights.EMBEDDED).refiner.state_dict()
    assert list(renamed_tensors(names)) == list(names)
    assert not {part for name in names for part in name.split(".")} & set(TENSORS)


def test_a_model_with_old_names_equals_one_with_current_names(tmp_path: Path) -> None:
    folder = tmp_path / "old"
    shutil.copytree(weights.resolve(weights.EMBEDDED), folder)
    manifest = json.loads((folder / weights.MANIFEST).read_text(encoding="utf-8"))
    before = {new: old for old, new in TENSORS.items()}
    for name in (REFINER, EXPERTS):
        old = {
            ".".join(before.get(part, part) for part in key.split(".")): tensor
            for key, tensor in load_file(folder / name).items()
        }
        save_file(old, folder / name)
        manifest["sha256"][name] = hash_file(folder / name)
    shape = load_model(weights.EMBEDDED).refiner.config.to_dict()
    shape["steering"], shape["tone"] = shape.pop("modulation_width"), shape.pop("colour_correction")
    (folder / weights.MANIFEST).write_text(json.dumps({**manifest, "refiner": shape}), encoding="utf-8")
    one, other = load_model(str(folder)), load_model(weights.EMBEDDED)
    assert one.refiner.config == other.refiner.config
    for key, tensor in other.refiner.state_dict().items():
        assert torch.equal(one.refiner.state_dict()[key], tensor), key
    assert one.experts is not None
    assert other.experts is not None
    assert one.experts.tensors().keys() == other.experts.tensors().keys()


def test_old_configurations_and_recipes_are_read() -> None:
    assert RefinerConfig.from_dict({"steering": 9, "tone": 5}) == RefinerConfig(modulation_width=9, colour_correction=5)
    old = {"objective": "tone", "drawn": 0.1, "stored": 0.2, "shifted": 0.3, "model": {"tone": 7}}
    recipe = TrainingRecipe.from_dict(old)
    assert (recipe.objective, recipe.model.colour_correction) == ("colour-correction", 7)
    assert [getattr(recipe, name) for name in RECIPE.values()] == [0.1, 0.2, 0.3]
    assert renamed_recipe(recipe.to_dict()) == recipe.to_dict()
    assert set(OBJECTIVES.values()) <= set(KNOWN)


def test_recipes_may_hold_removed_fields_with_their_former_values() -> None:
    gone = {"loss": "psnr", "fresh_flow": False, "generated_weight": 0.3}
    assert renamed_recipe({"seed": 3, **gone}) == {"seed": 3}
    assert TrainingRecipe.from_dict({"seed": 3, **gone}) == TrainingRecipe(seed=3)
    for name, value in {"loss": "charbonnier", "fresh_flow": True, "generated_weight": 0.5}.items():
        with pytest.raises(UsageError, match=f"'{name}' is not a field"):
            TrainingRecipe.from_dict({name: value})


def test_a_field_under_its_old_and_its_new_name_is_refused() -> None:
    with pytest.raises(UsageError, match="drawn is the former name of synthetic_fraction"):
        renamed_recipe({"drawn": 0.1, "synthetic_fraction": 0.2})
