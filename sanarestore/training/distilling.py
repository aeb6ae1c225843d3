"""Distillation of many sampling steps to few: continuous-time consistency (Lu & Song 2025), as in SANA-Sprint.

Shape suffixes: B batch, C channels, H W latent positions.

A consistency model maps every point of a path from noise to image to its end at once. On the trigonometric path
x' = cos(t) z + sin(t) e the end is f(x', t) = cos(t) x' - sin(t) F(x', t), where F is the transformer's dx'/dt (see
`flow.trigonometric`). Training makes f constant along the path: dF moves towards df/dt, the derivative of f along the
teacher's velocity: by forward-mode differentiation, or averaged over a window. The transformer begins as the teacher.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sanarestore import weights
from sanarestore.errors import UsageError
from sanarestore.flow import SIGMA_DATA, Field, training_angles, trigonometric
from sanarestore.model.base import read_json
from sanarestore.model.lora import Lora
from sanarestore.model.transformer import ConditionedTransformer, Tokens
from sanarestore.training.batching import Batch
from sanarestore.training.generating import FlowObjective, drawing
from sanarestore.training.parts import Parts
from sanarestore.training.ranks import Ranks
from sanarestore.training.recipe import TrainingRecipe

FEW_STEPS = 4
"""Largest number of sampling steps that a distilled transformer is meant for."""

TANGENT_FLOOR = 0.1
"""Added to the size of a tangent before dividing by it: small tangents stay small (Lu & Song 2025, section 4.1)."""


class DistillationObjective(FlowObjective):
    """Trains the transformer and its condition to reach the end of a path from any of its points."""

    def __init__(self, parts: Parts, recipe: TrainingRecipe) -> None:
        path = replace(parts.path, flow=replace(parts.path.flow, solver="consistency"))
        defaults = {**parts.defaults, "steps": 1, "solver": "consistency"}
        defaults.pop("steps_range", None)  # the teacher's, which holds no longer
        super().__init__(replace(parts, latent=path, defaults=defaults), recipe)
        self.teacher: ConditionedTransformer | None = None
        if recipe.teacher:
            self.teacher, low_rank = _teacher_of(path.transformer, parts.lora)
            # The hooks of a transformer hold its low-rank weights, but do not list them.
            self._everything.extend(filter(None, [self.teacher, low_rank]))

    @property
    def steps_range(self) -> tuple[int, int]:
        return (1, FEW_STEPS)

    def shard(self, ranks: Ranks) -> None:
        raise UsageError(
            "sharded weights have no forward-mode derivatives, which distillation needs", where="--shard",
            next_step="Leave it out, and train with --lora if memory is short.",
        )  # fmt: skip

    def loss(self, batch: Batch) -> Tensor:
        recipe, student = self.recipe, self.parts.path.transformer
        with torch.no_grad():
            condition_BCHW, clean_BCHW = (each.repeat(recipe.draws, 1, 1, 1) for each in self.latents(batch))
            tokens = self._tokens(batch).repeated(recipe.draws)
        noise_BCHW, angle_B = (
            drawn.to(clean_BCHW) for drawn in _noise_and_angles(recipe, batch.numbers, clean_BCHW.shape[1:])
        )
        cosine_B111, sine_B111 = _sides(angle_B)
        noised_BCHW = cosine_B111 * clean_BCHW + sine_B111 * noise_BCHW
        slope_BCHW = cosine_B111 * noise_BCHW - sine_B111 * clean_BCHW
        if self.teacher is not None:
            with torch.no_grad():
                slope_BCHW = _field(self.teacher, condition_BCHW, tokens)(noised_BCHW, angle_B)
        share = min(batch.number / recipe.tangent_warmup, 1.0) if recipe.tangent_warmup else 1.0
        return consistency_loss(
            _field(student, condition_BCHW, tokens), noised_BCHW, angle_B, slope_BCHW,
            share=share, window=recipe.time_window,
        )  # fmt: skip


def check_teacher(parts: Parts, recipe: TrainingRecipe, base: str | None) -> None:
    """Raise UsageError if a transformer cannot be distilled, or if the teacher was itself trained for few steps."""
    where = base or "--base scratch"
    if recipe.teacher:
        latent, known = parts.latent, parts.defaults.get("steps_range")
        few = known and known[1] <= FEW_STEPS
        fact = (
            "there is no latent path to distil" if latent is None
            else "its condition is untrained, so that a teacher would ignore the photo" if not parts.sees_photo
            else "it is a model of few steps, which cannot teach"
            if latent.flow.solver == "consistency" or few
            else ""
        )  # fmt: skip
        if fact:
            step = "Train it by the objective flow first, or set teacher = false in the recipe (consistency training)."
            raise UsageError(fact, where=where, next_step=step)
    if parts.latent is not None and parts.latent.transformer.config.qk_norm is None:
        raise _without_norms(where)


def check_stages(recipe: TrainingRecipe, base: str) -> None:
    """Raise UsageError, before hours of training, if a later stage would distil a base that cannot be distilled."""
    if all(stage.objective != "distillation" for stage in recipe.stages[1:]):
        return
    folder = weights.resolve(base)
    if weights.is_adapter(folder):
        folder = weights.resolve(str(weights.read_adapter_index(folder)["base"]))
    path = folder / "transformer/config.json"
    if path.is_file() and read_json(path).get("qk_norm") is None:
        raise _without_norms(base)


def _without_norms(where: str) -> UsageError:
    # Sprint adds such norms and trains them; an adapter cannot hold them.
    return UsageError(
        "its attention does not normalise queries and keys, without which distillation is unstable", where=where,
        next_step="Name a base with such norms, as those of SANA-1.5 and Sprint, or leave out the distillation.",
    )  # fmt: skip


def refuse_distilled(parts: Parts, base: str | None) -> None:
    """Raise UsageError if a transformer was distilled to few steps, which flow matching would undo."""
    if parts.defaults.get("solver") == "consistency":
        raise UsageError(
            "it was distilled to few steps, which the objective flow would undo", where=base,
            next_step="Train its teacher further, or use distillation with teacher = false in the recipe.",
        )  # fmt: skip


def consistency_loss(
    student: Field, noised_BCHW: Tensor, angle_B: Tensor, slope_BCHW: Tensor, *, share: float, window: float
) -> Tensor:
    """The mean squared distance of F from itself moved by the normalised tangent.

    `share` in [0, 1] is that of the tangent's terms with the student's own derivative, which are unstable at first;
    `window` is that of `change_along`. The loss is the size of the tangents, near 1 until they vanish; validation shows
    progress, the loss does not.
    """
    # With gradients first: autocast caches cast weights, and must not cache any without a gradient.
    predicted_BCHW = student(noised_BCHW, angle_B)
    with torch.no_grad():
        fixed_BCHW = predicted_BCHW.detach()
        change_BCHW = change_along(student, noised_BCHW, angle_B, slope_BCHW, window)
        tangent_BCHW = normalized_tangent(fixed_BCHW, change_BCHW, noised_BCHW, angle_B, slope_BCHW, share)
    loss: Tensor = (predicted_BCHW - fixed_BCHW - tangent_BCHW).square().mean()
    return loss


def normalized_tangent(
    predicted_BCHW: Tensor, change_BCHW: Tensor, noised_BCHW: Tensor, angle_B: Tensor, slope_BCHW: Tensor, share: float
) -> Tensor:
    """The tangent cos(t) df/dt along the slope dx'/dt, divided by its own size, [B,C,H,W].

    Lu & Song (2025, section 4.1), whose units differ by `SIGMA_DATA`. Its size is the root mean square, which does not
    grow with the crop (Chen et al. 2025).
    """
    cosine_B111, sine_B111 = _sides(angle_B)
    tangent_BCHW = cosine_B111.square() * (slope_BCHW - predicted_BCHW)
    tangent_BCHW = SIGMA_DATA * (tangent_BCHW - share * (cosine_B111 * sine_B111 * noised_BCHW + change_BCHW))
    size_B111 = tangent_BCHW.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    normalized_BCHW: Tensor = tangent_BCHW / (size_B111 + TANGENT_FLOOR)
    return normalized_BCHW


@torch.compiler.disable  # type: ignore[untyped-decorator]
def change_along(student: Field, noised_BCHW: Tensor, angle_B: Tensor, slope_BCHW: Tensor, window: float) -> Tensor:
    """cos(t) sin(t) dF/dt along the slope dx'/dt, [B,C,H,W]: the mean within `window` radians, or exact if that is 0.

    A transformer with timesteps up to 1000 fluctuates from one to the next, so that its exact derivative is mostly
    noise.
    """
    cosine_B111, sine_B111 = _sides(angle_B)
    both_B111 = cosine_B111 * sine_B111
    if window:
        before_B, after_B = (angle_B - window).clamp(min=0), (angle_B + window).clamp(max=torch.pi / 2)
        first_BCHW, last_BCHW = (
            student(noised_BCHW + (at_B - angle_B)[:, None, None, None] * slope_BCHW, at_B)
            for at_B in (before_B, after_B)
        )
        return both_B111 * (last_BCHW - first_BCHW) / (after_B - before_B)[:, None, None, None]
    # Fused attention has no forward-mode derivative.
    with sdpa_kernel(SDPBackend.MATH):
        # The factor keeps the derivative bounded near pi/2, where tan(t) grows without limit.
        found: Any = torch.func.jvp(student, (noised_BCHW, angle_B), (both_B111 * slope_BCHW, both_B111.flatten()))
    change_BCHW: Tensor = found[1]
    return change_BCHW


def _teacher_of(transformer: ConditionedTransformer, lora: Lora | None) -> tuple[ConditionedTransformer, Lora | None]:
    """Copy a transformer and its low-rank weights; a frozen base is shared, not copied."""
    shared: dict[int, Any] = {id(each): each for each in transformer.parameters() if not each.requires_grad}
    teacher, low_rank = copy.deepcopy((transformer, lora), shared)
    return teacher.eval().requires_grad_(False), low_rank.requires_grad_(False) if low_rank else None


def _field(transformer: ConditionedTransformer, condition_BCHW: Tensor, tokens: Tokens) -> Field:
    """The transformer's field on the trigonometric path, for a batch."""
    return trigonometric(lambda latent_BCHW, time_B: transformer(latent_BCHW, condition_BCHW, tokens, time_B))


def _sides(angle_B: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of angles, [B,1,1,1]."""
    return angle_B.cos()[:, None, None, None], angle_B.sin()[:, None, None, None]


def _noise_and_angles(recipe: TrainingRecipe, numbers: Sequence[int], shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Draw noise [D*B,C,H,W] and angles [D*B] for D draws of every sample: the first draws of all, then the second."""
    noises, angles = [], []
    for number in numbers:
        generator = drawing(recipe.seed, "distillation", number)
        noises.append(torch.randn(recipe.draws, *shape, generator=generator))
        angles.append(training_angles(recipe.draws, generator))
    return torch.stack(noises, dim=1).flatten(0, 1), torch.stack(angles, dim=1).flatten()
