"""Create an objective by its name, on fresh weights or on those of a base."""

from collections.abc import Callable

from sanarestore.errors import UsageError
from sanarestore.training.generating import AutoencoderObjective, EndToEndObjective, FlowObjective
from sanarestore.training.objective import Objective
from sanarestore.training.parts import Parts
from sanarestore.training.recipe import FLOWING, LATENT_OBJECTIVES, TrainingRecipe
from sanarestore.training.refining import (
    ColourCorrectionObjective,
    ExpertObjective,
    RefinerObjective,
    RouterObjective,
    WordingObjective,
)


def new_objective(recipe: TrainingRecipe, base: str | None = None, *, rank: int | None = None) -> Objective:
    """Create the recipe's objective, on fresh weights or on those of a base; add a latent path if it needs one.

    With a `rank`, train low-rank weights (LoRA) on a base: on its refiner for the objective refiner, otherwise on its
    transformer.
    """
    if rank and not base:
        raise UsageError("fresh weights are not adapted", where="--lora", next_step="Name a --base, or leave it out.")
    parts = Parts.from_base(base, recipe, rank) if base else Parts.from_scratch(recipe)
    if parts.is_published and recipe.objective not in FLOWING:
        raise UsageError(
            f"the objective '{recipe.objective}' would leave the base's condition untrained, and the photo unseen",
            where=parts.base, next_step="Use a recipe whose objective is flow or end-to-end.",
        )  # fmt: skip
    kinds: dict[str, Callable[[Parts, TrainingRecipe], Objective]] = {
        "colour-correction": ColourCorrectionObjective,
        "refiner": RefinerObjective,
        "wording": WordingObjective,
        "expert": ExpertObjective,
        "router": RouterObjective,
        "autoencoder": AutoencoderObjective,
        "flow": FlowObjective,
        "end-to-end": EndToEndObjective,
    }
    parts = parts.with_latent_path(recipe) if recipe.objective in LATENT_OBJECTIVES else parts
    return kinds[recipe.objective](parts, recipe)
