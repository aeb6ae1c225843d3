"""Tests of the layers of the package: a module imports only its own part and lower layers."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sanarestore"

LAYERS = {
    "errors": -2, "sizes": -1, "old_names": 0, "options": 0, "files": 0, "ndjson": 1, "templates": 1,
    "images": 1, "tiling": 1, "flow": 1, "weights": 1, "kernels": 1,
    "degradations": 2, "catalogue": 2, "video": 2, "model": 3, "engine": 4, "evaluation": 5, "training": 6, "cli": 7,
}  # fmt: skip

RICH = {"typer", "rich", "click"}

SPEED = "sanarestore.evaluation.speed."

FILES = sorted(path for path in PACKAGE.rglob("*.py") if "_models" not in path.parts)


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the layer of a module"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "sanarestore" and len(parts) > 1 and parts[1] in LAYERS else None


def test_every_part_has_a_layer() -> None:
    assert {part(path) for path in FILES} - {"__init__", "__main__"} <= LAYERS.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_import_only_lower_layers(path: Path) -> None:
    here = part(path)
    if here.startswith("__"):
        return
    for module in imports(path):
        there = ours(module)
        assert there is None or there == here or LAYERS[there] < LAYERS[here], f"{here} imports {module}"


def test_only_the_command_line_imports_typer_and_rich() -> None:
    for path in FILES:
        if part(path) != "cli":
            assert not {module.split(".")[0] for module in imports(path)} & RICH, path
        elif path.name not in ("bars.py", "console.py", "helppage.py", "reports.py", "training_report.py"):
            assert not any(module.split(".")[0] == "rich" for module in imports(path)), path


def test_only_bench_imports_the_measurement_of_speed() -> None:
    speed, bench = PACKAGE / "evaluation" / "speed", PACKAGE / "cli" / "bench"
    outside = {path for path in FILES if not path.is_relative_to(speed)}
    found = {path for path in outside if any(f"{module}.".startswith(SPEED) for module in imports(path))}
    assert {path for path in found if not path.is_relative_to(bench)} == set()
    assert found, "bench imports the measurement of speed"


def test_no_module_has_a_catch_all_name() -> None:
    assert not [path for path in FILES if path.stem in {"utils", "helpers", "common", "misc"}]


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".cli.app",
        ".cli.restore",
        ".cli.reports",
        ".engine.batch",
        ".engine.rehearsal",
        ".files",
        ".options",
        ".weights",
    ],
)
def test_help_imports_no_torch(name: str) -> None:
    heavy = "[name for name in ('torch', 'transformers', 'diffusers', 'scipy') if name in sys.modules]"
    code = f"import sys, sanarestore{name}; print({heavy})"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


def test_restoring_imports_no_scipy() -> None:
    """SciPy would add half a second to every start, and two on a cold disk; only degrading and measuring need it."""
    ours = (
        "sanarestore.engine.restorer", "sanarestore.engine.workers", "sanarestore.cli.restore",
        *(".".join(("sanarestore", *path.relative_to(PACKAGE).with_suffix("").parts)) for path in FILES
          if part(path) in ("images", "model", "engine") and path.name != "__init__.py"),
    )  # fmt: skip
    code = f"import sys, {', '.join(ours)}; print('scipy' in sys.modules, 'torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["False", "True"]
