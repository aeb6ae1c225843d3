"""Restorations that validation compares: by the base with its experts, and at the settings of restoration.

Shape suffixes: B batch, C channels, H W pixels or latent positions.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from sanarestore.model.loading import LatentPath
from sanarestore.model.transformer import Tokens
from sanarestore.training.batching import Batch
from sanarestore.training.generating import drawn_noise
from sanarestore.training.mixing import Mixture
from sanarestore.training.objective import Objective, PartsObjective
from sanarestore.training.recipe_shapes import FLOWING
from sanarestore.training.scores import Restore


def by_base(objective: Objective) -> Restore | None:
    """Return the restoration by the base with its experts, before the first step; None if training drops no experts."""
    if not isinstance(objective, PartsObjective) or not objective.drops_experts:
        return None
    parts = objective.parts
    assert parts.experts is not None
    mixture = Mixture(parts.experts, parts.refiner)
    path = parts.latent if parts.defaults.get("latent", True) else None
    seed, steps = objective.recipe.seed, int(parts.defaults.get("steps", 1))

    def restore(batch: Batch) -> Tensor:
        generate = partial(generate_in_steps, path, batch, seed=seed, steps=steps) if path else None
        return objective.by_experts(batch, mixture, generate)

    return restore


def at_settings(objective: Objective) -> Callable[[Batch], dict[str, Tensor]] | None:
    """Return restorations in the model's own number of steps, at fidelity 0 and 1, by the name of the setting.

    None for objectives that do not train the transformer.
    """
    if not isinstance(objective, PartsObjective) or objective.recipe.objective not in FLOWING:
        return None
    steps = int(objective.parts.defaults.get("steps", 1))
    name = f"{steps} step{'' if steps == 1 else 's'}"

    def restore(batch: Batch) -> dict[str, Tensor]:
        generate = partial(
            generate_in_steps, objective.parts.path, batch, seed=objective.recipe.seed, steps=steps
        )  # fmt: skip
        results = objective.at_fidelities(batch, generate)
        return {f"{name}, fidelity {fidelity}": result_BCHW for fidelity, result_BCHW in results.items()}

    return restore


def generate_in_steps(latent: LatentPath, batch: Batch, tokens: Tokens, *, seed: int, steps: int) -> Tensor:
    """Generate images [B,3,H,W] from the degraded ones in `steps` calls of the transformer."""
    condition_BCHW = latent.autoencoder.encode(batch.degraded_BCHW)

    def noise(number: int) -> Tensor:
        return drawn_noise(seed + number, batch.numbers, condition_BCHW.shape[1:]).to(condition_BCHW)

    def predict(noised_BCHW: Tensor, time: float) -> Tensor:
        time_B = noised_BCHW.new_full((len(noised_BCHW),), time)
        predicted_BCHW: Tensor = latent.transformer(noised_BCHW, condition_BCHW, tokens, time_B)
        return predicted_BCHW

    return latent.autoencoder.decode(latent.flow.sample(predict, noise, steps))
