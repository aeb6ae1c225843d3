"""Run the transformer in windows whose predictions are blended at every step; not equal to untiled processing.

Shape suffixes: C latent channels, H W latent positions, T windows, D features.

    causal           a window attends to itself and to all earlier ones, by sums carried on in each layer
    multidiffusion   a window attends only to itself (Bar-Tal et al. 2023): the baseline
"""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from sanarestore.flow import Predict
from sanarestore.model.runners.apart import embed, shared
from sanarestore.model.runners.guidance import guided
from sanarestore.model.runners.prompt import Prompt, prompts
from sanarestore.model.runners.windows import Carried, add, place_of, velocities, windows_of
from sanarestore.model.transformer import ConditionedTransformer, Tokens
from sanarestore.tiling import Window


def windowed(
    transformer: ConditionedTransformer,
    condition_1CHW: Tensor,
    tokens: Tokens | Prompt,
    *,
    looks_back: bool,
    tile: int,
    overlap: int,
    at_once: int = 1,
    negative: Tokens | Prompt | None = None,
    guidance: float = 1.0,
) -> Predict:
    """Make a predictor for `Flow.sample` on latents [1,C,H,W], in windows of at most `tile` latent positions a side.

    With `looks_back`, windows attend to earlier ones, by carried sums that do not grow with the image and are reset at
    every step. `at_once` windows run together by prefix sums, with the same result as one by one.
    `guidance` as in `guided`.
    """

    def predict(latent_1CHW: Tensor, time: float, prompt: Prompt) -> Tensor:
        run = _Run(transformer, latent_1CHW, condition_1CHW, prompt, time)
        windows = windows_of(transformer, *latent_1CHW.shape[2:], tile=tile, overlap=overlap)
        return run.blended(windows, at_once, looks_back=looks_back)

    return guided(predict, *prompts(transformer, tokens, negative), guidance)


def causal_velocity(
    transformer: ConditionedTransformer, latent_1CHW: Tensor, condition_1CHW: Tensor, tokens: Tokens, time: float, *,
    tile: int, overlap: int,
) -> Tensor:  # fmt: skip
    """Predict a velocity [1,C,H,W] as the scheme `causal` does, all windows together; gradients flow through it."""
    run = _Run(transformer, latent_1CHW, condition_1CHW, Prompt(transformer, tokens), time)
    windows = windows_of(transformer, *latent_1CHW.shape[2:], tile=tile, overlap=overlap)
    return run.blended(windows, len(windows), looks_back=True)


causal = partial(windowed, looks_back=True)
multidiffusion = partial(windowed, looks_back=False)


class _Run:
    """One call of the transformer: the tokens of the whole image, and the inputs that they share."""

    def __init__(
        self, model: ConditionedTransformer, latent_1CHW: Tensor, condition_1CHW: Tensor, prompt: Prompt, time: float
    ) -> None:
        self._patch = int(model.config.patch_size)
        rows, columns = (side // self._patch for side in latent_1CHW.shape[2:])
        self._model = model
        self._context = shared(model, prompt, latent_1CHW.new_full((1,), time, dtype=torch.float32))
        self._stream_HWD = embed(model, latent_1CHW, condition_1CHW)[0].view(rows, columns, -1)
        self._blended_1CHW = torch.zeros_like(latent_1CHW, dtype=torch.float32)

    def blended(self, windows: Sequence[Window], at_once: int, *, looks_back: bool) -> Tensor:
        """Blend the velocities of all windows; with `looks_back`, windows attend to earlier ones."""
        carried: Carried | None = {} if looks_back else None
        for group in _groups(windows, at_once):
            hidden_THWD = torch.stack([self._stream_HWD[place_of(window, 1)] for window in group])
            found_TChw = velocities(self._model, hidden_THWD, group, self._context, carried)
            add(self._blended_1CHW, found_TChw, group, self._patch)
        return self._blended_1CHW


def _groups(windows: Sequence[Window], at_once: int) -> Iterator[Sequence[Window]]:
    """Group successive windows of one size, at most `at_once` in a group."""
    group: list[Window] = []
    for window in windows:
        if group and (len(group) == at_once or group[0].weight_hw.shape != window.weight_hw.shape):
            yield group
            group = []
        group.append(window)
    yield group
