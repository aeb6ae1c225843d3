"""Captions of a run, collected before training, and the few that represent all."""

from pathlib import Path

from sanarestore.degradations.pairs import Pair
from sanarestore.degradations.requests import Request
from sanarestore.training.captions import VARIANTS, captions_of_pairs, captions_of_recipe, varied
from sanarestore.training.recipe import TrainingRecipe


def pair(caption: str) -> Pair:
    return Pair(target=Path("a.png"), degraded=Path("b.png"), prompt=caption)


def test_captions_of_pairs_are_sorted_by_frequency_and_split_into_variants() -> None:
    pairs = [pair("one"), pair("two | three"), pair("three"), pair("")]
    assert captions_of_pairs(pairs)[0] == "three"
    assert set(captions_of_pairs(pairs)) == {"one", "two", "three", ""}


def test_every_request_of_a_recipe_has_its_plain_wording_and_some_others() -> None:
    recipe = TrainingRecipe(degradations={"noise:25": 1.0, "jpeg:30": 0.1})
    found = captions_of_recipe(recipe)
    assert set(found) == {Request(), Request.of("noise"), Request.of("jpeg")}
    assert all(wordings[0] == request.plain for request, wordings in found.items())
    assert all(1 < len(set(wordings)) == len(wordings) <= VARIANTS for wordings in found.values())
    assert captions_of_recipe(recipe) == found


def test_a_prompt_has_the_same_stand_in_each_time_and_all_of_them_are_used() -> None:
    wordings = {Request.of("noise"): ("a", "b", "c")}
    prompts = [f"prompt {number}" for number in range(60)]
    chosen = [varied(prompt, Request.of("noise"), wordings) for prompt in prompts]
    assert chosen == [varied(prompt, Request.of("noise"), wordings) for prompt in prompts]
    assert set(chosen) == {"a", "b", "c"}
    assert varied("other", Request.of("jpeg"), wordings) == "other"
