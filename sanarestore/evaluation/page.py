"""A self-contained HTML page: tables, notes, plots, and pictures embedded in it, drawn by the template `page.html`."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image as PillowImage

from sanarestore.evaluation.columns import Table
from sanarestore.evaluation.plot import Plot
from sanarestore.images import Pixels, from_float
from sanarestore.templates import write_page

CROP = 160
"""Side of a crop in pixels."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """A row of pictures."""

    title: str
    pictures: Mapping[str, Pixels]
    """Caption -> picture [H, W, C] in [0, 1]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A part of a page, shown in the order of its fields."""

    title: str
    tables: Sequence[Table]
    notes: Sequence[str] = ()
    plot: Plot | None = None
    pictures: Sequence[Pictures] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A page with a section for each test set, or for each image whose seams are measured."""

    title: str
    notes: Sequence[str]
    sections: Sequence[Section]

    def write(self, path: Path, command: str) -> None:
        """Write the page, with the command that made it; OSError if the file cannot be written."""
        write_page(path, __package__, "page.html", page=self, command=command, data_url=_data_url)


def _data_url(pixels_HWC: Pixels) -> str:
    codes = from_float(pixels_HWC, "uint8")
    buffer = io.BytesIO()
    PillowImage.fromarray(codes[..., 0] if codes.shape[2] == 1 else codes).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
