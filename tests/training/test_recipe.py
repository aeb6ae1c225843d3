"""Training recipes: read from TOML, checked strictly, and stored as changes from the defaults."""

import json
from pathlib import Path

import pytest

from sanarestore import weights
from sanarestore.errors import UsageError
from sanarestore.training.recipe import SHIPPED, TrainingRecipe
from sanarestore.training.recipe_shapes import ModelShape


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_are_read_by_name(name: str) -> None:
    recipe = TrainingRecipe.load(Path(name))
    assert recipe.name == name
    objectives = {"flow", "end-to-end", "refiner", "distillation", "decoder"}
    assert {stage.objective for stage in recipe.staged()} <= objectives
    # Pruning recovers in 100 steps (Xie et al. 2025).
    assert all(stage.steps >= (100 if name in ("prune", "prune-decoder") else 1000) for stage in recipe.staged())


def test_a_published_base_is_adapted_by_a_shipped_recipe_that_visits_all_times() -> None:
    for low_rank, name in ((True, "lora-512"), (False, "full-1024")):
        recipe = TrainingRecipe.for_adapting(low_rank=low_rank)
        assert recipe.name == name
        first, *_, last = recipe.staged()
        assert (first.objective, last.objective) == ("flow", "refiner")
        assert 0 < first.p_one < 1


def test_a_file_goes_before_a_shipped_recipe_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("refiner").write_text("steps = 7")
    assert TrainingRecipe.load(Path("refiner")).steps == 7


def test_a_stage_goes_over_the_fields_of_its_recipe(tmp_path: Path) -> None:
    path = tmp_path / "staged.toml"
    path.write_text(
        'steps = 9\npatch = 32\n[model]\nspectrum = 5\n[[stage]]\nsteps = 3\n[[stage]]\nobjective = "expert"\n'
        "[stage.model]\nprompt_width = 16\n"
    )
    recipe = TrainingRecipe.load(path)
    assert [(stage.steps, stage.objective, stage.patch) for stage in recipe.staged()] == [
        (3, "refiner", 32), (9, "expert", 32)
    ]  # fmt: skip
    assert [(stage.model.spectrum, stage.model.prompt_width) for stage in recipe.staged()] == [(5, 128), (5, 16)]
    assert TrainingRecipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert [stage.steps for stage in recipe.with_steps(24).staged()] == [6, 18]
    path.write_text("steps = 9\n[[stage]]\nspeed = 3\n")
    with pytest.raises(UsageError, match=r"staged.toml, stage 1: 'speed' is not a field of a recipe"):
        TrainingRecipe.load(path)


def test_a_recipe_file_overrides_the_defaults(tmp_path: Path) -> None:
    recipe = TrainingRecipe.load(
        write(
            tmp_path,
            'name = "x"\nsteps = 7\nlearning_rate = 1\n[model]\nwidths = [8, 8, 8, 8]\n[degradations]\n"noise:5" = 2\n',
        )
    )
    assert (recipe.name, recipe.steps, recipe.learning_rate) == ("x", 7, 1.0)
    assert recipe.model == ModelShape(widths=(8, 8, 8, 8))
    assert recipe.degradations == {"noise:5": 2.0}
    assert recipe.batch == TrainingRecipe().batch


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz = 3", "'stepz' is not a field"),
        ("[model]\nwidth = 3", "'width' is not a field"),
        ("steps = 'many'", "'steps' must be int"),
        ("steps = true", "'steps' must be int"),
        ("loss = 'charbonnier'", "'loss' is not a field"),
        ("patch = 40", "multiple of 16"),
        (
            "patch = 24\n[model]\nwidths = [8, 8, 8]\nencoder_blocks = [1, 1]\ndecoder_blocks = [1, 1]",
            "with a coarse_weight",
        ),
        ("[model]\nwidths = [8, 8]\nencoder_blocks = [1]\ndecoder_blocks = [1]", "three or more"),
        ("[model]\nencoder_blocks = [1]", "one fewer"),
        ("objective = 'everything'", "objective must be one of"),
        ("objective = 'flow'\npatch = 80", "multiple of 32"),
        ("p_one = 1.5", "between 0 and 1"),
        ("[latent]\ncondition = 'sum'", "condition must be one of"),
        ("[latent]\nchannels = [8, 8, 8]", "must be six"),
        ("[latent]\nchannels = [16, 32, 64, 128, 192, 192]", "four times its neighbours"),
        ("[latent]\nstages = 6", "'stages' is not a field"),
        ("optimizer = 'adam'", "optimizer must be one of muon, adamw, adamw8bit, came, came8bit"),
        ("batch = 0", "must be positive"),
        ("gray = 2", "between 0 and 1"),
        ("backdrops = -0.1", "between 0 and 1"),
        ("steps = ", "not valid TOML"),
        ("[degradations]\n'noise:5' = 0", "weights of degradations"),
        ("[degradations]\n'noise:5' = 'lots'", "weight of 'noise:5' must be a number"),
        ("degradations = [1]", "must be a table"),
        ("[model]\nwidths = [8, 8, '8', 8]", "'widths' must be a list of int"),
        ("[model]\nprompt_heads = 0", "must be positive"),
        ("[experts]\nhaze = 'one'", "'haze' is not the name of an expert"),
        ("[experts]\nnoise = 1", "must be a table of models"),
        ("experts = 'one'", "must be a table of models"),
        ("[experts]\nnoise = 'one'", "applies only to the objective router"),
        ("new_colour_correction = true", "applies only to the objective colour-correction"),
        ('objective = "colour-correction"\nnew_colour_correction = true', "needs colour_correction under"),
        ("learning_rate = -1.0", "must not be negative"),
        ("validate_every = -1", "must not be negative"),
    ],
)
def test_mistakes_in_a_recipe_are_reported(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        TrainingRecipe.load(write(tmp_path, text))
    assert "recipe.toml" in str(caught.value)


def test_a_missing_recipe_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        TrainingRecipe.load(tmp_path / "none.toml")


def test_the_embedded_models_recipe_is_valid() -> None:
    assert TrainingRecipe.load(weights.resolve(weights.EMBEDDED) / "recipe.toml").name == weights.EMBEDDED


def test_a_recipe_can_be_rebuilt_from_its_changed_fields() -> None:
    recipe = TrainingRecipe(
        seed=3, held_back=("alps",), degradations={"clean": 1.0, "jpeg:20": 2.0},
        model=ModelShape(widths=(8, 8, 16), encoder_blocks=(1, 1), decoder_blocks=(1, 1)),
    )  # fmt: skip
    changed = json.loads(json.dumps(recipe.changed()))
    assert (changed["seed"], changed["held_back"], changed["model"]["widths"]) == (3, ["alps"], [8, 8, 16])
    assert changed.keys() == {"seed", "held_back", "model", "degradations"}
    assert TrainingRecipe.from_dict(changed, "changed").to_dict() == recipe.to_dict()
    assert TrainingRecipe().changed() == {}
