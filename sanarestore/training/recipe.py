"""A training recipe: everything that decides what a run learns, read from TOML, each field checked and documented."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sanarestore.errors import UsageError
from sanarestore.old_names import renamed_recipe
from sanarestore.training.recipe_check import problems
from sanarestore.training.recipe_shapes import (
    ON_LATENTS,
    LatentShape,
    ModelShape,
)
from sanarestore.training.recipe_table import build, changed, experts_of, over, weights_of

SHIPPED_FOLDER = Path(__file__).parent / "recipes"

SHIPPED = ("lora-512", "full-1024", "multi-tile", "refiner", "grow", "prune", "prune-decoder", "distill", "sr-x4")
"""Names of the recipes in the package."""

DEPTH_FIELDS = ("grow", "keep_all", "new_blocks_only", "prune", "prune_decoder")
"""Fields that change the depth of a network before training. In a recipe of several stages, they apply to the first
one only: the others start from its result."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRecipe:
    """The recipe of a run: objective, data, and schedule."""

    objective: str = "refiner"
    """colour-correction: global colour correction, on overviews; refiner: the pixel network; wording: the prompt
    reader, from words alone; expert: the refiner for some degradations only; router: the weights of the experts for a
    photograph; autoencoder: reconstruction; flow: velocities of latents; end-to-end: refiner and latent path jointly;
    distillation: a transformer of many sampling steps becomes one of few; decoder: the autoencoder's decoder alone,
    after `prune_decoder`.
    """

    name: str = "model"
    """Name of the trained model."""
    seed: int = 0
    """Seed of every crop, degradation and prompt, and of fresh weights."""
    steps: int = 10_000
    """Optimizer steps of the whole run."""
    batch: int = 16
    """Crops per step."""
    accumulate: int = 1
    """Equal parts that a batch is computed in, one after the other: each takes the memory of its own crops only."""
    gradient_checkpointing: bool = False
    """Compute the activations of transformer blocks and decoder stages again for the backward pass instead of keeping
    them: a third more time, a fraction of the memory."""
    patch: int = 96
    """Side of a crop in pixels, a multiple of the refiner's stride."""
    scale: int = 1
    """In lists of pairs, the size of targets relative to degraded images, which are first enlarged bicubically, as
    `restore --scale` does. Crops of clean photographs are degraded by lines such as lowres:4 instead."""
    optimizer: str = "muon"
    """muon: Muon for the kernels of convolutions, AdamW for the rest; adamw: AdamW for all; adamw8bit: AdamW with
    moments in 8 bits; came: CAME, with factored second moments; came8bit: CAME with momentum in 8 bits."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW or CAME, after the warm-up. Published SANA models were trained with CAME in 8 bits at
    1e-4 (Xie et al. 2025)."""
    muon_rate: float = 4e-3
    """Peak learning rate of Muon, under the optimizer muon; 0 leaves the kernels of convolutions to AdamW."""
    final_rate: float = 0.01
    """Share of the peak learning rates that the cosine ends at."""
    warmup: int = 200
    """Steps of the warm-up from zero to the peak rates."""
    weight_decay: float = 1e-4
    """Weight decay of AdamW and CAME, not applied to biases, norms and gains."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 disables clipping."""
    ema: float = 0.999
    """Decay per step of the EMA of the weights, which is what the model folder holds."""
    loss_floor: float = 1e-4
    """Added to squared errors, so that nearly perfect samples do not dominate. The loss is the mean over samples of
    10 log10(squared error), which weighs all kinds of degradation equally."""
    coarse_weight: float = 0.05
    """Weight of the error of 16 x 16 block means relative to the rest: a wrong brightness moves all weights
    together, and would otherwise outweigh the learning of detail."""
    harm_weight: float = 0.0
    """Under colour-correction, weight of the decibels that a correction loses, beside the loss itself: a wrong guess
    harms a photograph more than a timid one."""
    new_colour_correction: bool = False
    """Under colour-correction, begin with new weights of the shape under `[model]` instead of the base's. They read
    statistics normalised by the mean and deviation of the first samples."""
    distinct_samples: int = 0
    """Under colour-correction, samples that are made, which takes longer than learning from them; later ones repeat
    them. 0 makes every sample anew."""
    p_one: float = 0.5
    """Under flow, share of times that are exactly 1, the only time at which one-step sampling calls the model."""
    teacher: bool = True
    """Under distillation, follow the velocities of the base as it is before training. Without this teacher, follow
    straight lines from images to noise (consistency training), which needs more steps, but no trained base. Under
    decoder, reconstruct what the whole decoder makes of a latent; otherwise the photograph itself."""
    tangent_warmup: int = 500
    """Under distillation, steps until the terms of the transformer's own change along the path reach full weight."""
    time_window: float = 0.15
    """Under distillation, radians on each side over which that change is averaged, by differences; 0 for the exact
    derivative, by forward-mode differentiation. A transformer with timesteps up to 1000 fluctuates from one to the
    next, so that its exact derivative is mostly noise, unless the teacher was trained to be smooth, as in Sprint."""
    draws: int = 1
    """Under flow and distillation, number of times and noises drawn per crop, since encoding a crop costs more than
    training on its latents."""
    cached_passes: int = 0
    """Under flow and distillation, passes over the data whose crops are encoded once, before training, and then
    repeated with new noise; 0 encodes every crop when it is used."""
    grow: int = 0
    """Blocks to append to the transformer before training, after its last two are dropped; they have no effect at
    first (SANA-1.5, Xie et al. 2025)."""
    keep_all: bool = False
    """With grow, keep all blocks of the base."""
    new_blocks_only: bool = False
    """With grow, train only the new blocks and the condition."""
    prune: int = 0
    """Blocks to remove from the transformer before training, the least important ones; the first and the last stay."""
    prune_decoder: int = 0
    """Under decoder, blocks to remove from the autoencoder's decoder before training, the least important ones."""
    tiles: int = 1
    """Under flow, tiles per side of a crop. With 2, the transformer sees four overlapping tiles as in the tiling scheme
    `causal`, each with all earlier ones, so that it is trained for that scheme."""
    agreement_weight: float = 0.0
    """Under flow and end-to-end, weight of the difference between the one-step results of two seeds. That step should
    give the posterior mean, which depends on no seed; without this term, noise shows through after short training."""
    flow_shift: float = 0.0
    """Shift of times towards noise, in training and in sampling; 0 keeps the model's own, which is 3 for a new one.
    A condition that leaves little open needs a smaller shift, because the rest is decided late in sampling."""
    caption_dropout: float = 0.0
    """Share of pairs that are trained without their caption, so that the model restores unprompted too."""
    gray: float = 0.08
    """Share of crops converted to gray."""
    quantized_fraction: float = 0.5
    """Share of pairs that are clipped and rounded to 8 bits, as in files; the rest stay in float."""
    jpeg_offset_fraction: float = 0.2
    """Share of crops with a randomly offset JPEG grid, which otherwise starts at the corner."""
    shrink: float = 0.75
    """Share of crops from photos that are downscaled up to `shrink_most` times, which makes them sharper."""
    shrink_most: float = 3.0
    """Largest factor by which photos are downscaled."""
    synthetic_fraction: float = 0.0
    """Share of crops that are synthetic (`dead_leaves`): sharp to the pixel, as few photographs are."""
    backdrops: float = 0.0
    """Share of crops that show a plain backdrop, partly or wholly, as photographs of products do."""
    candidates: int = 3
    """Places drawn per crop; the most detailed one is used, because skies teach little."""
    validation_photos: int = 4
    """Photos held back for validation, spread evenly over the sorted list."""
    held_back: tuple[str, ...] = ()
    """Sources, named by the beginning of their file names, to hold back from training as a whole and to validate on:
    photos of one author or place are alike and would flatter the result. Empty: `validation_photos` of all."""
    validate_every: int = 500
    """Steps between validations; 0 validates at the end only."""
    pictures_every: int = 0
    """Steps between pictures of validation images; 0 for pictures at the beginning and the end only."""
    checkpoint_every: int = 500
    """Steps between checkpoints; 0 saves only at the end or when stopped."""
    workers: int = 1
    """Processes that make crops; the crops are the same for any number."""
    model: ModelShape = field(default_factory=ModelShape)
    latent: LatentShape = field(default_factory=LatentShape)
    experts: dict[str, str] = field(default_factory=dict)
    """Under router, name of an expert, one of `model.experts.REMOVES` -> name of the model that holds it as refiner."""
    degradations: dict[str, float] = field(default_factory=lambda: {"noise:0-55": 1.0})
    """Recipe line -> weight (see degradations.recipes)."""
    stages: tuple["TrainingRecipe", ...] = ()
    """Recipes of stages that are trained one after the other, each from the result of the one before: the tables
    `[[stage]]` of a file, over the other fields of the recipe. Empty: the recipe is one stage itself."""

    @classmethod
    def load(cls, path: Path) -> "TrainingRecipe":
        """Read a TOML file, or one of `SHIPPED` by its name; UsageError names the file and the field."""
        if str(path) in SHIPPED and not path.exists():
            path = SHIPPED_FOLDER / f"{path}.toml"
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            step = f"Name a file, or one of {', '.join(SHIPPED)}."
            raise UsageError(f"cannot be read ({error.strerror})", where=path, next_step=step) from error
        except ValueError as error:
            raise UsageError(f"not valid TOML ({error})", where=path) from error
        return cls.from_dict(table, path)

    @classmethod
    def from_dict(cls, table: dict[str, Any], where: Path | str = "recipe") -> "TrainingRecipe":
        """Build a recipe from plain values; UsageError for unknown names, wrong types and invalid values."""
        table = renamed_recipe(table)
        listed = table.pop("stage", table.pop("stages", ()))
        if not isinstance(listed, (list, tuple)) or not all(isinstance(stage, dict) for stage in listed):
            raise UsageError("'stage' must be a list of tables", where=where, next_step="Write [[stage]] before each.")
        later = {name: value for name, value in table.items() if name not in DEPTH_FIELDS}
        stages = tuple(
            cls.from_dict(over(later if number > 1 else table, stage), f"{where}, stage {number}")
            for number, stage in enumerate(listed, 1)
        )
        shape = build(ModelShape, table.pop("model", {}), where)
        latent = build(LatentShape, table.pop("latent", {}), where)
        degradations = weights_of(table.pop("degradations", {}), where)
        experts = experts_of(table.pop("experts", {}), where)
        recipe: TrainingRecipe = replace(
            build(cls, table, where), model=shape, latent=latent, experts=experts, stages=stages
        )  # fmt: skip
        recipe = replace(recipe, degradations=degradations) if degradations else recipe
        recipe.check(where)
        return recipe

    def for_tuning(self, name: str, *, low_rank: bool = False) -> "TrainingRecipe":
        """Adapt the recipe to fine-tuning: another name, and a fifth of the learning rates.

        Low-rank weights, which start at zero, train on few small crops at a high rate instead: on pairs with dust and
        scratches, 3,000 crops, a quarter of an hour of a busy laptop, gain 7.4 dB on photographs held back.
        """
        if low_rank:
            return replace(
                self, name=name, batch=8, patch=96, learning_rate=2e-3, muon_rate=0.0, warmup=50, ema=0.995,
                validate_every=250, checkpoint_every=250,
            )  # fmt: skip
        return replace(self, name=name, learning_rate=self.learning_rate * 0.2, muon_rate=self.muon_rate * 0.2)

    @classmethod
    def for_adapting(cls, *, low_rank: bool) -> "TrainingRecipe":
        """Return the recipe for a published base, used unless another one is named."""
        return cls.load(SHIPPED_FOLDER / ("lora-512.toml" if low_rank else "full-1024.toml"))

    @classmethod
    def for_depth(cls, name: str, *, grows: bool, of_model: bool) -> "TrainingRecipe":
        """Return the recipe for a transformer with more or fewer blocks, used unless another one is named.

        A restoration model, which is small, trains on small crops at a higher rate: with two of its five blocks
        removed, the embedded model's latent path is at fidelity 0 better than before after 100 steps.
        """
        recipe = replace(cls.load(SHIPPED_FOLDER / ("grow.toml" if grows else "prune.toml")), name=name)
        if not of_model:
            return recipe
        return replace(
            recipe, steps=1000 if grows else 100, batch=12, accumulate=1, draws=6, patch=128, optimizer="adamw",
            learning_rate=5e-4, warmup=10, weight_decay=1e-4, ema=0.95, agreement_weight=2.0, caption_dropout=0.0,
            gradient_checkpointing=False, validate_every=100 if grows else 25, workers=1,
        )  # fmt: skip

    @classmethod
    def for_decoder(cls, name: str, *, of_model: bool) -> "TrainingRecipe":
        """Return the recipe for an autoencoder whose decoder loses blocks, used unless another one is named.

        A restoration model, which is small, trains on small crops at a higher rate. Its autoencoder was trained for
        the PSNR of photographs, and its decoder continues so, without a teacher.
        """
        recipe = replace(cls.load(SHIPPED_FOLDER / "prune-decoder.toml"), name=name)
        if not of_model:
            return recipe
        return replace(
            recipe, batch=12, accumulate=1, patch=128, learning_rate=2e-4, ema=0.95, gradient_checkpointing=False,
            teacher=False, loss_floor=1e-4, workers=1,
        )  # fmt: skip

    def check(self, where: Path | str = "recipe") -> None:
        """Raise UsageError for the first invalid value."""
        for problem, found in problems(self).items():
            if found:
                raise UsageError(problem, where=where)

    @property
    def changes_depth(self) -> bool:
        """Whether this stage changes the number of blocks of the transformer or of the decoder before training."""
        return bool(self.grow or self.prune or self.prune_decoder)

    def with_depth(self, changes: Mapping[str, Any]) -> "TrainingRecipe":
        """Return the recipe with other `DEPTH_FIELDS` in its first stage; UsageError if they do not fit."""
        stages = tuple(replace(stage, **changes) if not number else stage for number, stage in enumerate(self.stages))
        changed: TrainingRecipe = replace(self, stages=stages, **changes)
        changed.staged()[0].check()
        return changed

    def staged(self) -> tuple["TrainingRecipe", ...]:
        """The recipes of all stages, the recipe itself if it has none."""
        return self.stages or (self,)

    def with_steps(self, steps: int) -> "TrainingRecipe":
        """The recipe with another number of steps in all, divided among stages as before, at least one each."""
        if not self.stages:
            return replace(self, steps=steps)
        whole = sum(stage.steps for stage in self.stages)
        shares = tuple(replace(stage, steps=max(1, round(stage.steps * steps / whole))) for stage in self.stages)
        return replace(self, stages=shares)

    def with_cached_passes(self, passes: int) -> "TrainingRecipe":
        """Return the recipe with latents encoded once in its stages of `ON_LATENTS`; UsageError if it has none."""
        if all(stage.objective not in ON_LATENTS for stage in self.staged()):
            raise UsageError(
                f"latents are encoded once for the objectives {' and '.join(ON_LATENTS)} alone",
                where="--cache-latents", next_step="Leave it out, or use a recipe with one of these objectives.",
            )  # fmt: skip
        stages = tuple(
            replace(stage, cached_passes=passes) if stage.objective in ON_LATENTS else stage for stage in self.stages
        )
        return replace(self, stages=stages, cached_passes=passes if self.objective in ON_LATENTS else 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as TOML and JSON hold them."""
        return {**asdict(self), "stages": [stage.to_dict() for stage in self.stages]}

    def changed(self) -> dict[str, Any]:
        """Fields that differ from the defaults, as plain values: enough to build the recipe again."""
        return changed(self.to_dict(), TrainingRecipe().to_dict())
