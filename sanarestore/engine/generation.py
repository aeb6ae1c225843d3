"""The latent path on a device: a degraded image in, a generated one out, stage by stage over the whole host array.

Shape suffixes: C channels, H W pixels, Z latent channels, h w latent positions, D prompt features.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sanarestore.engine.tiles import Steps, Tiles, in_turn
from sanarestore.flow import Predict, noise_field
from sanarestore.model.loading import LatentPath
from sanarestore.model.prompts import Prompts
from sanarestore.model.runners.deep import Core, Pass, decoder_passes, encoder_passes
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
        self._way_in = encoder_passes(latent.autoencoder)
        self._way_out = decoder_passes(latent.autoencoder)
        self._flow = latent.flow
        self._steps = steps
        self._guidance = guidance
        self._seed = seed
        table = prompts.fetch([prompt, ""] if guidance != 1 else [prompt])
        self._tokens = self._prompt(table[prompt.strip()])
        self._negative = self._prompt(table[""]) if guidance != 1 else None

    def count(self, height: int, width: int) -> int:
        """How many steps of progress an image of this size takes, as things stand."""
        tiles = self._tiles.count(height, width, stride=self._autoencoder.stride)
        return 2 * tiles + self._steps + sum(_count(passes, tiles) for passes in (self._way_in, self._way_out))

    def __call__(self, degraded_CHW: Tensor, generated_CHW: Tensor) -> Steps:
        """Fill `generated_CHW`, around [0,1], from `degraded_CHW`; both on the host and of one size, whatever it is."""
        height, width = degraded_CHW.shape[1:]
        model, device = self._autoencoder, self._tiles.device
        shape = (1, model.latent_channels, -(-height // model.stride), -(-width // model.stride))
        condition_1Zhw, latent_1Zhw = torch.empty(shape, device=device), torch.empty(shape, device=device)
        seen_CHW = self._map(latent_1Zhw, model.encoder_channels, model.encoder_cell)
        drawn_CHW = self._map(latent_1Zhw, self._way_out[-1].channels, model.decoder_cell)
        tiles = self._tiles.count(height, width, stride=model.stride)
        yield from in_turn(
            [
                (self._encode(degraded_CHW, seen_CHW), tiles),
                (self._deep(self._way_in, model.encode_deep, seen_CHW, condition_1Zhw[0]), _count(self._way_in, tiles)),
                (self._sample(condition_1Zhw, latent_1Zhw), self._steps),
                (self._deep(self._way_out, model.decode_deep, latent_1Zhw[0], drawn_CHW), _count(self._way_out, tiles)),
                (self._decode(drawn_CHW, generated_CHW), tiles),
            ]
        )

    def _encode(self, image_CHW: Tensor, map_CHW: Tensor) -> Steps:
        model = self._autoencoder
        yield from self._tiles.map(
            self._encode_window, (image_CHW,), map_CHW,
            halo=_whole(model.encoder_radius, model.stride), stride=model.stride, output_cell=model.encoder_cell,
        )  # fmt: skip

    def _decode(self, map_CHW: Tensor, image_CHW: Tensor) -> Steps:
        model = self._autoencoder
        yield from self._tiles.map(
            self._decode_window, (map_CHW,), image_CHW,
            halo=_whole(model.decoder_radius, model.stride), stride=model.stride, input_cell=model.decoder_cell,
        )  # fmt: skip

    def _deep(
        self, passes: Sequence[Pass], whole: Callable[[Tensor], Tensor], given_CHW: Tensor, result_CHW: Tensor
    ) -> Steps:
        """The stages that attend: in one piece where a tile holds the image, else pass by pass over its tiles."""
        height, width = (side * passes[0].input_cell for side in given_CHW.shape[1:])

        def steps() -> Steps:
            if self._tiles.count(height, width, stride=self._autoencoder.stride) > 1:
                yield from self._pass_by_pass(passes, given_CHW, result_CHW)
                return
            with torch.inference_mode():
                result_CHW.copy_(whole(self._to_device(given_CHW))[0])
            yield 1, 1

        yield from self._tiles.again(steps, max(height, width))

    def _pass_by_pass(self, passes: Sequence[Pass], given_CHW: Tensor, result_CHW: Tensor) -> Steps:
        height, width = (side * passes[0].input_cell for side in given_CHW.shape[1:])
        total = _count(passes, self._tiles.count(height, width, stride=self._autoencoder.stride))
        done = 0
        for each in passes:
            shape = (each.channels, *(side * each.input_cell // each.output_cell for side in given_CHW.shape[1:]))
            following_CHW = result_CHW if each is passes[-1] else torch.empty(shape, dtype=self._autoencoder.dtype)
            for _ in self._pass(each, given_CHW, following_CHW):
                done += 1
                yield done, max(total, done)  # more, where memory ran out
            given_CHW = following_CHW

    def _pass(self, each: Pass, given_CHW: Tensor, result_CHW: Tensor) -> Steps:
        stride = self._autoencoder.stride
        sums: list[Tensor] = []

        @torch.inference_mode()
        def run(window_Chw: Tensor) -> Tensor:
            return each.run(self._to_device(window_Chw), sums[-1] if sums else None)[0]

        @torch.inference_mode()
        def key_sums(window_Chw: Tensor, core: Core) -> Tensor:
            assert each.key_sums is not None
            return each.key_sums(self._to_device(window_Chw), core)

        halo = _whole(each.halo, stride)
        if each.key_sums:
            yield from self._tiles.sum(key_sums, given_CHW, sums.append, halo=halo, stride=stride, cell=each.input_cell)
        yield from self._tiles.map(
            run, (given_CHW,), result_CHW, halo=halo, stride=stride, input_cell=each.input_cell,
            output_cell=each.output_cell,
        )  # fmt: skip

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


def _count(passes: Sequence[Pass], tiles: int) -> int:
    """Steps of progress of the stages that attend."""
    return tiles * sum(2 if each.key_sums else 1 for each in passes) if tiles > 1 else 1


def _whole(radius: int, stride: int) -> int:
    return -(-radius // stride) * stride
