"""The second pass over a photograph that is restored in strips: a row of tiles at a time, from disk to disk.

Shape suffixes: C colours, S channels as stored, H W pixels of the photograph, h w pixels of a window or tile.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from sanarestore import images, tiling
from sanarestore.engine.pixels import finished
from sanarestore.engine.restorer import Restorer
from sanarestore.engine.strips.rows import Rows
from sanarestore.engine.strips.survey import Survey, colours_of
from sanarestore.engine.tiles import Steps
from sanarestore.images import Pixels, Stored
from sanarestore.model.routing import features_of


def restore_in_strips(
    restorer: Restorer, strips: images.StripImage, survey: Survey, begin: Callable[[], images.StripWriter]
) -> Steps:
    """Restore a photograph into the file that `begin` begins, yielding (tiles done, total tiles).

    The count restarts, and the file with it, when memory runs out and smaller tiles are tried. ImageError if the
    results are not finite; UnreadableImage as from the bands of `strips`.
    """
    refinement = restorer.refinement
    refinement.expert = None
    if restorer.changes_nothing:
        _copy(strips, begin())
        return
    refine = refinement.for_photograph(
        features_of(survey.windows) if refinement.is_routed else None, survey.overview_Chw
    )
    finish = partial(finished, is_gray=survey.is_gray, strength=restorer.options.strength)

    def steps() -> Steps:
        writer = begin()
        frame = survey.frame
        parts = refinement.strips(frame.height, frame.width)
        rows = Rows(strips.bands(), max(last - first for first, last in (each.needed for each in parts)))
        total, done = sum(len(each.tiles) for each in parts), 0
        for part in parts:
            codes_hWS = rows(*part.needed)
            top, bottom = (row - part.needed[0] for row in part.core)
            result_hWS = codes_hWS[top:bottom].copy()  # alpha and extra channels stay as they are
            for tile in part.tiles:
                _fill(result_hWS, codes_hWS, part, tile, frame, refine, finish)
                done += 1
                yield done, total
            writer.write(result_hWS)
            del result_hWS  # before the next one is made
        writer.finish()

    yield from restorer.tiles.again(steps, max(survey.frame.height, survey.frame.width))


def _copy(strips: images.StripImage, writer: images.StripWriter) -> None:
    for band_hWS in strips.bands():
        writer.write(band_hWS)
    writer.finish()


def _fill(
    result_hWS: Stored,
    codes_hWS: Stored,
    strip: tiling.Strip,
    tile: tiling.Tile,
    frame: images.Image,
    refine: Callable[..., Tensor],
    finish: Callable[[Pixels, Pixels], Pixels],
) -> None:
    """Restore the colours of one tile; `codes_hWS` are the needed rows of its strip, `result_hWS` its core."""
    above = strip.needed[0]
    top, bottom, left, right = part = tiling.part_of(tile.window, frame.height, frame.width)
    part_Chw = colours_of(codes_hWS[top - above : bottom - above, left:right], frame)
    window_Chw = tiling.mirrored(part_Chw, part, tile.window, frame.height, frame.width)
    refined_Chw = refine(window_Chw, tile.core_in_window())
    top, bottom, left, right = tile.core
    restored_hwC = torch.empty(bottom - top, right - left, 3)
    restored_hwC.copy_(refined_Chw.permute(1, 2, 0))
    colours = frame.pixels_HWC.shape[2]
    before_hwS = codes_hWS[top - above : bottom - above, left:right]
    before_hwC = images.to_float(before_hwS[..., :colours], frame.depth)
    after_hwC = finish(before_hwC, restored_hwC.numpy())
    images.fill(result_hWS[:, left:right, :colours], after_hwC, frame.depth)
