"""Tests of `restore_files`: its inputs, and errors that name keywords."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sanarestore
from sanarestore import images
from sanarestore.errors import NoImagesError, UsageError
from sanarestore.options import Shard
from tests.conftest import save_photo


@pytest.fixture
def shoot(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two photos, beside the folder of a model."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        save_photo(Path("shoot") / name, 8, 8)
    return Path("shoot")


def statuses(paths: Any, **chosen: Any) -> list[str]:
    return [each.status for each in sanarestore.restore_files(paths, model="tiny-model", threads=1, **chosen)]


@pytest.mark.parametrize(
    "chosen",
    [
        {"devices": ["cpu"]}, {"devices": ("cpu", "cpu")}, {"memory_per_file": 10**9}, {"memory_per_file": "1G"},
        {"shard": (1, 1)}, {"shard": [1, 1]}, {"shard": Shard(1, 1)}, {"shard": "1/1"}, {"output": Path("out")},
        {"quality": np.int64(90)},
    ],
)  # fmt: skip
def test_values_are_taken_in_the_forms_that_programs_have(shoot: Path, chosen: dict[str, Any]) -> None:
    assert statuses(shoot, **chosen) == ["done", "done"]


def test_paths_are_any_iterable_of_paths(shoot: Path) -> None:
    assert statuses(path for path in (shoot / "a.png", str(shoot / "b.png"))) == ["done", "done"]


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"prompt": 5}, "^prompt: 5 is not a text"), ({"model": 5}, "^model: 5 is not a text"),
        ({"devices": 5}, "^devices: 5 is not a device"), ({"devices": []}, r"^devices: \[\] is not a device"),
        ({"devices": ","}, "^devices: ',' names no device"),
        ({"memory_per_file": 0}, "^memory_per_file: 0 is not a valid size"),
        ({"memory_per_file": 1.5}, "^memory_per_file: 1.5"),
        ({"memory_per_file": "much"}, "^memory_per_file: 'much' is not a valid size"),
        ({"shard": (1, 2, 3)}, r"^shard: \(1, 2, 3\) is not a valid part"),
        ({"shard": (5, 4)}, "^shard: 5/4 is not a valid part"),
        ({"shard": (1.0, 2)}, "^shard: "), ({"name": 5}, "^name: 5 is not a"),
        ({"output": 5}, "^output: 5 is not a path"),
        ({"overwrite": "no"}, "^overwrite: 'no' is neither True nor False"),
        ({"strip": 1}, "^strip: 1 is neither True nor False"), ({"adopt": True}, "^adopt: .*Add provenance=True"),
        ({"long_side": 0}, "^long_side: 0 px"), ({"long_side": 9, "scale": 2}, "^long_side: scale sets the size too"),
        ({"format": "jpeg", "bit_depth": 16}, "^bit_depth: .*Use format='tiff' or 'png' for 16 bits"),
        ({"tile": 64, "tiling": "off"}, "^tile: there are no tiles with tiling='off'"),
        ({"name": "x/y"}, "^name: .*Name a folder with output"), ({"output": "-"}, "^output: '-' means stdout"),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_by_the_name_of_the_keyword(shoot: Path, chosen: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        sanarestore.restore_files(shoot, **{"model": "tiny-model", **chosen})
    assert "--" not in str(caught.value)
    assert sorted(path.name for path in Path().iterdir()) == ["shoot", "tiny-model"]


@pytest.mark.parametrize("paths", [5, b"shoot", [5], [None]])
def test_inputs_that_are_no_paths_are_refused(paths: Any) -> None:
    with pytest.raises(UsageError, match=r"^paths: .* is not a path"):
        sanarestore.restore_files(paths)


def test_an_empty_list_is_named(shoot: Path) -> None:
    with pytest.raises(NoImagesError, match=r"^paths: the list is empty\. Give files"):
        sanarestore.restore_files([])


def test_failures_name_keywords_too(shoot: Path) -> None:
    Path("out").mkdir()
    Path("out/a.png").write_bytes(b"my own")
    failed = [each for each in sanarestore.restore_files(shoot, output="out", model="tiny-model") if each.error]
    assert [each.error for each in failed] == [
        "out/a.png: the output already exists, and is not as an earlier run left it. "
        "Replace it with overwrite=True, or name another output."
    ]


def test_notes_name_keywords_too(tmp_path: Path, tiny_folder: Path) -> None:
    bright = images.Image(pixels_HWC=np.full((8, 8, 3), 1.5, np.float32), depth="float32", format="tiff")
    images.write(bright, tmp_path / "a.tif")
    chosen = {"model": tiny_folder, "strength": 0, "bit_depth": 16}
    (outcome,) = sanarestore.restore_files(tmp_path / "a.tif", output=tmp_path / "out", **chosen)  # type: ignore[arg-type]
    result = sanarestore.restore(bright, output=tmp_path / "b.png", **chosen)  # type: ignore[arg-type]
    said = "values below 0 or above 1 are clipped to these by bit_depth"
    assert said in outcome.notes
    assert said in result.notes


def test_errors_of_a_restorer_name_keywords_too() -> None:
    for wrong, said in (({"strength": 2}, "^strength: 2"), ({"device": "abc"}, "^device: 'abc' is not a known device")):
        with pytest.raises(UsageError, match=said):
            sanarestore.Restorer(**wrong)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=said):
            sanarestore.restore(np.zeros((8, 8), np.uint8), **wrong)  # type: ignore[call-overload]
