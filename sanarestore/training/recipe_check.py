"""Checks of a recipe's values."""

from itertools import pairwise
from typing import TYPE_CHECKING

from sanarestore.model.colour_correction import COLOUR_STATISTICS, QUANTILE_STATISTICS
from sanarestore.model.condition import KINDS
from sanarestore.options import LARGEST_SCALE
from sanarestore.training.recipe_shapes import (
    DECODER,
    DEEPENED,
    ENCODING,
    LATENT_STAGES,
    LATENT_STRIDE,
    OBJECTIVES,
    ON_LATENTS,
    OPTIMIZERS,
)

if TYPE_CHECKING:
    from sanarestore.training.recipe import TrainingRecipe


def problems(recipe: "TrainingRecipe") -> dict[str, object]:
    """Return the possible faults of a recipe, each with whether it is present."""
    stride = 2 ** len(recipe.model.widths)
    levels = {
        len(recipe.model.widths),
        *(len(blocks) + 1 for blocks in (recipe.model.encoder_blocks, recipe.model.decoder_blocks)),
    }
    return {
        "widths must be three or more, and block counts one fewer": len(levels) > 1 or min(levels) < 3,
        f"patch must be a positive multiple of {stride}": recipe.patch < stride or recipe.patch % stride,
        "patch must be a multiple of 16 with a coarse_weight": recipe.coarse_weight and recipe.patch % 16,
        f"patch must be a multiple of {LATENT_STRIDE} for this objective": (
            recipe.objective in ENCODING and recipe.patch % LATENT_STRIDE
        ),
        f"objective must be one of {', '.join((*OBJECTIVES, DECODER))}": recipe.objective not in (*OBJECTIVES, DECODER),
        f"optimizer must be one of {', '.join(OPTIMIZERS)}": recipe.optimizer not in OPTIMIZERS,
        f"condition must be one of {', '.join(KINDS)}": recipe.latent.condition not in KINDS,
        "the latent path's channels must be six, one for each halving, and blocks as many": (
            {len(recipe.latent.channels), len(recipe.latent.blocks)} != {LATENT_STAGES}
        ),
        "of the latent path's channels, each must divide four times its neighbours": any(
            4 * one % other or 4 * other % one for one, other in pairwise(recipe.latent.channels)
        ),
        "time_window must be at most 0.5": recipe.time_window > 0.5,
        f"scale must be from 1 to {LARGEST_SCALE:g}": not 1 <= recipe.scale <= LARGEST_SCALE,
        "candidates must be at least 1, and shrink_most too": min(recipe.candidates, recipe.shrink_most) < 1,
        "steps, batch, accumulate and draws must be positive, and workers not negative": (
            min(recipe.steps, recipe.batch, recipe.accumulate, recipe.draws) < 1 or recipe.workers < 0
        ),
        "shares must be between 0 and 1": not all(
            0 <= share <= 1
            for share in (
                *(recipe.p_one, recipe.gray, recipe.quantized_fraction, recipe.jpeg_offset_fraction, recipe.shrink),
                *(recipe.synthetic_fraction, recipe.backdrops, recipe.ema, recipe.final_rate, recipe.caption_dropout),
            )
        ),
        f"with several tiles, patch must be a multiple of {LATENT_STRIDE} times their number": (
            recipe.tiles < 1 or (recipe.tiles > 1 and recipe.patch % (LATENT_STRIDE * recipe.tiles))
        ),
        f"cached_passes applies only to the objectives {' and '.join(ON_LATENTS)}": (
            recipe.cached_passes and recipe.objective not in ON_LATENTS
        ),
        "tiles applies only to the objective flow": recipe.tiles > 1 and recipe.objective != "flow",
        "new_colour_correction applies only to the objective colour-correction": (
            recipe.new_colour_correction and recipe.objective != "colour-correction"
        ),
        "new_colour_correction needs colour_correction under [model]": (
            recipe.new_colour_correction and not recipe.model.colour_correction
        ),
        "experts applies only to the objective router": recipe.experts and recipe.objective != "router",
        **_depth_problems(recipe),
        "weights of degradations must be positive": min(recipe.degradations.values()) <= 0,
        "rates, floors, decays and counts must not be negative": min(
            recipe.learning_rate,
            recipe.muon_rate,
            recipe.final_rate,
            recipe.warmup,
            recipe.weight_decay,
            recipe.clip,
            recipe.loss_floor,
            recipe.coarse_weight,
            recipe.harm_weight,
            recipe.distinct_samples,
            recipe.agreement_weight,
            recipe.flow_shift,
            recipe.cached_passes,
            recipe.tangent_warmup,
            recipe.time_window,
            recipe.grow,
            recipe.prune,
            recipe.prune_decoder,
            recipe.validation_photos,
            recipe.validate_every,
            recipe.checkpoint_every,
            recipe.pictures_every,
        )
        < 0,
        f"colour_statistics must be {QUANTILE_STATISTICS} or {COLOUR_STATISTICS}": (
            recipe.model.colour_statistics not in (QUANTILE_STATISTICS, COLOUR_STATISTICS)
        ),
        "widths, heads and layers must be positive": min(
            *recipe.model.widths,
            recipe.model.prompt_width,
            recipe.model.prompt_layers,
            recipe.model.prompt_heads,
            *recipe.latent.channels,
            recipe.latent.latent_channels,
            recipe.latent.head_width,
            recipe.latent.heads,
            recipe.latent.layers,
        )
        < 1,
    }


def _depth_problems(recipe: "TrainingRecipe") -> dict[str, object]:
    """Return the faults of the depth; depth fields beside stages are checked in the first stage."""
    is_grown = bool(recipe.grow)
    return {} if recipe.stages else {
        f"grow and prune apply only to the objectives {' and '.join(DEEPENED)}": (
            (is_grown or recipe.prune) and recipe.objective not in DEEPENED
        ),
        f"prune_decoder and the objective {DECODER} need each other": (
            bool(recipe.prune_decoder) != (recipe.objective == DECODER)
        ),
        "grow and prune exclude each other": is_grown and bool(recipe.prune),
        "keep_all and new_blocks_only need grow": (recipe.keep_all or recipe.new_blocks_only) and not is_grown,
    }  # fmt: skip
