"""Memory that must grow with the image, to be subtracted from the peak memory of a restoration."""

from itertools import pairwise
from typing import Any, NamedTuple

from sanarestore.engine.restorer import Restorer
from sanarestore.model.loading import LatentPath
from sanarestore.model.runners.deep import decoder_passes, encoder_passes


class Growing(NamedTuple):
    """Memory of the latent path that grows with the image, in bytes, besides the images themselves."""

    maps: int
    """On the host: maps of the autoencoder's deep stages, at most two at a time."""
    last_map: int
    """On the host: the map that the decoder's tiles are cut from."""
    latents: int
    """On the device: the condition and the result."""
    sampling: int
    """On the device: the token stream and the latents of one sampling step."""


def buffers(restorer: Restorer, height: int, width: int) -> int:
    """Peak bytes of the buffers that grow with an image of this size, besides the input.

    On a CPU: the result and, with a latent path, the generated image and the maps and latents before it. On other
    devices: only the latent path's latents and tokens, because everything else is in host memory.
    """
    image = height * width * 3 * 4 if restorer.device.type == "cpu" else 0
    if restorer.latent is None:
        return image
    growing = growing_of(restorer.latent, height, width)
    if restorer.device.type != "cpu":
        return growing.latents + growing.sampling
    within = growing.latents + max(growing.maps, growing.sampling, growing.last_map + image)
    # At fidelity 0, the generated image is the result, without a refiner.
    return within if restorer.options.fidelity == 0 else max(within, 2 * image)


def growing_of(latent: LatentPath, height: int, width: int) -> Growing:
    """Memory that an image of this size takes."""
    autoencoder, transformer = latent.autoencoder, latent.transformer
    stride, size = autoencoder.stride, autoencoder.dtype.itemsize
    positions = -(-height // stride) * -(-width // stride)
    # Values per latent position: the map that each part begins with, and the maps that its passes produce.
    first = autoencoder.encoder_channels * (stride // autoencoder.encoder_downsample) ** 2
    encoder, decoder = (
        [each.channels * (stride // each.output_downsample) ** 2 for each in passes]
        for passes in (encoder_passes(autoencoder), decoder_passes(autoencoder))
    )
    pairs = [sum(pair) for values in ([first, *encoder], decoder) for pair in pairwise(values)]
    latents = 2 * positions * autoencoder.latent_channels * 4
    config: Any = transformer.config
    width_D = int(config.num_attention_heads) * int(config.attention_head_dim)
    tokens = positions // int(config.patch_size) ** 2 * width_D * transformer.dtype.itemsize
    return Growing(
        maps=positions * max(pairs) * size, last_map=positions * decoder[-1] * size, latents=latents,
        # Noise, the latent before and after the step, and the velocity in strips and whole.
        sampling=tokens + 2 * latents,
    )  # fmt: skip
