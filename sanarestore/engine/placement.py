"""Fit a restoration into the memory of its device, by the choice of tile, offload and precision."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from sanarestore.engine.footprint import Footprint, footprint
from sanarestore.errors import UsageError
from sanarestore.model.loading import RestorationModel
from sanarestore.model.quantization import quantization
from sanarestore.options import OFFLOADS, Offload, Precision, RestoreOptions
from sanarestore.sizes import spoken_size

SIDE = 4096
"""Side in pixels of the photograph that is planned for. A larger one needs more memory only for its tokens."""

TILES = (1024, 512, 256)
"""Tile sides that are tried one after another; the halo makes smaller ones slower."""

LARGER_TILES = (4096, 2048)
"""Tile sides that are tried where 1024 fits with room to spare."""

RESERVE = 768 * 2**20
"""Bytes of a GPU that are left for its context, for libraries and for other programs."""

FRAGMENTS = {"cpu": 0.4}
"""Fraction that is added to the estimate for gaps between tensors and for workspaces; 0.1 on other devices. On a CPU,
whose heap keeps freed memory, 0.26 and 0.35 were measured."""

_WORDS: dict[Offload, str] = {
    "none": "",
    "parts": "weights wait in the host's memory between stages, and are copied once for every photograph and stage",
    "blocks": "weights wait in the host's memory, and the transformer's blocks are copied at every step",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """The tile, offload and precision of a restoration."""

    tile: int | None
    """Tile side in pixels; None leaves it to the device."""
    offload: Offload
    quantize: Precision | None
    note: str | None = None
    """A note on the choice and its cost; None if nothing was chosen."""

    def applied(self, options: RestoreOptions) -> RestoreOptions:
        """Return the options with this choice; the tile of a blending scheme stays, because it decides the result."""
        if (self.offload, self.quantize) == (options.offload, options.quantize):
            return options
        return replace(options, offload=self.offload, quantize=self.quantize)


def placement(
    model: RestorationModel, options: RestoreOptions, wording: str, *, device: torch.device, dtype: torch.dtype,
    is_generated: bool,
) -> Placement:  # fmt: skip
    """Choose tile, offload and precision, as far as the options leave them open and `device_memory` asks for it.

    The first that fits is taken: nothing offloaded, parts, blocks; then smaller tiles; then lower precision. UsageError
    if none fits, or for an offload on a CPU.
    """
    if options.offload != "none" and device.type == "cpu":
        raise UsageError(
            "a CPU computes in the host's memory", where=f"--offload {options.offload}", next_step="Leave it out."
        )
    if options.device_memory is None:
        return Placement(tile=options.tile, offload=options.offload, quantize=options.quantize)
    assert isinstance(options.device_memory, int), "the options have parsed texts already"
    search = _Search(model, options, wording, device, dtype, is_generated)
    return search.chosen(options.device_memory)


class _Search:
    """The settings that may be tried, and the memory that each needs."""

    def __init__(
        self, model: RestorationModel, options: RestoreOptions, wording: str, device: torch.device, dtype: torch.dtype,
        is_generated: bool,
    ) -> None:  # fmt: skip
        self._model, self._options, self._wording = model, options, wording
        self._device, self._dtype, self._is_generated = device, dtype, is_generated
        can_offload = is_generated and device.type != "cpu" and options.offload == "none"
        self._offloads = OFFLOADS if can_offload else (options.offload,)
        self._known: dict[tuple[int, Precision | None], Footprint] = {}

    def chosen(self, memory: int) -> Placement:
        """Return the first placement that fits into so many bytes of the device."""
        reserve, fragments = 0 if self._device.type == "cpu" else RESERVE, FRAGMENTS.get(self._device.type, 0.1)
        free = round((memory - reserve) / (1 + fragments))
        tried = list(self._settings())
        for precision, tile, offload in tried:
            if self._peak(precision, tile, offload) <= free:
                return self._placed(precision, self._widened(precision, tile, offload, free), offload, memory)
        least = min(self._peak(*each) for each in tried) * (1 + fragments) + reserve
        raise UsageError(
            f"{memory / 1e6:.0f} MB are not enough; at least {least / 1e6:.0f} MB are needed", where="--device-memory",
            next_step="Raise it, or use a smaller model.",
        )  # fmt: skip

    def _settings(self) -> Iterator[tuple[Precision | None, int, Offload]]:
        """Yield precision, tile and offload, those that cost least first."""
        tiles = (self._options.tile,) if self._options.tile else TILES[: 1 if self._options.tiling == "off" else None]
        for precision in self._precisions():
            for tile in tiles:
                for offload in self._offloads:
                    yield precision, tile, offload

    def _precisions(self) -> tuple[Precision | None, ...]:
        stored = None
        if self._is_generated and self._options.quantize is None and self._model.latent:
            stored = quantization(self._model.latent.transformer.transformer)
        is_open = self._is_generated and self._options.quantize is None and stored is None
        return (None, "int8", "int4") if is_open else (self._options.quantize,)

    def _widened(self, precision: Precision | None, tile: int, offload: Offload, free: int) -> int:
        """Return the largest tile that fits with the same offload and precision."""
        if tile != TILES[0] or self._options.tile is not None or self._options.tiling == "off":
            return tile
        return next((each for each in LARGER_TILES if self._peak(precision, each, offload) <= free), tile)

    def _peak(self, precision: Precision | None, tile: int, offload: Offload) -> int:
        if (tile, precision) not in self._known:
            self._known[tile, precision] = footprint(
                self._model, replace(self._options, quantize=precision), self._wording, tile=tile, dtype=self._dtype,
                size=(SIDE, SIDE), is_generated=self._is_generated,
            )  # fmt: skip
        return self._known[tile, precision].peak(offload)

    def _placed(self, precision: Precision | None, tile: int, offload: Offload, memory: int) -> Placement:
        peak = spoken_size(self._peak(precision, tile, offload))
        words = [f"tiles of {tile} px" if self._options.tiling != "off" else "untiled"]
        if offload != "none":
            words.append(_WORDS[offload])
        if precision is not None and self._options.quantize is None:
            words.append(f"the transformer's weights are in {precision}, which changes the result a little")
        note = f"to fit {spoken_size(memory)}: {'; '.join(words)}; about {peak} at the peak for {SIDE}x{SIDE} px"
        return Placement(tile=tile, offload=offload, quantize=precision, note=note)
