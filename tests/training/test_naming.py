"""Names of photos below the output: no two photos share one, on any disk."""

from pathlib import Path

import pytest

from sanarestore.images import Found
from sanarestore.training.naming import name_photos


def found(*paths: str) -> list[Found]:
    """Files in folders of one letter, which were named as inputs."""
    return [Found(Path(path), Path(path[2:]), Path(path[:1]), in_folder=True) for path in paths]


@pytest.mark.parametrize(
    ("paths", "names", "refused"),
    [
        (["x/b.png", "x/a.png", "x/d/a.png"], ["a", "b", "d/a"], []),
        (["x/a.png", "x/a.jpg", "x/a.tif"], ["a", "a.png", "a.tif"], []),
        (["x/a.png.jpg", "x/a.png", "x/a.jpg"], ["a", "a.png", "a.png.jpg"], []),
        (["y/a.png", "x/a.png", "y/a.jpg"], ["a", "a.png"], ["y/a.png"]),
        (["x/A.png", "x/a.png"], ["A"], ["x/a.png"]),
        (["x/caf\u00e9.png", "x/cafe\u0301.png"], ["cafe\u0301"], ["x/caf\u00e9.png"]),
        (["x/../up.png", "x/a.png"], ["a"], ["x/../up.png"]),
    ],
)
def test_photos_are_named_or_refused_in_any_order(paths: list[str], names: list[str], refused: list[str]) -> None:
    for order in (paths, paths[::-1]):
        named, failed = name_photos(found(*order))
        assert list(named) == names
        assert [outcome.source.as_posix() for outcome in failed] == refused
        assert {outcome.reason for outcome in failed} <= {"collision"}
        assert all(str(outcome.error).startswith(f"{outcome.source}: ") for outcome in failed)
