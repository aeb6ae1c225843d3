"""Flat fields: images of one colour, which no restoration may change; one fixed set, computed and not read."""

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import ClassVar

import numpy as np

from sanarestore.images import Pixels

FLAT = "flat fields"
"""The name of the set in rows."""

SIDE = 96
"""Height and width of each field in pixels; all pixels are judged, including the border."""

CODES = (0, 128, 255)
"""8-bit codes of each channel."""


@dataclass(frozen=True, slots=True)
class FlatField:
    """One image of one colour; can take the place of an `Item`."""

    colour: tuple[int, int, int]
    """8-bit codes of red, green and blue."""

    prompt: ClassVar[str | None] = None
    files: ClassVar[tuple[Path, ...]] = ()

    @property
    def name(self) -> str:
        """The colour, as in `rgb(0,128,255)`."""
        return f"rgb({','.join(map(str, self.colour))})"

    def read(self) -> tuple[Pixels, None]:
        """The field as an image [SIDE, SIDE, 3] in [0, 1], on 8-bit codes."""
        colour_C = (np.array(self.colour, np.float32) / np.float32(255)).astype(np.float32)
        return np.broadcast_to(colour_C, (SIDE, SIDE, 3)).copy(), None


FLAT_FIELDS = tuple(FlatField((red, green, blue)) for red, green, blue in product(CODES, repeat=3))
"""The RGB cube's corners and the centres of its edges, faces and volume: 27 colours, with black, gray and white."""
