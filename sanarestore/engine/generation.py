"""The latent path on a device: a degraded image in, a generated one out, stage by stage over the whole host array.

Shape suffixes: C channels, H W pixels, Z latent channels, h w latent positions, D prompt features.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from sanarestore.engine.tiles import Steps, Tiles, in_turn, is_out_of_memory
from sanarestore.errors import OutOfMemory
from sanarestore.flow import Predict, noise_field
from sanarestore.model.loading import LatentPath
from sanarestore.model.prompts import Prompts
from sanarestore.model.runners.exact import exact
from sanarestore.model.runners.whole import whole
from sanarestore.model.transformer import Tokens


class Generation:
    """SANA ready for any number of images under one prompt."""

    def __init__(
        self, latent: LatentPath, prompts: Prompts, *, prompt: str, steps: int, guidance: float, seed: int, tiles: Tiles
    ) -> None:
        """`latent` is moved to the device of `tiles`, in place."""
        self.latent = latent
        self._tiles = tiles
        self._autoencoder = latent.autoencoder.to(tiles.device)
        self._transformer = latent.transformer.to(tiles.device)
        self._flow = latent.flow
        self._steps = steps
        self._guidance = guidance
        self._seed = seed
        table = prompts.fetch([prompt, ""] if guidance != 1 else [prompt])
        self._tokens = self._prompt(table[prompt.strip()])
        self._negative = self._prompt(table[""]) if guidance != 1 else None

    def count(self, height: int, width: int) -> int:
        """How many steps of progress an image of this size takes, as things stand."""
        stride = self._autoencoder.stride
        return 2 * self._tiles.count(height, width, stride=stride) + self._steps

    def __call__(self, degraded_CHW: Tensor, generated_CHW: Tensor) -> Steps:
        """Fill `generated_CHW`, around [0,1], from `degraded_CHW`; both on the host and of one size, whatever it is."""
        height, width = degraded_CHW.shape[1:]
        stride, device = self._autoencoder.stride, self._tiles.device
        shape = (1, self._autoencoder.latent_channels, -(-height // stride), -(-width // stride))
        condition_1Zhw, latent_1Zhw = torch.empty(shape, device=device), torch.empty(shape, device=device)
        tiles = self._tiles.count(height, width, stride=stride)
        yield from in_turn(
            [
                (self._encode(degraded_CHW, condition_1Zhw), tiles),
                (self._sample(condition_1Zhw, latent_1Zhw), self._steps),
                (self._decode(latent_1Zhw, generated_CHW), tiles),
            ]
        )

    def _encode(self, image_CHW: Tensor, latent_1Zhw: Tensor) -> Steps:
        model = self._autoencoder
        map_CHW = self._map(latent_1Zhw, model.encoder_channels, model.encoder_cell)
        yield from self._tiles.map(
            self._encode_window, (image_CHW,), map_CHW,
            halo=_whole(model.encoder_radius, model.stride), stride=model.stride, output_cell=model.encoder_cell,
        )  # fmt: skip
        with _in_one_piece(self._tiles.device), torch.inference_mode():
            latent_1Zhw.copy_(model.encode_deep(map_CHW[None].to(self._tiles.device)))

    def _sample(self, condition_1Zhw: Tensor, latent_1Zhw: Tensor) -> Steps:
        drawn = noise_field(self._seed, *condition_1Zhw.shape)

        def steps() -> Steps:
            predict = self._predict(condition_1Zhw)
            states = self._flow.steps(predict, lambda number: drawn(number).to(self._tiles.device), self._steps)
            for done, state in enumerate(states, start=1):
                latent_1Zhw.copy_(state)
                yield done, self._steps

        yield from self._tiles.again(steps, max(condition_1Zhw.shape) * self._autoencoder.stride)

    def _predict(self, condition_1Zhw: Tensor) -> Predict:
        """By the tiles in force: what a strip of tokens holds is what a tile of the latent does."""
        led: Any = {"negative": self._negative, "guidance": self._guidance}
        if self._tiles.whole:
            return whole(self._transformer, condition_1Zhw, self._tokens, **led)
        largest = max(self._tiles.size // self._autoencoder.stride, 1) ** 2
        return exact(self._transformer, condition_1Zhw, self._tokens, largest=largest, **led)

    def _decode(self, latent_1Zhw: Tensor, image_CHW: Tensor) -> Steps:
        model = self._autoencoder
        with _in_one_piece(self._tiles.device), torch.inference_mode():
            map_CHW = model.decode_deep(latent_1Zhw)[0].cpu()
        yield from self._tiles.map(
            self._decode_window, (map_CHW,), image_CHW,
            halo=_whole(model.decoder_radius, model.stride), stride=model.stride, input_cell=model.decoder_cell,
        )  # fmt: skip

    @torch.inference_mode()
    def _encode_window(self, image_Chw: Tensor) -> Tensor:
        return self._autoencoder.encode_shallow(self._to_device(image_Chw))[0]

    @torch.inference_mode()
    def _decode_window(self, map_Chw: Tensor) -> Tensor:
        return self._autoencoder.decode_shallow(self._to_device(map_Chw))[0]

    def _to_device(self, window_Chw: Tensor) -> Tensor:
        return window_Chw[None].to(self._tiles.device, memory_format=torch.channels_last)

    def _map(self, latent_1Zhw: Tensor, channels: int, cell: int) -> Tensor:
        """Room on the host for the map between the autoencoder's two parts."""
        positions = self._autoencoder.stride // cell
        rows, columns = latent_1Zhw.shape[2:]
        return torch.empty((channels, rows * positions, columns * positions), dtype=self._autoencoder.dtype)

    def _prompt(self, token_LD: Tensor) -> Tokens:
        return Tokens.of([token_LD.to(self._tiles.device)])


@contextmanager
def _in_one_piece(device: torch.device) -> Iterator[None]:
    """What attends to everything takes the image whole: where that does not fit, say so."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"out of memory on {device}: the latent path holds the whole image there",
            next_step="Use --devices cpu, a smaller image, or a model without a latent path.",
        ) from error


def _whole(radius: int, stride: int) -> int:
    return -(-radius // stride) * stride
