"""The captions of a run, found before training: they are embedded once, and all of them ship in the adapter."""

import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from sanarestore.degradations.pairs import Pair
from sanarestore.degradations.recipes import Recipe as Degradation
from sanarestore.degradations.recipes import stream
from sanarestore.degradations.requests import Request
from sanarestore.training.recipe import TrainingRecipe

DRAWS = 2000
"""Prompts that are drawn from a recipe to find the requests that it makes."""

VARIANTS = 4
"""Wordings per request that a run on clean photographs uses: the plain one and others as people write them."""


def captions_of_pairs(pairs: Sequence[Pair]) -> list[str]:
    """Every caption of some pairs, the most frequent first; all variants of a caption count."""
    counts: dict[str, int] = defaultdict(int)
    for pair in pairs:
        for prompt in pair.prompts:
            counts[prompt] += 1
    return sorted(counts, key=lambda prompt: -counts[prompt])


def captions_of_recipe(recipe: TrainingRecipe) -> dict[Request, tuple[str, ...]]:
    """Some wordings of every request that the recipe's prompts make; a request that is drawn very seldom may be missed.

    Without this limit, a run would embed a new wording for nearly every sample.
    """
    found: dict[Request, list[str]] = {}
    lines = [Degradation.parse(line) for line in recipe.degradations]
    for number in range(DRAWS):
        rng = stream(recipe.seed, "captions", number)
        plan = lines[number % len(lines)].draw(rng, int(rng.integers(2**31)))
        wordings = found.setdefault(plan.request, [plan.request.plain])
        if len(wordings) < VARIANTS and plan.prompt.strip() not in ("", *wordings):
            wordings.append(plan.prompt.strip())
    return {request: tuple(wordings) for request, wordings in found.items()}


def varied(prompt: str, request: Request, wordings: Mapping[Request, Sequence[str]]) -> str:
    """The wording that stands for a prompt: one of its request's, the same each time; the prompt itself if none is."""
    known = wordings.get(request)
    return known[zlib.crc32(prompt.encode()) % len(known)] if known else prompt
