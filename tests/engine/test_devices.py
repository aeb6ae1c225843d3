"""Devices by name."""

import pytest

from sanarestore.engine.devices import pick_device
from sanarestore.errors import UsageError


def test_devices_that_are_not_here_are_refused() -> None:
    assert pick_device("cpu").type == "cpu"
    assert pick_device("cpu:1").type == "cpu"
    assert pick_device("auto").type in {"cpu", "cuda", "mps"}
    for name in ("gpu", "", "meta", "cuda:99", "xpu"):
        with pytest.raises(UsageError, match="--devices"):
            pick_device(name)
