"""Tests of the journal: what it records, what it leaves out and what survives a crash."""

import json
from pathlib import Path

import pytest

from sanarestore.engine.jobs import Job, Outcome
from sanarestore.engine.journal import NAME, Journal
from sanarestore.errors import UsageError
from sanarestore.files import hash_file


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job whose input was restored and whose result exists."""
    source, folder = tmp_path / "in/a.png", tmp_path / "out"
    for path, content in ((source, b"input"), (folder / "deep/a.png", b"result")):
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    return Job(source=source, target=folder / "deep/a.png", folder=folder)


def done(job: Job) -> Outcome:
    return Outcome(path=job.source, output=job.target, status="done", sha256=hash_file(job.source))


def opened(job: Job, settings: str = "s") -> Journal:
    return Journal(job.folder, settings=settings)


def test_a_job_is_finished_only_with_the_same_input_settings_and_result(job: Job) -> None:
    assert not opened(job).is_finished(job)
    opened(job).add(done(job))
    assert opened(job).is_finished(job)
    assert not opened(job, "others").is_finished(job)
    job.target.write_bytes(b"RESULT")  # the same length as before
    assert not opened(job).is_finished(job)
    job.target.write_bytes(b"result")
    job.source.write_bytes(b"INPUT")
    assert not opened(job).is_finished(job)
    job.source.unlink()
    assert not opened(job).is_finished(job)


def test_a_job_recorded_in_the_same_run_is_finished(job: Job) -> None:
    journal = opened(job)
    journal.add(done(job))
    assert journal.is_finished(job)
    job.target.unlink()
    assert not journal.is_finished(job)


def test_an_input_that_changed_during_restoration_is_not_finished(job: Job) -> None:
    outcome = done(job)
    job.source.write_bytes(b"changed meanwhile")
    opened(job).add(outcome)
    assert not opened(job).is_finished(job)


def test_a_result_that_the_user_changed_does_not_count_as_written_by_us(job: Job) -> None:
    assert not opened(job).wrote(job)
    opened(job).add(done(job))
    assert opened(job, "others").wrote(job)
    job.target.write_bytes(b"retouched by hand")
    assert not opened(job).wrote(job)


def test_a_file_begun_but_not_recorded_counts_as_written_by_us(job: Job) -> None:
    opened(job).begin([job])
    assert opened(job).wrote(job)
    assert not opened(job).is_finished(job)
    opened(job).add(done(job))
    job.target.write_bytes(b"retouched by hand")
    assert not opened(job).wrote(job)


def test_beginning_a_job_a_second_time_keeps_its_record(job: Job) -> None:
    opened(job).add(done(job))
    opened(job, "others").begin([job])
    assert opened(job).is_finished(job)


def test_the_start_of_a_job_is_recorded_once(job: Job) -> None:
    for _ in range(3):
        opened(job).begin([job])
    assert len((job.target.parents[1] / NAME).read_text().splitlines()) == 1


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_failed_and_skipped_files_are_not_recorded(job: Job, status: str) -> None:
    opened(job).add(Outcome(path=job.source, output=job.target, status=status))  # type: ignore[arg-type]
    assert not (job.target.parents[1] / NAME).exists()


def test_a_released_target_does_not_count_as_written_by_us(job: Job) -> None:
    """A file that the user puts where ours failed is the user's; a file finished by an earlier batch stays ours."""
    job.target.unlink()
    opened(job).begin([job])
    assert opened(job).wrote(job), "after a crash the file may be ours"
    opened(job).release([job])
    job.target.write_bytes(b"the user's")
    assert not opened(job).wrote(job)
    opened(job).add(done(job))
    opened(job).begin([job])
    opened(job).release([job])
    assert opened(job).wrote(job)
    assert opened(job).is_finished(job)


def test_torn_and_foreign_lines_are_ignored(job: Job) -> None:
    opened(job).add(done(job))
    path = job.target.parents[1] / NAME
    whole = path.read_bytes()
    other = Job(source=job.source, target=job.target.with_name("b.png"), folder=job.folder)
    other.target.write_bytes(b"result")
    for junk in (
        b"\xff\xfe",
        b"[1]\n",
        b'{"output": ["x"], "status": "started"}\n',
        b'{"output": "deep/a.png"}\n',
        whole[:40],
    ):
        path.write_bytes(whole + junk)
        assert opened(job).is_finished(job)
        opened(job).add(done(other))
        assert opened(job).is_finished(job)
        assert opened(job).is_finished(other)


def test_the_last_record_of_a_job_counts(job: Job) -> None:
    opened(job).add(done(job))
    opened(job, "others").add(done(job))
    assert opened(job, "others").is_finished(job)
    assert not opened(job).is_finished(job)


def test_records_stay_valid_when_the_output_folder_moves(job: Job, tmp_path: Path) -> None:
    opened(job).add(done(job))
    moved = (tmp_path / "out").rename(tmp_path / "elsewhere")
    assert opened(there := Job(source=job.source, target=moved / "deep/a.png", folder=moved)).is_finished(there)


def test_a_record_holds_the_settings_that_decided_the_result(job: Job) -> None:
    opened(job).add(done(job))
    line = json.loads((job.target.parents[1] / NAME).read_text())
    assert {"input", "sha256", "output_sha256", "settings", "device", "tile", "threads"} <= line.keys()
    assert line["output"] == "deep/a.png"


def test_file_names_that_are_not_utf8_are_recorded(job: Job) -> None:
    odd = Job(source=job.source, target=job.target.with_name("caf\udce9.png"), folder=job.folder)
    try:
        odd.target.write_bytes(b"result")
    except OSError:
        pytest.skip("this disk takes UTF-8 names only")
    opened(job).add(done(odd))
    assert opened(job).is_finished(odd)


def test_a_journal_without_a_folder_records_nothing(job: Job) -> None:
    journal = Journal(None, settings="s")
    journal.begin([job])
    journal.add(done(job))
    assert not journal.is_finished(job)
    assert not journal.wrote(job)
    assert sorted(path.name for path in job.target.parents[2].rglob("*.*")) == ["a.png", "a.png"]


def test_an_unwritable_journal_is_reported(job: Job) -> None:
    path = job.target.parents[1] / NAME
    path.mkdir()
    with pytest.raises(UsageError, match="journal cannot be written"):
        opened(job).begin([job])
