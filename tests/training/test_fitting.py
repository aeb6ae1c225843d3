"""A training that does not fit is refused with changes that would make it fit, and figures."""

import re
from dataclasses import replace

import pytest
import torch

from sanarestore.errors import UsageError
from sanarestore.training import fitting
from sanarestore.training.fitting import Training, fitting_objective, free_bytes
from sanarestore.training.memory import Setting
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


def test_single_changes_that_make_a_training_fit_are_named_with_their_figures(
    narrow: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training = Training(recipe=replace(RECIPE, objective="end-to-end"), start=Start(base=narrow), setting=Setting())
    need = training.memory().total
    message = refusal(monkeypatch, training, 0.8 * need)
    assert message.startswith(f"cpu: a training step takes about 0.1 GB of memory, and {0.8 * need / 1e6:.1f} MB")
    assert "gradient_checkpointing = true in the recipe (" in message
    assert "accumulate = 2 in the recipe (" in message
    named = [float(size) for size in re.findall(r"\((\d+\.\d) MB\)", message)]
    assert len(named) >= 2
    assert all(size * 1e6 <= 0.8 * need for size in named)


def test_changes_are_combined_where_none_is_enough(narrow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training(recipe=replace(RECIPE, objective="end-to-end"), start=Start(base=narrow), setting=Setting())
    message = refusal(monkeypatch, training, 45e6)
    assert re.search(r"It would fit with gradient_checkpointing = true in the recipe.* and .* together", message)
    assert "use a device with more memory" in refusal(monkeypatch, training, 1e6)


def test_training_all_weights_of_a_published_model_is_referred_to_lora_and_to_sharding(
    narrow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(RECIPE, objective="flow", batch=4, patch=64, gradient_checkpointing=True)
    training = Training(recipe=recipe, start=Start(base=narrow), setting=Setting(device=torch.device("cuda")))
    message = refusal(monkeypatch, training, 0.75 * training.memory().total)
    assert "--lora (" in message
    assert "--shard on 2 devices (" in message
    assert "--shard on 4 devices" not in message, "two are enough"
    assert "ema = 0" not in message, "that alone is too little"
    assert "--dtype bfloat16" not in refusal(monkeypatch, replace(training, setting=Setting()), 1e6), "slow on a CPU"


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
