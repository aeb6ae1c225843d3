"""What is remembered, what is not, and what a crash leaves."""

import json
from pathlib import Path

import pytest

from sanarestore.engine.jobs import Job, Outcome
from sanarestore.engine.journal import NAME, Journal
from sanarestore.errors import UsageError
from sanarestore.files import hash_file


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """An input that was restored; its result is there."""
    source, folder = tmp_path / "in/a.png", tmp_path / "out"
    for path, content in ((source, b"input"), (folder / "deep/a.png", b"result")):
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    return Job(source=source, target=folder / "deep/a.png", folder=folder)


def done(job: Job) -> Outcome:
    return Outcome(path=job.source, output=job.target, status="done", sha256=hash_file(job.source))


def opened(job: Job, settings: str = "s") -> Journal:
    return Journal(job.folder, settings=settings)


def test_finished_means_same_input_settings_and_result(job: Job) -> None:
    assert not opened(job).is_finished(job)
    opened(job).add(done(job))
    assert opened(job).is_finished(job)
    assert not opened(job, "others").is_finished(job)
    job.target.write_bytes(b"RESULT")  # as long as before
    assert not opened(job).is_finished(job)
    job.target.write_bytes(b"result")
    job.source.write_bytes(b"INPUT")
    assert not opened(job).is_finished(job)
    job.source.unlink()
    assert not opened(job).is_finished(job)


def test_finished_in_the_same_run(job: Job) -> None:
    journal = opened(job)
    journal.add(done(job))
    assert journal.is_finished(job)
    job.target.unlink()
    assert not journal.is_finished(job)


def test_an_input_that_changed_while_it_was_read_is_restored_again(job: Job) -> None:
    outcome = done(job)
    job.source.write_bytes(b"changed meanwhile")
    opened(job).add(outcome)
    assert not opened(job).is_finished(job)


def test_only_what_is_as_we_left_it_may_be_replaced(job: Job) -> None:
    assert not opened(job).wrote(job)
    opened(job).add(done(job))
    assert opened(job, "others").wrote(job)
    job.target.write_bytes(b"retouched by hand")
    assert not opened(job).wrote(job)


def test_a_file_whose_line_was_lost_is_known_as_ours(job: Job) -> None:
    opened(job).begin([job])
    assert opened(job).wrote(job)
    assert not opened(job).is_finished(job)
    opened(job).add(done(job))
    job.target.write_bytes(b"retouched by hand")
    assert not opened(job).wrote(job)


def test_beginning_anew_forgets_nothing(job: Job) -> None:
    opened(job).add(done(job))
    opened(job, "others").begin([job])
    assert opened(job).is_finished(job)


def test_starting_is_noted_once(job: Job) -> None:
    for _ in range(3):
        opened(job).begin([job])
    assert len((job.target.parents[1] / NAME).read_text().splitlines()) == 1


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_only_finished_files_are_recorded(job: Job, status: str) -> None:
    opened(job).add(Outcome(path=job.source, output=job.target, status=status))  # type: ignore[arg-type]
    assert not (job.target.parents[1] / NAME).exists()


def test_what_was_not_written_after_all_is_released(job: Job) -> None:
    """A file of the user's, put where ours failed, is theirs; a file that an earlier batch finished stays ours."""
    job.target.unlink()
    opened(job).begin([job])
    assert opened(job).wrote(job), "after a crash it may be ours"
    opened(job).release([job])
    job.target.write_bytes(b"the user's")
    assert not opened(job).wrote(job)
    opened(job).add(done(job))
    opened(job).begin([job])
    opened(job).release([job])
    assert opened(job).wrote(job)
    assert opened(job).is_finished(job)


def test_torn_and_foreign_lines_are_passed_over(job: Job) -> None:
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


def test_the_last_line_counts(job: Job) -> None:
    opened(job).add(done(job))
    opened(job, "others").add(done(job))
    assert opened(job, "others").is_finished(job)
    assert not opened(job).is_finished(job)


def test_the_folder_may_move(job: Job, tmp_path: Path) -> None:
    opened(job).add(done(job))
    moved = (tmp_path / "out").rename(tmp_path / "elsewhere")
    assert opened(there := Job(source=job.source, target=moved / "deep/a.png", folder=moved)).is_finished(there)


def test_a_line_holds_what_decided_the_result(job: Job) -> None:
    opened(job).add(done(job))
    line = json.loads((job.target.parents[1] / NAME).read_text())
    assert {"input", "sha256", "output_sha256", "settings", "device", "tile", "threads"} <= line.keys()
    assert line["output"] == "deep/a.png"


def test_names_that_are_no_text(job: Job) -> None:
    odd = Job(source=job.source, target=job.target.with_name("caf\udce9.png"), folder=job.folder)
    try:
        odd.target.write_bytes(b"result")
    except OSError:
        pytest.skip("this disk takes UTF-8 names only")
    opened(job).add(done(odd))
    assert opened(job).is_finished(odd)


def test_without_a_folder_nothing_is_remembered(job: Job) -> None:
    journal = Journal(None, settings="s")
    journal.begin([job])
    journal.add(done(job))
    assert not journal.is_finished(job)
    assert not journal.wrote(job)
    assert sorted(path.name for path in job.target.parents[2].rglob("*.*")) == ["a.png", "a.png"]


def test_a_journal_that_cannot_be_kept_says_so(job: Job) -> None:
    path = job.target.parents[1] / NAME
    path.mkdir()
    with pytest.raises(UsageError, match="journal cannot be written"):
        opened(job).begin([job])
