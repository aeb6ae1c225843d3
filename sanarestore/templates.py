"""HTML pages and SVG pictures from templates, which lie as files in the folder of the package that shows them."""

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from sanarestore import __version__
from sanarestore.files import write_atomically


def render(package: str, name: str, **values: Any) -> str:
    """Fill in the template `name` of a package; values are escaped, and one that is missing is an error."""
    return _template(package, name).render(version=__version__, **values)


def write_page(path: Path, package: str, name: str, **values: Any) -> None:
    """Write a page from a template; OSError if the file cannot be written."""
    with write_atomically(path, durable=False) as file:
        # A file name or a caption may hold bytes that are not text.
        file.write(render(package, name, **values).encode("utf-8", errors="backslashreplace"))


@cache
def _template(package: str, name: str) -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(resources.files(package).joinpath(name).read_text(encoding="utf-8"))
