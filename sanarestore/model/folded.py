"""A refiner for one prompt, as it runs: what the prompt decides is folded into its convolutions.

It computes what `Refiner.forward` computes up to rounding, in less time, and most of its body may run in 8 bits.

Shape suffixes as in `refiner.py`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sanarestore.model.calibration import Calibration
from sanarestore.model.colour_correction import WholePhoto
from sanarestore.model.folded_blocks import added_finer
from sanarestore.model.folding import Folding
from sanarestore.model.refiner import Refiner, stem_input
from sanarestore.tiling import Box


class FoldedRefiner(nn.Module):
    """A refiner for one prompt; later changes of the refiner's weights are not seen."""

    @torch.no_grad()
    def __init__(
        self, refiner: Refiner, prompt_1D: Tensor, calibration: Calibration | None = None, *, in_int8: bool = False
    ) -> None:
        """Fold the prompt [1,D] into a refiner as it was cast and placed.

        Channels that are not needed are left out if a `calibration` says which. `in_int8`, most convolutions of the
        body run in 8 bits; this takes a calibration, and a CPU on which `int8_convolution` is available.
        """
        super().__init__()
        self._others = (refiner,)  # in a tuple it is no submodule: its body does not run
        self._prompt_1D = prompt_1D
        self._spatial_modulation, self._colour_correction = refiner.spatial_modulation, refiner.colour_correction
        fold = Folding(refiner, prompt_1D, calibration, in_int8=in_int8)
        self._stem, self._stem_of_one = fold.stems()
        self._encoder = nn.ModuleList(fold.level("encoder", level) for level in range(len(refiner.encoder)))
        self._down = nn.ModuleList(fold.down(level) for level in range(len(refiner.down)))
        self._bottleneck = fold.block("bottleneck", len(refiner.down))
        self._up = nn.ModuleList(fold.up(level) for level in range(len(refiner.up)))
        self._decoder = nn.ModuleList(fold.level("decoder", level) for level in range(len(refiner.decoder)))
        self._head = fold.head()

    @property
    def refiner(self) -> Refiner:
        """The refiner that was folded."""
        return self._others[0]

    def forward(
        self, degraded_BCHW: Tensor, generated_BCHW: Tensor, whole: WholePhoto | None = None, core: Box | None = None
    ) -> Tensor:
        """`Refiner.forward`; faster if both images are the same object.

        With a `core`, top, bottom, left and right in pixels, only this part of the result is returned, and the decoder
        computes no more than that depends on. Top and left are multiples of the stride.
        """
        window = (0, degraded_BCHW.shape[2], 0, degraded_BCHW.shape[3])
        core = core or window
        config = self.refiner.config
        parts = [_around(core, radius, window, config.stride) for radius in config.decoder_radii]
        local_BKHW, modulation_BSHW, weight_B1HW = self.refiner.measure(degraded_BCHW, self._prompt_1D)
        # Nested, so that no name here keeps the stem's result while the body runs.
        features_BCHW = self._body(
            self._enter(degraded_BCHW, generated_BCHW, local_BKHW), modulation_BSHW, [*parts, window]
        )
        residual_BCHW = self._head(features_BCHW.float())
        del features_BCHW
        weight_B1HW, generated_BCHW = (_part(each, window, parts[0]) for each in (weight_B1HW, generated_BCHW))
        restored_BCHW = self.refiner.finish(residual_BCHW, weight_B1HW, generated_BCHW, self._prompt_1D, whole)
        return _part(restored_BCHW, parts[0], core)

    def _enter(self, degraded_BCHW: Tensor, generated_BCHW: Tensor, local_BKHW: Tensor) -> Tensor:
        """The stem's result [B,C,H/2,W/2]."""
        if generated_BCHW is degraded_BCHW:
            hidden: Tensor = self._stem_of_one(stem_input(degraded_BCHW, local_BKHW))
        else:
            hidden = self._stem(stem_input(torch.cat([degraded_BCHW, generated_BCHW], dim=1), local_BKHW))
        return hidden.to(self.refiner.dtype)

    def _body(self, hidden: Tensor, modulation_BSHW: Tensor, parts: Sequence[Box]) -> Tensor:
        """From the stem's result to the head's input, both [B,C,H/2,W/2].

        `parts` are the parts of the window that the decoder computes, finest level first, and the window itself.
        """
        *_, window = parts
        skips = []
        for level, down in zip(self._encoder, self._down, strict=True):
            for block in level.children():
                hidden = block(hidden, modulation_BSHW)
            skips.append(hidden)
            hidden = down(hidden)
        hidden = self._bottleneck(hidden, modulation_BSHW)
        coarser = window
        for level, up, part in zip(reversed(self._decoder), reversed(self._up), reversed(parts[:-1]), strict=True):
            fine = _dense(_part(skips.pop(), window, part))
            hidden = added_finer(fine, up(_dense(_part(hidden, coarser, part))))
            del fine
            coarser, steering_BSHW = part, _dense(_part(modulation_BSHW, window, part))
            for block in level.children():
                hidden = block(hidden, steering_BSHW)
        return hidden


def _around(core: Box, radius: int, window: Box, stride: int) -> Box:
    """The part of a window within a radius of a core, whose ends are rounded up to the stride."""
    top, bottom, left, right = core
    bottom, right = (-(-end // stride) * stride + radius for end in (bottom, right))
    return max(top - radius, 0), min(bottom, window[1]), max(left - radius, 0), min(right, window[3])


def _part(map_BCHW: Tensor, held: Box, part: Box) -> Tensor:
    """A view of a part of a map at any resolution, which shows `held`; boxes in pixels."""
    if part == held:
        return map_BCHW
    pixel = (held[1] - held[0]) // map_BCHW.shape[2]
    rows = slice((part[0] - held[0]) // pixel, (part[1] - held[0]) // pixel)
    columns = slice((part[2] - held[2]) // pixel, (part[3] - held[2]) // pixel)
    return map_BCHW[:, :, rows, columns]


def _dense(map_BCHW: Tensor) -> Tensor:
    """The map as convolutions take it without copying it again."""
    return map_BCHW.contiguous(memory_format=torch.channels_last)
