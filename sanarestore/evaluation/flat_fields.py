"""Flat fields: images of one colour, which no restoration may change. They are one fixed set, made and not read."""

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import ClassVar

import numpy as np

from sanarestore.degradations.operations import Pixels

FLAT = "flat fields"
"""The name of the set in rows."""

SIDE = 96
"""Height and width of each field in pixels, all of which are judged, the border included."""

CODES = (0, 128, 255)
"""8-bit codes of each channel."""


@dataclass(frozen=True, slots=True)
class FlatField:
    """One image of one colour; stands where an `Item` stands."""

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
"""The 27 corners and centres of edges, faces and all of the RGB cube; black, gray and white are among them."""
