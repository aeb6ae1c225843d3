"""The run of an order: batches that are divided among processes."""

from dataclasses import replace

import pytest

from sanarestore.errors import UsageError
from sanarestore.training.ranks import Ranks
from sanarestore.training.recipe import SHIPPED_FOLDER, TrainingRecipe
from sanarestore.training.run import divided


@pytest.mark.parametrize(("processes", "parts"), [(1, 4), (2, 4), (4, 2), (8, 1)])
def test_several_processes_need_fewer_parts(processes: int, parts: int) -> None:
    recipe = TrainingRecipe(batch=8, accumulate=4)
    assert divided(recipe, Ranks(0, processes)).accumulate == parts


def test_a_batch_that_processes_cannot_divide_is_refused_and_one_process_is_taken_at_its_word() -> None:
    for recipe, processes in (
        (TrainingRecipe(batch=8), 3),
        (TrainingRecipe(batch=4), 8),
        (TrainingRecipe(batch=8), 16),
    ):
        with pytest.raises(UsageError, match="cannot be divided equally"):
            divided(recipe, Ranks(0, processes))
    with pytest.raises(UsageError, match="8 cannot be divided equally into 3 parts"):
        divided(TrainingRecipe(batch=8, accumulate=3), Ranks())


@pytest.mark.parametrize("name", ["lora-512", "full-1024"])
@pytest.mark.parametrize("processes", [1, 2, 4, 8])
def test_shipped_recipes_are_divided_among_the_devices_of_a_machine(name: str, processes: int) -> None:
    for stage in TrainingRecipe.load(SHIPPED_FOLDER / f"{name}.toml").staged():
        found = divided(stage, Ranks(0, processes))
        assert found == replace(stage, accumulate=found.accumulate)
