"""The transformer window by window, with predictions blended at every step: schemes that are not equal to the whole.

Shape suffixes: C latent channels, H W latent positions, T windows, N tokens of a window, D features.

    causal           a window attends to itself and to all before it, through sums that each layer carries on
    multidiffusion   a window attends to itself alone (Bar-Tal et al. 2023): the baseline

Windows overlap, and go in raster order. A token counts once: in the first window that covers it.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from sanarestore.flow import Predict
from sanarestore.kernels.blend import add_windows
from sanarestore.model.runners.apart import Block, Shared, embed, shared, velocity
from sanarestore.model.runners.guidance import guided
from sanarestore.model.transformer import ConditionedTransformer, Tokens
from sanarestore.tiling import Window, overlapping


def windowed(
    transformer: ConditionedTransformer,
    condition_1CHW: Tensor,
    tokens: Tokens,
    *,
    looks_back: bool,
    tile: int,
    overlap: int,
    shift: int = 0,
    at_once: int = 1,
    negative: Tokens | None = None,
    guidance: float = 1.0,
) -> Predict:
    """The velocity of latents [1,C,H,W], for `Flow.sample`, from windows of at most `tile` latent positions a side.

    If it `looks_back`, what is carried from window to window does not grow with the image (`state_bytes`), and begins
    anew at every step. `at_once` windows are run together, by prefix sums, with the result of one after another.
    `shift` moves the grid of windows, for measuring. `guidance` as in `guided`.
    """

    def predict(latent_1CHW: Tensor, time: float, told: Tokens) -> Tensor:
        run = _Run(transformer, latent_1CHW, condition_1CHW, told, time)
        return run.blended(_windows(run, tile, overlap, shift), at_once, looks_back=looks_back)

    return guided(predict, tokens, negative, guidance)


causal = partial(windowed, looks_back=True)
multidiffusion = partial(windowed, looks_back=False)


def state_bytes(transformer: ConditionedTransformer) -> int:
    """What `causal` carries: for every layer and head, the sums of D + 1 by D floats."""
    config = transformer.config
    size = int(config.attention_head_dim)
    return int(config.num_layers) * int(config.num_attention_heads) * (size + 1) * size * 4


class _Run:
    """One call of the transformer: the tokens of the whole image, and what they are told alike."""

    def __init__(
        self, model: ConditionedTransformer, latent_1CHW: Tensor, condition_1CHW: Tensor, tokens: Tokens, time: float
    ) -> None:
        self.patch = int(model.config.patch_size)
        self.rows, self.columns = (side // self.patch for side in latent_1CHW.shape[2:])
        self._model = model
        self._told = shared(model, tokens, latent_1CHW.new_full((1,), time, dtype=torch.float32))
        self._stream_HWD = embed(model, latent_1CHW, condition_1CHW)[0].view(self.rows, self.columns, -1)
        self._blended_1CHW = torch.zeros_like(latent_1CHW, dtype=torch.float32)

    def blended(self, windows: Sequence[Window], at_once: int, *, looks_back: bool) -> Tensor:
        """The velocity; whether windows attend to those before them is `looks_back`."""
        carried: dict[int, Tensor] = {}
        for group in _groups(windows, at_once):
            told = self._told.repeated(len(group))
            velocity_TChw = self._through(group, told, carried, looks_back)
            weight_Thw = torch.stack([window.weight_hw for window in group]).to(velocity_TChw)
            weight_Thw = weight_Thw.repeat_interleave(self.patch, 1).repeat_interleave(self.patch, 2)
            corners = [(self.patch * window.box[0], self.patch * window.box[2]) for window in group]
            add_windows(self._blended_1CHW[0], velocity_TChw, weight_Thw, corners)
        return self._blended_1CHW

    def _through(self, group: Sequence[Window], told: Shared, carried: dict[int, Tensor], looks_back: bool) -> Tensor:
        """Their velocities, [T,C,h,w]; `carried` are each layer's sums of the windows before, and then of these too."""
        hidden_THWD = torch.stack([_cut(self._stream_HWD, window) for window in group])
        shape = hidden_THWD.shape[:3]
        counted_TN1 = torch.stack([_owned(window) for window in group]).flatten(1)[..., None].to(hidden_THWD)
        hidden_TND = hidden_THWD.flatten(1, 2)
        for layer, parts in enumerate(self._model.blocks):
            block = Block(parts, told)
            sums_Thed = block.key_sums(hidden_TND, counted_TN1 if looks_back else None)
            if looks_back:
                sums_Thed = sums_Thed.cumsum(dim=0)
                sums_Thed = sums_Thed + carried[layer] if layer in carried else sums_Thed
                carried[layer] = sums_Thed[-1:]
            hidden_TND = block.attend(hidden_TND, sums_Thed)
            hidden_TND = hidden_TND + block.feed(hidden_TND.view(*shape, -1)).flatten(1, 2)
        return velocity(self._model, hidden_TND, told, columns=shape[2])


def _windows(run: _Run, tile: int, overlap: int, shift: int) -> list[Window]:
    tile = max(tile // run.patch, 1)
    overlap = min(-(-overlap // run.patch), tile - 1)
    return overlapping(run.rows, run.columns, tile=tile, overlap=overlap, shift=shift // run.patch)


def _groups(windows: Sequence[Window], at_once: int) -> Iterator[Sequence[Window]]:
    """In turn, at most so many, and all of one size."""
    group: list[Window] = []
    for window in windows:
        if group and (len(group) == at_once or group[0].weight_hw.shape != window.weight_hw.shape):
            yield group
            group = []
        group.append(window)
    yield group


def _cut(stream_HWD: Tensor, window: Window) -> Tensor:
    top, bottom, left, right = window.box
    return stream_HWD[top:bottom, left:right]


def _owned(window: Window) -> Tensor:
    """1 where the window is the first to cover a token, [h,w]."""
    top, bottom, left, right = window.box
    first, last, begin, end = window.owned
    mask_hw = torch.zeros(bottom - top, right - left)
    mask_hw[first - top : last - top, begin - left : end - left] = 1
    return mask_hw
