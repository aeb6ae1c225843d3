"""A self-contained HTML page: its head, its tables, and the pictures embedded in it."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image as PillowImage

from sanarestore import __version__
from sanarestore.images import Pixels, from_float

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
body { color: #222; background: #fff }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.5rem }
table { border-collapse: collapse; width: 100% }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left } thead th { border-bottom: 2px solid #222 }
tbody tr.first td { border-top: 1px solid #ccc }
figure { display: inline-block; margin: 0 .5rem 1rem 0 } figcaption { font-size: 13px; color: #555 }
img { image-rendering: pixelated; width: 240px; height: 240px; object-fit: contain; display: block; background: #eee }
svg { max-width: 100%; height: auto } .note { color: #555 }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #181818 } thead th { border-color: #ddd } tbody tr.first td { border-color: #444 }
  .note, figcaption { color: #aaa } img { background: #333 }
}
"""


def write_page(path: Path, title: str, command: str, parts: Sequence[str]) -> None:
    """Write a title, the command that made the page, and parts of HTML; OSError if the file cannot be written."""
    head = f"<meta charset=utf-8><title>{html.escape(title)}</title><style>{STYLE}</style>"
    body = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p class=note>sanarestore {html.escape(__version__)} &middot; <code>{html.escape(command)}</code></p>",
        *parts,
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<!doctype html><html lang=en>{head}\n{chr(10).join(body)}\n", encoding="utf-8")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format cells of text as an HTML table; an empty first cell means the same as the cell above."""
    lines = ["<table><thead><tr>", *(f"<th>{html.escape(name)}</th>" for name in columns), "</tr></thead><tbody>"]
    for row in rows:
        first = " class=first" if row[0] else ""
        lines.append(f"<tr{first}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>")
    return "".join([*lines, "</tbody></table>"])


def figures(pictures: Mapping[str, Pixels]) -> str:
    """Format pictures as HTML, in a row; `pictures` maps their captions to them."""
    return "".join(
        f'<figure><img src="data:image/png;base64,{_png(pixels)}" alt="{html.escape(name)}">'
        f"<figcaption>{html.escape(name)}</figcaption></figure>"
        for name, pixels in pictures.items()
    )


def _png(pixels_HWC: Pixels) -> str:
    codes = from_float(pixels_HWC, "uint8")
    buffer = io.BytesIO()
    PillowImage.fromarray(codes[..., 0] if codes.shape[2] == 1 else codes).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
