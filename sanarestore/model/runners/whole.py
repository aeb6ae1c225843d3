"""Run the transformer on the whole latent at once: the reference for all other runners."""

import torch
from torch import Tensor

from sanarestore.flow import Predict
from sanarestore.model.runners.guidance import guided
from sanarestore.model.transformer import ConditionedTransformer, Tokens


def whole(
    transformer: ConditionedTransformer,
    condition_BCHW: Tensor,
    tokens: Tokens,
    *,
    negative: Tokens | None = None,
    guidance: float = 1.0,
) -> Predict:
    """Make a predictor for `Flow.sample` on latents [B,C,H,W], under this condition and prompt.

    `guidance` as in `guided`.
    """

    def predict(latent_BCHW: Tensor, time: float, context: Tokens) -> Tensor:
        time_B = condition_BCHW.new_full((len(latent_BCHW),), time, dtype=torch.float32)
        velocity_BCHW: Tensor = transformer(latent_BCHW, condition_BCHW, context, time_B)
        return velocity_BCHW

    return guided(predict, tokens, negative, guidance)
