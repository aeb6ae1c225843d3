"""Run windows to the end one after another, each attending to the clean latents of earlier windows.

Shape suffixes: C latent channels, H W latent positions, h w those of a window, N tokens of a window, D features.

    causal       steps outer, windows inner: a window attends to earlier ones at the same step and noise level
    clean pass   windows outer, steps inner: a window attends to finished ones, by one more forward at time 0 for each

Windows are blended once, as clean latents.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sanarestore.flow import Flow, Noise
from sanarestore.model.runners.apart import embed_part, positions, shared
from sanarestore.model.runners.guidance import guided
from sanarestore.model.runners.prompt import Prompt, prompts
from sanarestore.model.runners.windows import Carried, add, place_of, velocities, windows_of
from sanarestore.model.transformer import ConditionedTransformer, Tokens
from sanarestore.tiling import Window


def clean_pass(
    transformer: ConditionedTransformer,
    condition_1CHW: Tensor,
    tokens: Tokens | Prompt,
    latent_1CHW: Tensor,
    flow: Flow,
    noise: Noise,
    *,
    steps: int,
    tile: int,
    overlap: int,
    shift: int = 0,
    negative: Tokens | Prompt | None = None,
    guidance: float = 1.0,
) -> Iterator[tuple[int, int]]:
    """Fill `latent_1CHW` with a clean latent, in windows of at most `tile` latent positions a side.

    Yields (done, total) after every step of every window. `noise` covers the whole latent; each window takes its part.
    The carried sums (`state_bytes`, twice with a `guidance` other than 1) do not grow with the image. `shift` moves the
    grid of windows, for measuring. `guidance` as in `guided`.
    """
    patch = int(transformer.config.patch_size)
    rows, columns = latent_1CHW.shape[2:]
    windows = windows_of(transformer, rows, columns, tile=tile, overlap=overlap, shift=shift)
    position_1ND = positions(transformer, rows // patch, columns // patch)
    position_1HWD = None if position_1ND is None else position_1ND.view(1, rows // patch, columns // patch, -1)
    read, unread = prompts(transformer, tokens, negative)
    wanted, unwanted = _Trail(read), _Trail(unread) if unread is not None and guidance != 1 else None
    trails = [wanted, unwanted] if unwanted else [wanted]
    latent_1CHW.zero_()
    for index, window in enumerate(windows):
        part = _Part(transformer, condition_1CHW, position_1HWD, window)
        predict = guided(part.velocity, wanted, unwanted, guidance)
        for step, clean_1Chw in enumerate(flow.steps(predict, part.noise(noise), steps), start=1):
            if step == steps:
                add(latent_1CHW, clean_1Chw, [window], patch)
                # No window follows the last one.
                for trail in trails if window is not windows[-1] else ():
                    part.leave(clean_1Chw, trail)
            yield index * steps + step, len(windows) * steps


@dataclass(frozen=True, slots=True)
class _Trail:
    """Attention sums of the finished windows under one prompt."""

    prompt: Prompt
    carried: Carried = field(default_factory=dict)


class _Part:
    """A window, with its part of condition and positions."""

    def __init__(
        self, model: ConditionedTransformer, condition_1CHW: Tensor, position_1HWD: Tensor | None, window: Window
    ) -> None:
        self._model = model
        self._window = window
        self._place = place_of(window, int(model.config.patch_size))
        self._condition_1Chw = condition_1CHW[..., *self._place]
        self._position_1ND = None if position_1HWD is None else position_1HWD[:, *place_of(window, 1)].flatten(1, 2)

    def noise(self, whole: Noise) -> Noise:
        """Cut the window's part from every draw of noise."""
        return lambda number: whole(number)[..., *self._place]

    def velocity(self, latent_1Chw: Tensor, time: float, trail: _Trail) -> Tensor:
        """Velocity of the window, which attends to itself at this time and to finished windows."""
        # A copy, because the sums of an unfinished window must not be carried on.
        return self._through(latent_1Chw, time, trail.prompt, dict(trail.carried))

    @torch.inference_mode()
    def leave(self, clean_1Chw: Tensor, trail: _Trail) -> None:
        """Run the clean pass: add the window's sums at time 0 to the carried ones."""
        self._through(clean_1Chw, 0.0, trail.prompt, trail.carried)

    def _through(self, latent_1Chw: Tensor, time: float, prompt: Prompt, carried: Carried) -> Tensor:
        context = shared(self._model, prompt, latent_1Chw.new_full((1,), time, dtype=torch.float32))
        hidden_1ND = embed_part(self._model, latent_1Chw, self._condition_1Chw, self._position_1ND)
        hidden_1hwD = hidden_1ND.view(1, *self._window.weight_hw.shape, -1)
        return velocities(self._model, hidden_1hwD, [self._window], context, carried)
