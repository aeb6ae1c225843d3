"""Place the weights of the latent path, while an image is generated, on the device or in the host's memory.

    none     all weights stay on the device
    parts    the weights of each stage are on the device while that stage runs
    blocks   as parts, and the transformer's blocks follow one another

A stage runs once for each image, however many tiles it has. The result is the same to the bit.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from sanarestore.engine.live_bytes import held_by
from sanarestore.engine.tiles import Steps, release
from sanarestore.model.loading import LatentPath
from sanarestore.model.streaming import HostWeights, Streamed, weights_of
from sanarestore.options import OFFLOADS, Offload

Stage = Literal["encode shallow", "encode deep", "sample", "decode deep", "decode shallow"]


class Residency:
    """Places the weights of a latent path for each of its stages."""

    def __init__(self, latent: LatentPath, device: torch.device, offload: Offload = "none") -> None:
        """Place the latent path, in place."""
        self.offload: Offload = "none"
        self._latent = latent
        self._device = device
        self._host: dict[Stage, HostWeights] = {}
        self._stage: Stage | None = None
        if offload == "none":
            latent.autoencoder.to(device)
            latent.transformer.to(device)
        else:
            self._change(offload)

    @contextmanager
    def during(self, stage: Stage) -> Iterator[None]:
        """Have the weights of a stage on the device inside this context."""
        self._stage = stage
        self._place()
        try:
            yield
        finally:
            self._stage = None
            if stage in self._host:
                self._host[stage].restore()
                release(self._device)

    def steps(self, stage: Stage, steps: Steps) -> Steps:
        """Run the steps of a stage with its weights on the device."""
        with self.during(stage):
            yield from steps

    def offload_more(self) -> bool:
        """Keep more weights in the host's memory; False if no more can be. A stage that runs may start again."""
        if self._device.type == "cpu" or self.offload == OFFLOADS[-1]:
            return False
        self._change(OFFLOADS[OFFLOADS.index(self.offload) + 1])
        release(self._device)
        self._place()
        return True

    def _place(self) -> None:
        held = self._host.get(self._stage) if self._stage else None
        if held is not None:
            held.place(held.copies())

    def _change(self, offload: Offload) -> None:
        self.offload = offload
        for held in self._host.values():
            held.restore()
        if offload == "blocks":
            transformer = self._latent.transformer
            transformer.streamed = Streamed(list(transformer.blocks), self._device)
        needed = weights_by_stage(self._latent, streamed=offload == "blocks")
        self._host = {stage: HostWeights(weights, self._device) for stage, weights in needed.items()}


def weights_by_stage(latent: LatentPath, *, streamed: bool) -> dict[Stage, list[Tensor]]:
    """The weights that each stage needs, without those of the transformer's blocks if they are `streamed`."""
    model, transformer = latent.autoencoder, latent.transformer
    shallow, deep = model.shallow_parts, model.deep_parts
    blocks = {id(each) for each in weights_of(transformer.transformer.transformer_blocks)} if streamed else set()  # type: ignore[arg-type]
    return {
        "encode shallow": weights_of(*shallow[0]), "encode deep": weights_of(*deep[0]),
        "sample": [each for each in weights_of(transformer) if id(each) not in blocks],
        "decode deep": weights_of(*deep[1]), "decode shallow": weights_of(*shallow[1]),
    }  # fmt: skip


def bytes_by_stage(latent: LatentPath, offload: Offload) -> dict[Stage, int]:
    """Bytes of the weights that are on the device during each stage."""
    held = {stage: held_by(each) for stage, each in weights_by_stage(latent, streamed=offload == "blocks").items()}
    if offload == "none":
        return dict.fromkeys(held, sum(held.values()))
    if offload == "blocks":
        blocks = [held_by(weights_of(each)) for each in latent.transformer.transformer.transformer_blocks]  # type: ignore[union-attr]
        held["sample"] += max(map(sum, zip(blocks, [*blocks[1:], 0], strict=True)))
    return held
