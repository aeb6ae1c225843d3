"""Tests of the package as Python programs see it: public names, lazy imports, examples in docstrings and docs."""

import doctest
import importlib
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest

import sanarestore
from sanarestore.engine.keywords import OF_ONE_IMAGE, BatchKeywords, Keywords
from sanarestore.options import RestoreOptions, WriteOptions
from tests.conftest import save_photo

DOCS = Path(__file__).parents[1] / "docs"

WITH_EXAMPLES = (
    "sanarestore",
    "sanarestore.images.arrays",
    "sanarestore.engine.one_image",
    "sanarestore.engine.restorer",
)


def test_the_public_names_are_these() -> None:
    assert sanarestore.__all__ == [
        "RestoreOptions",
        "Restorer",
        "errors",
        "images",
        "restore",
        "restore_clip",
        "restore_files",
    ]
    for name in sanarestore.__all__:
        assert getattr(sanarestore, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        sanarestore.nothing  # noqa: B018


@pytest.mark.parametrize("name", ["", ".errors", ".images", ".restore_files", ".RestoreOptions"])
def test_only_restoring_imports_torch(name: str) -> None:
    code = f"import sys, sanarestore; sanarestore{name}; print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "False"


def test_keywords_are_the_options_of_a_restoration() -> None:
    assert get_type_hints(Keywords) == {
        name: kind for name, kind in get_type_hints(RestoreOptions).items() if name != "prompt"
    }
    assert {field.name for field in fields(RestoreOptions)} == {*get_type_hints(Keywords), "prompt"}


def test_keywords_of_one_image_are_those_of_restoring_and_writing_and_of_the_call() -> None:
    own = {"prompt", "device", "output", "overwrite", "accept_damaged", "progress"}
    assert set(OF_ONE_IMAGE) == own | {each.name for kind in (RestoreOptions, WriteOptions) for each in fields(kind)}


def test_keywords_of_a_batch_are_those_and_the_options_of_writing() -> None:
    written = get_type_hints(WriteOptions)
    assert get_type_hints(BatchKeywords) == get_type_hints(Keywords) | written
    assert written.keys() == {field.name for field in fields(WriteOptions)}


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings_hold(name: str) -> None:
    tried = doctest.testmod(importlib.import_module(name), extraglobs={"np": np})
    assert tried.attempted > 0
    assert tried.failed == 0


def test_the_examples_of_the_page_run_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that the page names are there, and nothing else is given."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("photo.png", "shoot/a.png", "shoot/b.png")):
        save_photo(tmp_path / name, 24, 32, seed=number)
    examples = re.findall(r"```python\n(.*?)```", (DOCS / "python.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) > 4
    names: dict[str, object] = {}
    for example in examples:
        exec(compile(example, "docs/python.md", "exec"), names)
