"""Tests of the journal: what it records, what it leaves out and what survives a crash."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sanarestore.engine import journal
from sanarestore.engine.jobs import Job, Outcome, Stamp
from sanarestore.engine.journal import NAME, Earlier, Journal
from sanarestore.errors import UsageError
from sanarestore.files import hash_bytes, hash_file
from sanarestore.options import Shard


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job whose input exists, and whose result is complete under its temporary name."""
    source, folder = tmp_path / "in/a.png", tmp_path / "out"
    for path, content in ((source, b"input"), (folder / "deep/.t.tmp", b"result")):
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    return Job(source=source, target=folder / "deep/a.png", folder=folder, temporary=folder / "deep/.t.tmp")


def done(job: Job) -> Outcome:
    return Outcome(
        path=job.source, output=job.target, status="done", sha256=hash_file(job.source),
        output_sha256=hash_bytes(b"result"), stamp=Stamp.of(job.source),
    )  # fmt: skip


def opened(job: Job, settings: str = "s", shard: Shard | None = None) -> Journal:
    return Journal(job.folder, settings=settings, shard=shard)


def recorded(job: Job, settings: str = "s", shard: Shard | None = None) -> None:
    """Record the result, and give it its name."""
    opened(job, settings, shard).add(job, done(job))
    job.target.write_bytes(b"result")


def is_finished(job: Job, settings: str = "s") -> bool:
    earlier = opened(job, settings).find(job)
    return earlier is not None and earlier.is_same_content and earlier.is_same_settings


def test_a_job_is_finished_only_with_the_same_input_settings_and_result(job: Job) -> None:
    assert opened(job).find(job) is None
    recorded(job)
    assert is_finished(job)
    assert not is_finished(job, "others")
    job.target.write_bytes(b"RESULT!")
    assert opened(job).find(job) is None
    job.target.write_bytes(b"result")
    job.source.write_bytes(b"INPUT")
    assert not is_finished(job)
    job.source.unlink()
    assert not is_finished(job)


def test_a_record_without_its_file_claims_nothing(job: Job) -> None:
    """The record is made first: a crash before the result gets its name leaves a line and no file."""
    opened(job).add(job, done(job))
    assert opened(job).find(job) is None
    job.target.write_bytes(b"the user's own")
    assert opened(job).find(job) is None
    assert not opened(job).made(job.target)


def test_a_file_that_was_begun_is_not_taken_for_ours(job: Job) -> None:
    opened(job).begin(job)
    job.target.write_bytes(b"the user's own")
    assert opened(job).find(job) is None


def test_an_input_that_changed_during_restoration_is_not_finished(job: Job) -> None:
    outcome = done(job)
    job.source.write_bytes(b"changed meanwhile")
    opened(job).add(job, outcome)
    job.target.write_bytes(b"result")
    earlier = opened(job).find(job)
    assert earlier is not None
    assert (earlier.is_same_path, earlier.is_same_content) == (True, False)


def test_the_same_content_under_another_path_is_the_same_photograph(job: Job, tmp_path: Path) -> None:
    recorded(job)
    (tmp_path / "in").rename(tmp_path / "moved")
    moved = replace(job, source=tmp_path / "moved/a.png")
    earlier = opened(job).find(moved)
    assert earlier == Earlier(source=str(job.source), is_same_path=False, is_same_content=True, is_same_settings=True)
    moved.source.write_bytes(b"another photograph")
    earlier = opened(job).find(moved)
    assert earlier is not None
    assert (earlier.is_same_path, earlier.is_same_content) == (False, False)


