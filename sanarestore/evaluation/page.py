"""A self-contained HTML page: tables, notes, plots, and pictures embedded in it, drawn by the template `page.html`."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from PIL import Image as PillowImage

from sanarestore import __version__
from sanarestore.evaluation.columns import Table
from sanarestore.evaluation.plot import Plot
from sanarestore.files import write_atomically
from sanarestore.images import Pixels, from_float


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


def write_page(path: Path, title: str, command: str, sections: Sequence[Section], notes: Sequence[str] = ()) -> None:
    """Write a page, with the command that made it; OSError if the file cannot be written."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["data_url"] = _data_url
    template = resources.files("sanarestore.evaluation").joinpath("page.html").read_text(encoding="utf-8")
    text = environment.from_string(template).render(
        title=title, version=__version__, command=command, sections=sections, notes=notes
    )
    with write_atomically(path, durable=False) as file:
        # A file name may hold bytes that are not text.
        file.write(text.encode("utf-8", errors="backslashreplace"))


def _data_url(pixels_HWC: Pixels) -> str:
    codes = from_float(pixels_HWC, "uint8")
    buffer = io.BytesIO()
    PillowImage.fromarray(codes[..., 0] if codes.shape[2] == 1 else codes).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
