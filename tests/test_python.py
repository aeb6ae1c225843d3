"""Tests of the package as Python programs see it: public names, lazy imports, examples in docstrings and docs."""

import base64
import doctest
import importlib
import io
import json
import re
import subprocess
import sys
import threading
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, get_type_hints

import numpy as np
import pytest
from PIL import Image as Pillow

import sanarestore
from sanarestore.engine.keywords import OF_ONE_IMAGE, BatchKeywords, Keywords
from sanarestore.errors import UsageError
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


class _Endpoint(BaseHTTPRequestHandler):
    """Endpoint that marks by the number of bytes of the second picture, and records its requests."""

    asked: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append({"path": self.path, **asked})
        mark = len(self.asked) * 10 % 30
        answer = json.dumps({"choices": [{"message": {"content": f"I give {mark}.5 of 100"}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *given: object) -> None:
        """Print nothing."""


def test_the_example_of_a_judge_behind_an_endpoint_asks_for_marks() -> None:
    text = (DOCS / "python.md").read_text(encoding="utf-8")
    (example,) = (each for each in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "class Marks" in each)
    names: dict[str, Any] = {"sanarestore": sanarestore}
    exec(compile(example, "docs/python.md", "exec"), names)
    pixels_HWC = np.full((24, 32, 3), 0.5, np.float32)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Endpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        judge = names["Marks"](f"http://127.0.0.1:{server.server_port}/v1", "a-model")
        restorer = sanarestore.Restorer(fidelity=0, steps=2, candidates=4, judge=judge, device="cpu")
        restorer(pixels_HWC)
        server.shutdown()
    assert [each.score for each in restorer.candidates] == [10.5, 20.5, 0.5, 10.5]
    assert [each.seed for each in restorer.candidates if each.chosen] == [1]
    asked = _Endpoint.asked[0]
    assert (asked["path"], asked["model"]) == ("/v1/chat/completions", "a-model")
    _, shown, _ = asked["messages"][0]["content"]
    photograph = Pillow.open(io.BytesIO(base64.b64decode(shown["image_url"]["url"].partition(",")[2])))
    assert (np.asarray(photograph) == 128).all()


def test_workers_take_judges_by_name(tmp_path: Path) -> None:
    save_photo(tmp_path / "photo.png")

    class Judge:
        name = "of one's own"

        def score(self, degraded: object, candidate: object) -> float:
            return 0.0

    with pytest.raises(UsageError, match="by its name") as refused:
        sanarestore.restore_files(tmp_path, judge=Judge(), candidates=2)
    assert refused.value.where == "judge"
