"""The transformer over the whole latent at once: the runner that all others are measured against."""

import torch
from torch import Tensor

from sanarestore.flow import Predict
from sanarestore.model.transformer import ConditionedTransformer, Tokens


def whole(
    transformer: ConditionedTransformer,
    condition_BCHW: Tensor,
    tokens: Tokens,
    *,
    negative: Tokens | None = None,
    guidance: float = 1.0,
) -> Predict:
    """The velocity of latents [B,C,H,W] under this condition and prompt, for `Flow.sample`.

    With `guidance` w above 1, v = v(negative) + w (v(prompt) - v(negative)) (Ho & Salimans 2022), at twice the cost.
    """
    if guidance != 1 and negative is None:
        raise ValueError("guidance takes a negative prompt to lead away from")

    @torch.inference_mode()
    def predict(latent_BCHW: Tensor, time: float) -> Tensor:
        time_B = condition_BCHW.new_full((len(latent_BCHW),), time, dtype=torch.float32)
        towards = transformer(latent_BCHW, condition_BCHW, tokens, time_B)
        if guidance == 1 or negative is None:
            return towards  # type: ignore[no-any-return]
        away = transformer(latent_BCHW, condition_BCHW, negative, time_B)
        return away + guidance * (towards - away)  # type: ignore[no-any-return]

    return predict
