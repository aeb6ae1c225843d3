"""A training that does not fit is refused with changes that would make it fit, and figures."""

import re
from dataclasses import replace

import pytest
import torch

from sanarestore.errors import UsageError
from sanarestore.training import fitting
from sanarestore.training.fitting import Training, fitting_objective, free_bytes
from sanarestore.training.memory import Memory, Setting
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.starting import Start
from tests.published import TINY_RECIPE
from tests.training.test_memory import RECIPE


def refusal(monkeypatch: pytest.MonkeyPatch, training: Training, free: float) -> str:
    """The message for a training on a device with so many bytes free; the base's weights must not be read."""
    monkeypatch.setattr(fitting, "free_bytes", lambda _: round(free))
    monkeypatch.setattr("sanarestore.training.starting.load_base", None)
    with pytest.raises(UsageError) as caught:
        fitting_objective(training)
    return str(caught.value)


def test_changes_that_make_a_training_fit_are_named_with_their_figures(
    narrow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(RECIPE, objective="flow", patch=192, optimizer="adamw8bit", ema=0.0)
    training = Training(recipe=recipe, start=Start(base=narrow, rank=2), setting=Setting())
    need = training.memory().total
    message = refusal(monkeypatch, training, 0.9 * need)
    assert message.startswith(
        f"cpu: a training step takes about {need / 1e6:.1f} MB of memory, and {0.9 * need / 1e6:.1f}"
    )
    assert "accumulate = 2 in the recipe (" in message
    assert "patch = 96 in the recipe (" in message
    named = [float(size) for size in re.findall(r"\((\d+\.\d) MB\)", message)]
    assert len(named) >= 2
    assert all(size * 1e6 <= 0.9 * need for size in named)


def plain(recipe: TrainingRecipe, start: Start, setting: Setting, objective: object = None) -> Memory:
    """A memory that is easily reckoned: 100 MB of trained weights, and a byte of activations per pixel."""
    trained = 10 if start.rank else 100 // (setting.processes if setting.is_sharded else 1)
    kept = 0.1 if recipe.gradient_checkpointing else 1.0
    moments = {"adamw": 2.0, "adamw8bit": 0.5, "came8bit": 0.25}[recipe.optimizer]
    return Memory(
        frozen=10**7, trained=trained * 10**6, gradients=trained * 10**6, optimizer=round(moments * trained * 1e6),
        ema=trained * 10**6 if recipe.ema else 0,
        activations=round(kept * recipe.batch // setting.processes * recipe.patch**2 / recipe.accumulate * 100),
    )  # fmt: skip


@pytest.fixture
def whole(narrow: str, monkeypatch: pytest.MonkeyPatch) -> Training:
    """A training of all weights on a GPU, whose memory is `plain`: 510 MB, and 26 MB of activations."""
    monkeypatch.setattr(fitting, "estimate_memory", plain)
    recipe = replace(RECIPE, objective="flow", batch=4, patch=256)
    return Training(recipe=recipe, start=Start(base=narrow), setting=Setting(device=torch.device("cuda")))


def test_training_all_weights_is_referred_to_lora_and_to_sharding(
    whole: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = refusal(monkeypatch, whole, 340e6)
    assert message == (
        "cuda: a training step takes about 0.5 GB of memory, and 0.3 GB are free. "
        "It would fit with --lora (86.2 MB) or --shard on 2 devices (0.3 GB)."
    )


def test_the_optimizer_that_is_nearest_to_the_recipe_s_is_named(
    whole: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = refusal(monkeypatch, whole, 400e6)
    assert 'optimizer = "adamw8bit" in the recipe (0.4 GB)' in message
    assert "came8bit" not in message, "one of them is enough"
    assert "ema" not in message, "that alone is too little"


def test_changes_are_combined_where_none_is_enough(whole: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = replace(whole, start=replace(whole.start, rank=4), recipe=replace(whole.recipe, patch=512))
    message = refusal(monkeypatch, chosen, 52e6)
    assert message.endswith(
        'It would fit with gradient_checkpointing = true in the recipe and optimizer = "adamw8bit" in the recipe '
        "together (45.0 MB)."
    )
    assert "use a device with more memory" in refusal(monkeypatch, chosen, 1e6)


def test_bfloat16_is_not_advised_on_a_cpu(whole: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--dtype" not in refusal(monkeypatch, replace(whole, setting=Setting()), 1e6)
    assert "--shard" not in refusal(monkeypatch, replace(whole, setting=Setting()), 1e6)


def test_what_fits_is_created() -> None:
    training = Training(recipe=TINY_RECIPE, start=Start(), setting=Setting())
    objective, memory = fitting_objective(training)
    assert memory.trained == 4 * sum(parameter.numel() for parameter in objective.modules.parameters())


def test_processes_on_one_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "free_memory", lambda: 12 * 10**9)
    assert free_bytes(Setting(processes=4)) == 3 * 10**9
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert free_bytes(Setting(processes=4)) == 6 * 10**9, "the others are on other machines"
    assert free_bytes(Setting(device=torch.device("mps"))) is None


def test_a_grown_transformer_that_does_not_fit_could_train_its_new_blocks_alone(
    narrow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(RECIPE, objective="flow", grow=1, keep_all=True, batch=1, patch=64, optimizer="adamw8bit", ema=0.0)
    training = Training(recipe=recipe, start=Start(base=narrow), setting=Setting())
    message = refusal(monkeypatch, training, 0.9 * training.memory().total)
    assert "new_blocks_only = true in the recipe (" in message
    assert "--lora" not in message
