"""Classifier-free guidance, the same for every runner."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from sanarestore.flow import Predict

Prompted = TypeVar("Prompted")
"""A prompt in the form that a runner takes."""


def guided(
    predict: Callable[[Tensor, float, Prompted], Tensor], tokens: Prompted, negative: Prompted | None, guidance: float
) -> Predict:
    """Make a predictor for `Flow.sample` from `predict`, which is (x [B,C,H,W], s, prompt) -> v [B,C,H,W].

    With `guidance` w other than 1, v = v(negative) + w (v(prompt) - v(negative)) (Ho & Salimans 2022), at twice the
    cost; ValueError if there is no negative prompt then.
    """
    if guidance == 1:
        return torch.inference_mode()(lambda latent_BCHW, time: predict(latent_BCHW, time, tokens))
    if negative is None:
        raise ValueError("guidance takes a negative prompt to lead away from")

    @torch.inference_mode()
    def led(latent_BCHW: Tensor, time: float) -> Tensor:
        away = predict(latent_BCHW, time, negative)
        return away + guidance * (predict(latent_BCHW, time, tokens) - away)

    return led
