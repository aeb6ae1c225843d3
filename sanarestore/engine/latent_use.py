"""Decide whether a model's latent path runs, and in how many steps."""

from sanarestore.errors import UsageError
from sanarestore.model.loading import RestorationModel
from sanarestore.options import LATENT, RestoreOptions


def steps_of(options: RestoreOptions, model: RestorationModel) -> int:
    """Return the number of sampling steps: that of the options, or the model's default."""
    return options.steps or int(model.defaults.get("steps", 1))


def is_generated(options: RestoreOptions, model: RestorationModel) -> bool:
    """Return whether the latent path runs: the model has one, and recommends it or a fidelity below 1 needs it.

    UsageError for flags of the latent path that would have no effect, and for candidates that would be alike.
    """
    asked = [
        name for name, chosen in (
            ("--steps", options.steps is not None), ("--guidance", options.guidance != 1),
            (f"--tiling {options.tiling}", options.tiling in LATENT), ("--candidates", options.candidates > 1),
            ("--autoencoder", options.autoencoder is not None), ("--quantize", options.quantize is not None),
            ("--offload", options.offload != "none"),
        ) if chosen
    ]  # fmt: skip
    if model.load_latent is None:
        if asked:
            raise UsageError(
                "it has no effect, because this model has no latent path", where=asked[0], next_step="Leave it out."
            )
        return False
    if asked and options.fidelity == 1 and not model.refines_generated:
        raise UsageError(
            "it has no effect unless --fidelity is below 1", where=asked[0],
            next_step="Lower --fidelity, or leave it out.",
        )  # fmt: skip
    if options.candidates > 1 and steps_of(options, model) == 1:
        raise UsageError(
            "with one sampling step, candidates are nearly the same", where="--candidates",
            next_step="Use more --steps, such as 8, or leave it out.",
        )  # fmt: skip
    return options.fidelity < 1 or model.refines_generated
