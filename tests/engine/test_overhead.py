"""Test of the measurement of overhead; figures depend on the machine, and are no test."""

from pathlib import Path

import pytest

from tests.engine.overhead import measure


@pytest.mark.usefixtures("processes")
def test_overhead_is_measured(tmp_path: Path, tiny_folder: Path) -> None:
    found = measure(tmp_path, images=4, megapixels=0.02, devices=("cpu",), model=str(tiny_folder))
    assert found.files == 4
    assert min(found.reading, found.inference, found.writing, found.batch) > 0
    assert 0 < found.share < 100
