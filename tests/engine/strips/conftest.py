"""Fixtures of strips: small photographs count as large."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sanarestore import images
from sanarestore.engine.file_restorer import FileRestorer
from sanarestore.engine.jobs import Job, Outcome, TileDone
from sanarestore.engine.restorer import Restorer
from sanarestore.engine.strips import use
from sanarestore.images.image import to_stored
from sanarestore.model.loading import RestorationModel
from sanarestore.options import RestoreOptions, WriteOptions
from tests.engine.test_file_restorer import through

TILE = 48


@dataclass(frozen=True)
class Both:
    """The result of a file restored whole and in strips."""

    whole: Outcome
    strips: Outcome
    whole_codes: npt.NDArray[Any]
    strips_codes: npt.NDArray[Any]
    whole_parts: list[TileDone]
    strips_parts: list[TileDone]


class BothWays:
    """Restores a file whole and in strips, and checks that each way was taken."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._monkeypatch = folder, monkeypatch

    def __call__(
        self, model: RestorationModel, source: Path, *, write: WriteOptions | None = None, suffix: str = "",
        accept_damaged: bool = False, is_taken: bool = True, **chosen: Any,
    ) -> Both:  # fmt: skip
        """Restore with the options; `is_taken` says whether strips are expected to be used."""
        found = []
        for name, large in (("whole", 10**9), ("strips", 1)):
            self._monkeypatch.setattr(use, "LARGE", large)
            restorer = Restorer(RestoreOptions(**{"tile": TILE, **chosen}), device="cpu", model=model)
            task = FileRestorer(restorer, write=write or WriteOptions(), accept_damaged=accept_damaged)
            surveyed: list[bool] = []
            read = task.read
            task.read = lambda job, read=read, to=surveyed: noted(read(job), to)  # type: ignore[method-assign]
            target = self._folder / name / source.with_suffix(suffix or source.suffix).name
            outcomes, parts = through(task, Job(source=source, target=target))
            assert surveyed in ([], [name == "strips" and is_taken])
            is_done = outcomes[0].status == "done"
            assert not list(target.parent.glob(".sanarestore-*")), "nothing half-written is left"
            found.append((outcomes[0], to_stored(images.read(target)) if is_done else np.zeros(0), parts))
        (whole, whole_codes, whole_parts), (strips, strips_codes, strips_parts) = found
        return Both(whole, strips, whole_codes, strips_codes, whole_parts, strips_parts)


def noted(read: Any, to: list[bool]) -> Any:
    to.append(read.surveyed is not None)
    return read


@pytest.fixture
def both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_tiles: None) -> BothWays:
    return BothWays(tmp_path, monkeypatch)