def test_unchanged_files_are_recognised_without_reading_them(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_SETTLED", 0)
    recorded(job)
    line = json.loads((job.target.parents[1] / NAME).read_text())
    os.utime(job.target, ns=(line["output_stamp"][1],) * 2)
    monkeypatch.setattr(journal, "_SETTLED", 3_600_000_000_000)
    monkeypatch.setattr(journal, "hash_file", lambda _: pytest.fail("a file was read"))
    assert is_finished(job)


def test_an_input_that_was_changed_just_now_is_read(job: Job) -> None:
    """A second change within the resolution of the file system's clock would leave the stamp as it is."""
    recorded(job)
    line = json.loads((job.target.parents[1] / NAME).read_text())
    assert line["input_stamp"] is None
    stamp = job.source.stat()
    job.source.write_bytes(b"INPUT")
    os.utime(job.source, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert not is_finished(job)


def test_a_result_that_was_touched_later_is_read(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(job)
    lines = (job.target.parents[1] / NAME).read_text()
    line = json.loads(lines)
    job.target.write_bytes(b"RESULT")
    os.utime(job.target, ns=(line["output_stamp"][1],) * 2)
    line["time"] = time.time_ns() - 10_000_000_000
    (job.target.parents[1] / NAME).write_text(json.dumps(line) + "\n")
    assert opened(job).find(job) is None


def test_every_record_counts_whose_content_is_there(job: Job) -> None:
    recorded(job)
    opened(job, "others").add(job, replace(done(job), output_sha256="0" * 64))
    assert is_finished(job)


def test_failed_files_are_not_taken_for_finished(job: Job) -> None:
    opened(job).begin(job)
    line = json.loads((job.target.parents[1] / NAME).read_text())
    assert line["status"] == "started"
    assert line["temporary"] == ".t.tmp"
    assert line["input"] == str(job.source)


def test_temporary_files_of_dead_runs_are_known_by_name(job: Job) -> None:
    opened(job).begin(job)
    assert list(opened(job).leftovers()) == [job.temporary]
    # Other parts may be alive, except beside a run that is no part.
    assert list(opened(job, shard=Shard(1, 2)).leftovers()) == []


@pytest.mark.skipif(os.name == "nt", reason="parts do not lock out a whole run there")
def test_temporary_files_of_dead_parts_are_known_to_a_whole_run(job: Job) -> None:
    others = [replace(job, temporary=job.target.with_name(name)) for name in (".1.tmp", ".2.tmp")]
    for index, each in enumerate(others, start=1):
        opened(job, shard=Shard(index, 2)).begin(each)
    assert {path.name for path in opened(job).leftovers()} == {".1.tmp", ".2.tmp"}
    assert [path.name for path in opened(job, shard=Shard(2, 2)).leftovers()] == [".2.tmp"]


def test_parts_read_the_journals_of_each_other(job: Job) -> None:
    recorded(job, shard=Shard(1, 2))
    folder = job.target.parents[1]
    assert sorted(path.name for path in folder.glob("*.jsonl")) == ["sanarestore.1-of-2.jsonl"]
    assert is_finished(job)
    assert opened(job, shard=Shard(2, 2)).find(job) is not None


def test_torn_and_foreign_lines_are_ignored(job: Job) -> None:
    recorded(job)
    path = job.target.parents[1] / NAME
    whole = path.read_bytes()
    other = replace(job, target=job.target.with_name("b.png"))
    for junk in (
        b"\xff\xfe",
        b"[1]\n",
        b'{"output": ["x"], "status": "started"}\n',
        b'{"output": "deep/a.png"}\n',
        b'{"output": "deep/a.png", "status": "done", "settings": 1, "sha256": 2, "output_sha256": 3}\n',
        b'{"output": "../../x", "status": "started", "temporary": "../x"}\n',
        b'{"output": "/", "status": "started", "temporary": ""}\n',
        whole[:40],
    ):
        path.write_bytes(whole + junk)
        assert is_finished(job)
        assert list(opened(job).leftovers()) == []
        recorded(other)
        assert is_finished(job)
        assert is_finished(other)


def test_records_stay_valid_when_the_output_folder_moves(job: Job, tmp_path: Path) -> None:
    recorded(job)
    moved = (tmp_path / "out").rename(tmp_path / "elsewhere")
    assert is_finished(replace(job, target=moved / "deep/a.png", folder=moved))


def test_a_record_holds_the_settings_that_decided_the_result(job: Job) -> None:
    recorded(job)
    line = json.loads((job.target.parents[1] / NAME).read_text())
    assert {"input", "sha256", "output_sha256", "settings", "device", "tile", "threads", "time"} <= line.keys()
    assert line["output"] == "deep/a.png"


def test_file_names_that_are_not_utf8_are_recorded(job: Job) -> None:
    odd = replace(job, target=job.target.with_name("caf\udce9.png"))
    try:
        odd.target.write_bytes(b"result")
    except OSError:
        pytest.skip("this disk takes UTF-8 names only")
    recorded(odd)
    assert is_finished(odd)


def test_a_journal_without_a_folder_records_nothing(job: Job) -> None:
    alone = Journal(None, settings="s")
    alone.begin(job)
    alone.add(job, done(job))
    job.target.write_bytes(b"result")
    assert alone.find(job) is None
    assert not alone.made(job.target)
    assert not list(job.target.parents[2].rglob("*.jsonl"))


def test_an_unwritable_journal_is_reported(job: Job) -> None:
    path = job.target.parents[1] / NAME
    path.mkdir()
    with pytest.raises(UsageError, match="journal cannot be written"):
        opened(job).begin(job)


def test_journals_are_known_by_their_names() -> None:
    for shard in (None, Shard(3, 12)):
        assert journal.is_journal(Path("out", journal.name_of(shard)))
    for name in ("pairs.jsonl", "sanarestore.json", "sanarestore.x.jsonl", "my-sanarestore.jsonl"):
        assert not journal.is_journal(Path(name))
