"""Which photographs are restored in strips, and the memory that this takes. Imports no torch."""

from sanarestore.engine.budget import TILE_BYTES
from sanarestore.images import WRITTEN_IN_STRIPS, Header
from sanarestore.options import RestoreOptions

LARGE = 30_000_000
"""Pixels from which photographs are restored in strips. Smaller ones are restored whole, so that they are decoded
once."""

_HALO = 192
"""Rows and columns of a window beyond its tile, at most, on each side."""
_WINDOW_BYTES = 40
"""Bytes per pixel of a window in the host's memory: as codes, as floats, and its result."""
_CELLS = 64
"""Strips of the overview of a photograph, along its longer side."""
_FIXED = 64 * 2**20
"""Bytes that do not depend on the photograph: bands that are decoded, filtered and compressed."""


def in_strips(header: Header, result: Header, options: RestoreOptions, *, is_generated: bool, is_judged: bool) -> bool:
    """Return whether a photograph is restored in strips; `result` is the header of the result.

    The latent path (`is_generated`) and candidates (`is_judged`) need it whole, as do files that are not read or
    written in strips, and a result of another size or depth.
    """
    is_alike = (header.width, header.height, header.depth) == (result.width, result.height, result.depth)
    is_separate = header.channels in (1, 3) or header.alpha_kind != "associated"
    return (
        header.pixels >= LARGE
        and header.rows_at_once > 0
        and not header.more
        and result.written_as in WRITTEN_IN_STRIPS
        and is_alike
        and is_separate
        and options.tiling not in ("off", "independent")
        and not is_generated
        and not is_judged
    )


def memory_in_strips(header: Header, *, tile: int, is_host: bool) -> int:
    """Estimate the peak bytes of the host's memory that restoring in strips takes.

    `tile` is the tile side in pixels, and `is_host` says that the host computes, and not another device.
    """
    side = min(tile, max(header.width, header.height))
    window = min(header.pixels, (side + 2 * _HALO) ** 2)
    rows = min(tile + 2 * _HALO, header.height) + min(tile, header.height)
    working = TILE_BYTES * min(header.pixels, side**2) if is_host else 0
    restoring = header.row_bytes * rows + _WINDOW_BYTES * window + working
    # Floats of a strip, as they are and clipped, for the overview.
    measuring = 24 * header.pixels * max(header.width, header.height) // _CELLS // header.height
    decoding = 3 * header.row_bytes * header.rows_at_once
    return _FIXED + decoding + max(restoring, measuring)
