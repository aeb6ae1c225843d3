"""A short form of `soak`: a small batch that is killed three times."""

import os
import sys
from pathlib import Path

import pytest

from tests.engine.soak import soak
from tests.two_nodes import environment


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.usefixtures("processes")
def test_a_batch_that_is_killed_again_and_again_loses_nothing(tmp_path: Path, tiny_folder: Path) -> None:
    report = soak(tmp_path, tiny_folder, files=60, kills=3, seed=1)
    assert sum(report.kills.values()) >= 3
    assert report.states["done"] > 40


@pytest.mark.usefixtures("processes")
def test_a_batch_that_loses_a_machine_of_its_cluster_loses_nothing(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    for name in environment():
        monkeypatch.setenv(name, os.environ.get(name, ""))  # set again by the soak, and undone at the end
    report = soak(tmp_path, tiny_folder, files=60, kills=0, seed=2, ray=True)
    assert report.kills["node"] == 1
    assert report.states["done"] > 40
