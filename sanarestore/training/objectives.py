"""Create an objective by its name, on fresh weights or on those of a base."""

from collections.abc import Callable

from sanarestore.errors import UsageError
from sanarestore.training.decoder_objective import decoder_objective
from sanarestore.training.distilling import DistillationObjective, check_teacher, refuse_distilled
from sanarestore.training.generating import AutoencoderObjective, EndToEndObjective, FlowObjective
from sanarestore.training.objective import Objective
from sanarestore.training.parts import Parts
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.recipe_shapes import DECODER, FLOWING, LATENT_OBJECTIVES
from sanarestore.training.refining import (
    ColourCorrectionObjective,
    ExpertObjective,
    RefinerObjective,
    RouterObjective,
    WordingObjective,
)
from sanarestore.training.starting import Start


def new_objective(recipe: TrainingRecipe, start: Start = Start()) -> Objective:  # noqa: B008 - it is immutable
    """Create the recipe's objective on the parts that a training begins from; add a latent path if it needs one.

    The transformer has the base's depth; `training.depth` changes it afterwards if the recipe asks for that. Low-rank
    weights (LoRA) change the refiner for the objective refiner, otherwise the transformer.
    """
    if recipe.objective == DECODER:
        return decoder_objective(recipe, start)
    parts = start.parts(recipe)
    if not parts.sees_photo and recipe.objective not in FLOWING:
        raise UsageError(
            f"the objective '{recipe.objective}' would leave the base's condition untrained, and the photo unseen",
            where=parts.base, next_step="Use a recipe whose first objective is flow or end-to-end.",
        )  # fmt: skip
    if recipe.objective == "distillation":
        check_teacher(parts, recipe, start.base)
    if recipe.objective == "flow":
        refuse_distilled(parts, start.base)
    if recipe.changes_depth and parts.latent is None:
        raise UsageError(
            "this base has no transformer, so its depth cannot be changed", where=start.base or "--base",
            next_step="Name a base with a latent path, or leave out --grow and --prune.",
        )  # fmt: skip
    return objective_of(parts, recipe)


def objective_of(parts: Parts, recipe: TrainingRecipe) -> Objective:
    """Create the recipe's objective on these parts; add a latent path if it needs one."""
    kinds: dict[str, Callable[[Parts, TrainingRecipe], Objective]] = {
        "colour-correction": ColourCorrectionObjective,
        "refiner": RefinerObjective,
        "wording": WordingObjective,
        "expert": ExpertObjective,
        "router": RouterObjective,
        "autoencoder": AutoencoderObjective,
        "flow": FlowObjective,
        "end-to-end": EndToEndObjective,
        "distillation": DistillationObjective,
    }
    parts = parts.with_latent_path(recipe) if recipe.objective in LATENT_OBJECTIVES else parts
    return kinds[recipe.objective](parts, recipe)
