"""A short form of `soak`: a small batch that is killed three times."""

import sys
from pathlib import Path

import pytest

from tests.engine.soak import soak


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.usefixtures("processes")
def test_a_batch_that_is_killed_again_and_again_loses_nothing(tmp_path: Path, tiny_folder: Path) -> None:
    report = soak(tmp_path, tiny_folder, files=60, kills=3, seed=1)
    assert sum(report.kills.values()) >= 3
    assert report.states["done"] > 40
