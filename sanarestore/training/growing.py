"""Enlarge a refiner without changing its results, so that training continues from its weights."""

from dataclasses import replace

from torch import Tensor

from sanarestore.model.colour_correction import ColourCorrection
from sanarestore.model.refiner import Refiner


def grow(
    refiner: Refiner, *, spectrum: int = 0, colour_correction: int = 0, colour_statistics: int = 0,
    widths: tuple[int, ...] = (),
) -> Refiner:  # fmt: skip
    """Return a larger refiner, with a spectrum, a global colour correction or more width, that does the same.

    What is missing is added, and levels become at least as wide as `widths`. The weights that read new features
    start at zero. Returns `refiner` itself if nothing is new. ValueError for another number of levels.
    """
    if widths and len(widths) != len(refiner.config.widths):
        raise ValueError(f"{len(widths)} widths do not fit a refiner of {len(refiner.config.widths)} levels")
    widest = tuple(map(max, refiner.config.widths, widths or refiner.config.widths))
    config = replace(
        refiner.config,
        spectrum=refiner.config.spectrum or spectrum,
        colour_correction=refiner.config.colour_correction or colour_correction,
        colour_statistics=max(refiner.config.colour_statistics, colour_statistics),
        widths=widest,
    )
    if config == refiner.config:
        return refiner
    larger = Refiner(config).train(refiner.training)
    known = refiner.state_dict()
    grown = {name: _placed(name, known[name], new) for name, new in larger.state_dict().items() if name in known}
    larger.load_state_dict({**larger.state_dict(), **grown})
    return larger


def renew_colour_correction(refiner: Refiner, features: int, statistics: int) -> ColourCorrection:
    """Give a refiner new weights for light and colour, which change nothing yet, and return them; all others stay."""
    refiner.config = replace(
        refiner.config, colour_correction=features, colour_statistics=statistics, colour_normalised=True
    )
    refiner.colour_correction = ColourCorrection(
        refiner.config.prompt_width, features, statistics, normalised=True
    ).train(refiner.training)
    return refiner.colour_correction


def _placed(name: str, old: Tensor, new: Tensor) -> Tensor:
    """Copy old weights into a larger tensor: new outputs keep their initial weights, weights of new inputs are zero."""
    # The rows of a modulation are all scales, then all shifts.
    halves = 2 if ".modulation." in name else 1
    grown, known = (each.reshape(halves, -1, *each.shape[1:]) for each in (new.clone(), old))
    outputs = known.shape[1]
    if known.ndim > 2:
        grown[:, :, known.shape[2] :] = 0
        grown[:, :outputs, : known.shape[2]] = known
    else:
        grown[:, :outputs] = known
    return grown.flatten(0, 1)
