"""Tests of workers that do not see the same files as the batch."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sanarestore.engine.jobs import Job
from sanarestore.engine.lock import Lock
from sanarestore.engine.many_files import restore_files
from sanarestore.engine.shared_storage import OnSharedStorage
from sanarestore.errors import MissingImage, UnwritableImage
from tests.conftest import save_photo
from tests.engine.test_ray_crew import Acting
from tests.fake_ray import FakeRay


class Nothing(Acting):
    def read(self, job: Any) -> str:
        return "read"


def test_files_that_a_machine_does_not_see_fail_with_the_reason(marked_run: Path) -> None:
    task = OnSharedStorage(partial(Nothing, "cpu"))
    job = Job(source=marked_run / "a.png", target=marked_run / "out" / "a.png", folder=marked_run / "out")
    with pytest.raises(MissingImage, match=r"a.png: the machine .* does not see it.*storage that all machines share"):
        task.read(job)
    job.source.touch()
    with pytest.raises(UnwritableImage, match=r"out: the machine .* does not see this output folder.*storage"):
        task.read(job)
    with Lock(marked_run / "out"):
        assert task.read(job) == "read"
    assert task.read(replace(job, folder=None)) == "read"


def test_a_result_on_the_disk_of_another_machine_is_a_failure(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photo = save_photo(Path("a.png"))
    FakeRay(monkeypatch, "a")
    elsewhere: list[Path] = []
    monkeypatch.setattr("sanarestore.engine.file_restorer.write_new", lambda path, _data: elsewhere.append(path))
    (outcome,) = restore_files(photo, output="b.png", ray="auto", model="tiny-model", threads=1)
    assert (outcome.status, outcome.reason) == ("failed", "unwritable")
    assert "b.png: the worker wrote it to another disk" in str(outcome.error)
    assert "storage that all machines share" in str(outcome.error)
    assert len(elsewhere) == 1
    assert not Path("b.png").exists()
