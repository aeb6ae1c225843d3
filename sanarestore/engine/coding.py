"""The autoencoder on tiles: an image becomes a latent, and a latent an image, stage by stage over the whole map.

Shape suffixes: C channels, H W pixels, Z latent channels, h w latent positions.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sanarestore.engine.residency import Stage
from sanarestore.engine.tiles import Steps, Tiles, run_stages
from sanarestore.model.autoencoder import Autoencoder
from sanarestore.model.runners.deep import Core, Pass, decoder_passes, encoder_passes

During = Callable[[Stage, Steps], Steps]
"""Callback that wraps the progress of a stage, whose weights must be on the device only meanwhile."""


class Coding:
    """An autoencoder that encodes and decodes images of any size in tiles."""

    def __init__(self, autoencoder: Autoencoder, tiles: Tiles) -> None:
        self._autoencoder, self._tiles = autoencoder, tiles
        self.encoder_passes = encoder_passes(autoencoder)
        self.decoder_passes = decoder_passes(autoencoder)

    @property
    def stride(self) -> int:
        """Pixels per latent position."""
        return self._autoencoder.stride

    def encoding_steps(self, tiles: int) -> int:
        """Number of progress steps of `encode` for an image of so many tiles."""
        return tiles + _count(self.encoder_passes, tiles)

    def decoding_steps(self, tiles: int) -> int:
        """Number of progress steps of `decode` for an image of so many tiles."""
        return tiles + _count(self.decoder_passes, tiles)

    def empty_latent(self, height: int, width: int) -> Tensor:
        """An empty latent [1,Z,h,w] on the device, for an image of this size in pixels."""
        rows, columns = (-(-side // self.stride) for side in (height, width))
        return torch.empty((1, self._autoencoder.latent_channels, rows, columns), device=self._tiles.device)

    def encode(self, image_CHW: Tensor, latent_1Zhw: Tensor, during: During) -> Steps:
        """Fill `latent_1Zhw`, on the device, from an image on the host."""
        model = self._autoencoder
        maps = [self._map(latent_1Zhw, model.encoder_channels, model.encoder_downsample)]
        shallow = self._tiles.map(
            self._encode_window, (image_CHW,), maps[0],
            halo=_whole(model.encoder_radius, self.stride), stride=self.stride,
            output_downsample=model.encoder_downsample,
        )  # fmt: skip
        tiles = self._tiles.count(*image_CHW.shape[1:], stride=self.stride)
        deep = self._deep(self.encoder_passes, model.encode_deep, maps, torch.float32)
        yield from run_stages(
            [
                (during("encode shallow", shallow), tiles),
                (during("encode deep", deep), _count(self.encoder_passes, tiles)),
            ]
        )
        latent_1Zhw[0].copy_(maps.pop())

    def decode(self, latent_1Zhw: Tensor, image_CHW: Tensor, during: During) -> Steps:
        """Fill `image_CHW`, on the host and around [0,1], from a latent on the device."""
        model = self._autoencoder
        maps = [latent_1Zhw[0]]

        def shallow() -> Steps:
            yield from self._tiles.map(
                self._decode_window, (maps.pop(),), image_CHW,
                halo=_whole(model.decoder_radius, self.stride), stride=self.stride,
                input_downsample=model.decoder_downsample,
            )  # fmt: skip

        tiles = self._tiles.count(*image_CHW.shape[1:], stride=self.stride)
        deep = self._deep(self.decoder_passes, model.decode_deep, maps, model.dtype)
        yield from run_stages(
            [
                (during("decode deep", deep), _count(self.decoder_passes, tiles)),
                (during("decode shallow", shallow()), tiles),
            ]
        )

    def _deep(
        self, passes: Sequence[Pass], whole: Callable[[Tensor], Tensor], maps: list[Tensor], dtype: torch.dtype
    ) -> Steps:
        """Run the deep stages, which attend: untiled if one tile holds the image, otherwise pass by pass in tiles.

        `maps` holds the input map, which is replaced by the result, of `dtype`. The caller keeps no other reference to
        the input, so that it is freed after its pass: two maps may be as large as the image.
        """
        height, width = (side * passes[0].input_downsample for side in maps[0].shape[1:])

        def untiled() -> Steps:
            if self._tiles.count(height, width, stride=self.stride) > 1:
                return
            result_CHW = self._room(passes[-1], height, width, dtype)
            with torch.inference_mode():
                result_CHW.copy_(whole(self._to_device(maps[0]))[0])
            maps[:] = [result_CHW]
            yield 1, 1

        yield from self._tiles.again(untiled, max(height, width))
        if (tiles := self._tiles.count(height, width, stride=self.stride)) > 1:
            total, done = _count(passes, tiles), 0
            for each in passes:
                given_CHW = maps.pop()
                maps.append(self._room(each, height, width, dtype if each is passes[-1] else self._autoencoder.dtype))
                for _ in self._pass(each, given_CHW, maps[0]):
                    done += 1
                    yield done, max(total, done)  # more than planned if memory ran out

    def _room(self, each: Pass, height: int, width: int, dtype: torch.dtype) -> Tensor:
        """Empty host tensor for the map that a pass produces from an image of this size in pixels."""
        return torch.empty(
            (each.channels, height // each.output_downsample, width // each.output_downsample), dtype=dtype
        )

    def _pass(self, each: Pass, given_CHW: Tensor, result_CHW: Tensor) -> Steps:
        stride = self.stride
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
            yield from self._tiles.sum(
                key_sums, given_CHW, sums.append, halo=halo, stride=stride, downsample=each.input_downsample
            )
        yield from self._tiles.map(
            run, (given_CHW,), result_CHW, halo=halo, stride=stride, input_downsample=each.input_downsample,
            output_downsample=each.output_downsample,
        )  # fmt: skip

    @torch.inference_mode()
    def _encode_window(self, image_Chw: Tensor) -> Tensor:
        return self._autoencoder.encode_shallow(self._to_device(image_Chw))[0]

    @torch.inference_mode()
    def _decode_window(self, map_Chw: Tensor) -> Tensor:
        return self._autoencoder.decode_shallow(self._to_device(map_Chw))[0]

    def _to_device(self, window_Chw: Tensor) -> Tensor:
        return window_Chw[None].to(self._tiles.device, memory_format=torch.channels_last)

    def _map(self, latent_1Zhw: Tensor, channels: int, downsample: int) -> Tensor:
        """Empty host tensor for the map between the autoencoder's shallow and deep stages."""
        positions = self.stride // downsample
        rows, columns = latent_1Zhw.shape[2:]
        return torch.empty((channels, rows * positions, columns * positions), dtype=self._autoencoder.dtype)


def _count(passes: Sequence[Pass], tiles: int) -> int:
    """Number of progress steps of the autoencoder's deep stages."""
    return tiles * sum(2 if each.key_sums else 1 for each in passes) if tiles > 1 else 1


def _whole(radius: int, stride: int) -> int:
    return -(-radius // stride) * stride
