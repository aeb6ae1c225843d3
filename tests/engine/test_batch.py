"""Tests of a batch: every file has exactly one outcome, nothing of others is replaced, and a crash loses nothing."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sanarestore
from sanarestore.engine import batch as batches
from sanarestore.engine import work, workers
from sanarestore.engine.batch import Batch
from sanarestore.engine.jobs import Outcome, TileDone
from sanarestore.engine.journal import NAME
from sanarestore.engine.lock import Lock
from sanarestore.engine.many_files import restore_files
from sanarestore.errors import DiskFull, NoImagesError, UnwritableImage, UsageError, disk_full
from sanarestore.images import read
from sanarestore.options import RestoreOptions
from tests.conftest import save_photo


@pytest.fixture
def shoot(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three photos; the current folder is the one above theirs."""
    monkeypatch.chdir(tmp_path)
    for index, name in enumerate(("a.png", "b.png", "deep/c.png")):
        save_photo(Path("shoot") / name, seed=index)
    return Path("shoot")


def outcomes(*inputs: str | Path, **chosen: Any) -> dict[str, Outcome]:
    """Restore; return the outcome of each file by its name."""
    found = list(restore_files(inputs, **{"model": "tiny-model", "threads": 1, "devices": "cpu"} | chosen))
    assert len({outcome.path for outcome in found}) == len(found), "a file has two outcomes"
    return {outcome.path.name: outcome for outcome in found}


def statuses(*inputs: str | Path, **chosen: Any) -> dict[str, str]:
    return {name: outcome.status for name, outcome in outcomes(*inputs, **chosen).items()}


def tree(folder: str | Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def test_every_file_has_one_outcome(shoot: Path) -> None:
    (shoot / "notes.txt").write_text("nothing to restore")
    (shoot / "empty.jpg").write_bytes(b"")
    found = outcomes("shoot", output="out")
    assert {name: (outcome.status, outcome.reason) for name, outcome in found.items()} == {
        "a.png": ("done", None), "b.png": ("done", None), "c.png": ("done", None),
        "notes.txt": ("ignored", "other"), "empty.jpg": ("failed", "unreadable"),
    }  # fmt: skip
    assert tree("out") == ["a.png", "b.png", "deep/c.png", NAME]
    assert statuses("shoot", output="out") == {
        "a.png": "skipped", "b.png": "skipped", "c.png": "skipped", "notes.txt": "ignored", "empty.jpg": "failed",
    }  # fmt: skip


def test_the_package_offers_batches_and_single_images(shoot: Path) -> None:
    (outcome,) = sanarestore.restore_files(shoot / "a.png", output="out", model="tiny-model", threads=1)
    assert outcome.status == "done"
    from sanarestore import images

    restored = sanarestore.restore(images.read(shoot / "a.png"), model="tiny-model")
    assert images.encode(restored) == Path("out/a.png").read_bytes()
    assert {"restore", "restore_files", "Restorer"} <= set(dir(sanarestore))
    with pytest.raises(AttributeError):
        _ = sanarestore.nothing


def test_another_photograph_of_the_same_name_never_replaces_the_first(shoot: Path) -> None:
    save_photo(Path("tuesday/a.png"), seed=9)
    outcomes("shoot", output="out")
    first = Path("out/a.png").read_bytes()
    refused = outcomes("tuesday", output="out")["a.png"]
    assert (refused.status, refused.reason) == ("failed", "exists")
    assert "result of another photograph" in str(refused.error)
    assert "shoot/a.png" in str(refused.error)
    assert Path("out/a.png").read_bytes() == first
    assert statuses("tuesday", output="out", overwrite=True) == {"a.png": "done"}
    assert Path("out/a.png").read_bytes() != first


def test_a_photograph_that_was_moved_is_the_same(shoot: Path) -> None:
    outcomes("shoot", output="out")
    shoot.rename("moved")
    assert set(statuses("moved", output="out").values()) == {"skipped"}
    # Other settings restore it a second time, wherever it lies.
    assert set(statuses("moved", output="out", prompt="remove noise").values()) == {"done"}


def test_a_photograph_that_was_changed_is_restored_again(shoot: Path) -> None:
    outcomes("shoot", output="out")
    save_photo(shoot / "b.png", seed=9)
    assert statuses("shoot", output="out") == {"a.png": "skipped", "b.png": "done", "c.png": "skipped"}


def test_files_named_outright_resume_like_folders(shoot: Path) -> None:
    named = ("shoot/a.png", "shoot/b.png")
    assert set(statuses(*named).values()) == {"done"}
    assert set(statuses(*named).values()) == {"skipped"}
    Path("list.txt").write_text("shoot/a.png\nshoot/b.png\n")
    assert set(statuses("@list.txt").values()) == {"skipped"}
    assert statuses("shoot/*.png") == {
        "a.png": "skipped", "b.png": "skipped", "a-restored.png": "ignored", "b-restored.png": "ignored",
    }  # fmt: skip


def test_a_photograph_in_an_output_folder_below_the_inputs_is_ignored_and_named(shoot: Path) -> None:
    assert outcomes("shoot", output="shoot/deep")["c.png"].reason == "ours"
    found = list(restore_files("shoot", output="shoot/deep", model="tiny-model", threads=1))
    assert {(str(each.path), each.status) for each in found if each.reason != "other"} == {
        ("shoot/a.png", "skipped"), ("shoot/b.png", "skipped"), ("shoot/deep/a.png", "ignored"),
        ("shoot/deep/b.png", "ignored"), ("shoot/deep/c.png", "ignored"),
    }  # fmt: skip


def test_a_result_is_an_input_like_any_other_with_an_output_of_its_own(shoot: Path) -> None:
    outcomes("shoot/a.png")
    assert outcomes("shoot/a-restored.png", "shoot/a.png")["a-restored.png"].reason == "ours"
    assert statuses("shoot/a-restored.png", output="again") == {"a-restored.png": "done"}
    # One that the user retouched is the user's.
    save_photo(shoot / "a-restored.png", seed=8)
    assert statuses("shoot/a-restored.png") == {"a-restored.png": "done"}


def test_results_below_a_folder_are_no_inputs_without_an_output(shoot: Path) -> None:
    outcomes("shoot/a.png")
    outcomes("shoot")
    Path("shoot-restored").rename("shoot/before")
    found = list(restore_files("shoot", model="tiny-model", threads=1))
    assert sorted(outcome.path.as_posix() for outcome in found if outcome.reason == "ours") == [
        "shoot/a-restored.png", "shoot/before/a.png", "shoot/before/b.png", "shoot/before/deep/c.png",
    ]  # fmt: skip
    assert sum(outcome.status == "done" for outcome in found) == 3
    assert sorted(path.name for path in Path("shoot-restored").rglob("*.png")) == ["a.png", "b.png", "c.png"]
    assert statuses("shoot/before", output="again") == {"a.png": "done", "b.png": "done", "c.png": "done"}


def test_nothing_but_earlier_results_is_no_error(shoot: Path) -> None:
    outcomes("shoot/a.png")
    assert statuses("shoot/a-restored.png") == {"a-restored.png": "ignored"}


def test_one_bad_path_does_not_stop_the_others(shoot: Path) -> None:
    long = Path("y" * 250 + ".png")
    save_photo(long)
    found = outcomes(long, "missing.png", "shoot/a.png")
    assert {name: outcome.reason for name, outcome in found.items()} == {
        long.name: "unwritable", "missing.png": "missing", "a.png": None,
    }  # fmt: skip
    assert (shoot / "a-restored.png").exists()


def test_inputs_that_name_nothing_are_an_error(shoot: Path) -> None:
    Path("empty").mkdir()
    with pytest.raises(UsageError, match="no such file"):
        Batch(["missing"], "out", RestoreOptions(model="tiny-model"))
    with pytest.raises(NoImagesError, match="empty"):
        Batch(["empty"], "out", RestoreOptions(model="tiny-model"))


def test_a_folder_in_which_nothing_can_be_written_fails_its_files_only(shoot: Path) -> None:
    save_photo(Path("other/d.png"))
    Path("shoot-restored").write_text("a file where a folder is needed")
    found = outcomes("shoot", "other")
    assert {name: outcome.reason for name, outcome in found.items()} == {
        "a.png": "unwritable", "b.png": "unwritable", "c.png": "unwritable", "d.png": None,
    }  # fmt: skip
    assert Path("shoot-restored").read_text() == "a file where a folder is needed"


def test_the_run_ends_if_no_output_folder_can_be_written(shoot: Path) -> None:
    Path("wall").write_text("a file where a folder is needed")
    with pytest.raises(UnwritableImage, match=r"wall/out: nothing can be written there .* name another output\."):
        outcomes("shoot", output="wall/out")


def test_a_file_that_is_put_at_an_output_meanwhile_survives(shoot: Path) -> None:
    batch = Batch(["shoot"], "out", RestoreOptions(model="tiny-model", threads=1))
    found = {}
    for event in batch.run(["cpu"]):
        if isinstance(event, TileDone) and event.path.name == "a.png":
            Path("out/a.png").write_bytes(b"of another program")
        if isinstance(event, Outcome):
            found[event.path.name] = event.reason
    assert found == {"a.png": "exists", "b.png": None, "c.png": None}
    assert Path("out/a.png").read_bytes() == b"of another program"
    assert tree("out") == ["a.png", "b.png", "deep/c.png", NAME]


def test_a_link_at_an_output_is_not_followed(shoot: Path) -> None:
    Path("out").mkdir()
    Path("out/a.png").symlink_to("../elsewhere.png")
    Path("out/b.png").symlink_to("nowhere.png")
    found = outcomes("shoot", output="out")
    assert (found["a.png"].reason, found["b.png"].reason) == ("collision", "exists")
    assert not Path("elsewhere.png").exists()
    assert not Path("out/nowhere.png").exists()


def test_the_program_may_change_its_folder_during_the_batch(shoot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shoot / "damaged.png").write_bytes((shoot / "a.png").read_bytes()[:300])
    home = Path.cwd()
    places = [home / "elsewhere", home / "shoot", home / "elsewhere/deep", home, home / "elsewhere"]
    (home / "elsewhere/deep").mkdir(parents=True)
    named = ["shoot/a.png", "shoot/b.png", "shoot/deep", "shoot/damaged.png"]
    for expected in ("done", "skipped"):
        found = []
        monkeypatch.chdir(home)
        batch = restore_files(named, output="out", model="tiny-model", threads=1)
        for place in places:
            monkeypatch.chdir(place)
            found.extend(outcome for outcome in [next(batch, None)] if outcome)
        assert {(str(each.path), str(each.output), each.status) for each in found if each.status != "failed"} == {
            ("shoot/a.png", "out/a.png", expected), ("shoot/b.png", "out/b.png", expected),
            ("shoot/deep/c.png", "out/c.png", expected),
        }  # fmt: skip
        (damaged,) = (each for each in found if each.status == "failed")
        assert damaged.reason == "damaged"
        assert str(damaged.error).startswith("shoot/damaged.png: ")
    assert tree("elsewhere") == []
    monkeypatch.chdir(home)
    assert tree("out") == ["a.png", "b.png", "c.png", NAME]


def test_closing_early_keeps_what_is_finished_and_leaves_nothing_half_written(shoot: Path) -> None:
    for seed in range(4):
        save_photo(shoot / f"x{seed}.png", 300, 300, seed=seed)
    with closing(restore_files(shoot, output="out", model="tiny-model", threads=1, tile=64)) as found:
        next(found)
    names = tree("out")
    assert names[0] == "a.png"
    assert NAME in names
    assert not [name for name in names if "tmp" in name or "lock" in name]
    resumed = statuses("shoot", output="out")
    assert Counter(resumed.values()) == {"skipped": len(names) - 1, "done": 7 - (len(names) - 1)}


def test_a_second_run_in_the_same_folder_is_refused(shoot: Path) -> None:
    with Lock(Path("out")), pytest.raises(UsageError, match="another run"):
        outcomes("shoot", output="out")


def test_parts_share_a_batch(shoot: Path) -> None:
    for index in range(8):
        save_photo(shoot / f"more{index}.png", 20, 20, seed=index)
    parts = [statuses("shoot", output="out", shard=f"{index}/3") for index in (1, 2, 3)]
    assert sum(map(len, parts)) == 11
    assert set().union(*parts) == {"a.png", "b.png", "c.png", *(f"more{index}.png" for index in range(8))}
    assert all(len(part) for part in parts)
    # Each knows what the others did.
    assert set(statuses("shoot", output="out").values()) == {"skipped"}
    with pytest.raises(UsageError, match=r"^shard: "):
        outcomes("shoot", output="out", shard="4/3")


def test_files_that_are_no_jobs_belong_to_one_part_each(shoot: Path) -> None:
    for index in range(8):
        (shoot / f"note{index}.txt").write_text("nothing to restore")
        (shoot / f"empty{index}.png").write_bytes(b"")
        save_photo(Path("more") / f"same{index}.png", 8, 8)
        save_photo(shoot / f"same{index}.png", 8, 8)
    parts = [
        Counter((str(each.path), each.status, each.reason)
                for each in restore_files(["shoot", "more"], output="out", model="tiny-model", shard=f"{index}/3"))
        for index in (1, 2, 3)
    ]  # fmt: skip
    together: Counter[tuple[str, str, str | None]] = sum(parts, Counter())
    assert set(together.values()) == {1}, "a file is reported by two parts"
    assert Counter(reason for _, _, reason in together) == {
        None: 11, "other": 8, "unreadable": 8, "collision": 8,
    }  # fmt: skip
    for reason in ("other", "unreadable", "collision"):
        assert max(sum(each[2] == reason for each in part) for part in parts) < 8, "all are in one part"


def test_temporary_files_of_dead_runs_are_removed(shoot: Path) -> None:
    outcomes("shoot", output="out")
    old, fresh, named = (Path("out", f".sanarestore-{name}.tmp") for name in ("old", "fresh", "named"))
    for path in (old, fresh, named):
        path.write_bytes(b"half")
    os.utime(old, (1e9, 1e9))
    line = {"status": "started", "output": "a.png", "temporary": named.name}
    with Path("out", NAME).open("a") as journal:
        journal.write(json.dumps(line) + "\n")
    outcomes("shoot", output="out")
    assert [path.name for path in Path("out").glob(".*")] == [fresh.name]


def test_a_full_disk_stops_the_batch_and_it_resumes(shoot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []

    def full(path: Path, data: bytes) -> None:
        written.append(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if len(written) == 2:
            path.write_bytes(data[:10])
            raise OSError(28, "No space left on device")
        path.write_bytes(data)

    monkeypatch.setattr("sanarestore.engine.file_restorer.write_new", full)
    with pytest.raises(DiskFull, match=r"b.png.*Free some space"):
        outcomes("shoot", output="out")
    assert tree("out") == ["a.png", NAME]
    assert statuses("shoot", output="out") == {"a.png": "skipped", "b.png": "done", "c.png": "done"}


def test_a_photograph_that_vanishes_during_the_batch_is_missing(shoot: Path) -> None:
    with closing(restore_files("shoot", output="out", model="tiny-model", threads=1)) as found:
        (shoot / "a.png").unlink()
        assert {each.path.name: each.reason for each in found} == {"a.png": "missing", "b.png": None, "c.png": None}


def test_a_journal_that_cannot_be_written_leaves_no_temporary_file(
    shoot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise disk_full(NAME)

    monkeypatch.setattr(batches.Journal, "add", full)
    with pytest.raises(DiskFull):
        outcomes("shoot", output="out")
    assert tree("out") == [NAME]


@pytest.mark.parametrize("moment", ["before the record", "after the record", "after the name"])
def test_a_crash_between_any_two_steps_loses_nothing(shoot: Path, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch dies at a moment of the second file; the next run finishes, and takes no file of others for ours."""

    class Crash(BaseException):
        pass

    place, add = work.place, batches.Journal.add
    count = Counter[str]()

    def crashing(name: str, moment_of: tuple[str, str], real: Callable[..., None]) -> Callable[..., None]:
        def wrapped(*arguments: Any, **named: Any) -> None:
            count[name] += 1
            if count[name] == 2 and moment == moment_of[0]:
                raise Crash
            real(*arguments, **named)
            if count[name] == 2 and moment == moment_of[1]:
                raise Crash

        return wrapped

    with monkeypatch.context() as crashing_once:
        crashing_once.setattr(batches.Journal, "add", crashing("add", ("before the record", "after the record"), add))
        crashing_once.setattr(work, "place", crashing("place", ("never", "after the name"), place))
        with pytest.raises(Crash):
            outcomes("shoot", output="out")
    expected = "skipped" if moment == "after the name" else "done"
    assert statuses("shoot", output="out")["b.png"] == expected
    assert tree("out") == ["a.png", "b.png", "deep/c.png", NAME]


def test_a_file_that_needs_more_memory_than_allowed_fails_alone(shoot: Path) -> None:
    save_photo(shoot / "large.png", 1200, 1200)
    found = outcomes("shoot", output="out", memory_per_file="30M")
    assert found.pop("large.png").reason == "memory"
    assert {outcome.status for outcome in found.values()} == {"done"}


def test_photographs_in_strips_are_interrupted_resumed_and_skipped_like_others(
    shoot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        save_photo(shoot / f"x{seed}.png", 300, 300, seed=seed)
    whole = outcomes("shoot", output="whole", tile=64)
    monkeypatch.setattr("sanarestore.engine.strips.use.LARGE", 1)
    with closing(restore_files(shoot, output="out", model="tiny-model", threads=1, tile=64)) as found:
        next(found)
    names = tree("out")
    assert not [name for name in names if "tmp" in name or "lock" in name]
    done = len(names) - 1
    resumed = outcomes("shoot", output="out", tile=64)
    assert Counter(each.status for each in resumed.values()) == {"skipped": done, "done": 6 - done}
    assert set(statuses("shoot", output="out", tile=64).values()) == {"skipped"}
    for outcome in whole.values():
        assert outcome.output is not None
        other = Path("out", *outcome.output.parts[-2 if outcome.path.parent.name == "deep" else -1 :])
        assert np.array_equal(read(outcome.output).pixels_HWC, read(other).pixels_HWC)


def test_a_photograph_in_strips_fits_into_memory_that_it_would_not_fit_whole(
    shoot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_photo(shoot / "large.png", 1200, 1200)
    chosen = {"tile": 64, "memory_per_file": "30M"}
    assert outcomes("shoot/large.png", output="out.png", **chosen)["large.png"].reason == "memory"
    monkeypatch.setattr("sanarestore.engine.strips.use.LARGE", 1000)
    monkeypatch.setattr("sanarestore.engine.strips.use._FIXED", 2**20)
    assert outcomes("shoot/large.png", output="out.png", **chosen)["large.png"].status == "done"


def test_what_another_run_finished_meanwhile_is_known(shoot: Path) -> None:
    """The journal is read again once the folder is locked."""
    late = Batch(["shoot/a.png"], None, RestoreOptions(model="tiny-model", threads=1))
    outcomes("shoot/a.png")
    assert [event.status for event in late.run(["cpu"]) if isinstance(event, Outcome)] == ["skipped"]


def test_errors_of_the_request_are_raised_at_once(shoot: Path) -> None:
    for wrong in ({"strength": 2.0}, {"shard": "0/2"}, {"devices": ","}, {"memory_per_file": "much"}):
        with pytest.raises(UsageError):
            restore_files("shoot", output="out", **wrong)  # type: ignore[arg-type]
    assert not Path("out").exists()


@pytest.mark.usefixtures("processes")
def test_a_program_on_stdin_restores_files_and_holds_no_torch(shoot: Path) -> None:
    program = """
import sys, sanarestore
for outcome in sanarestore.restore_files("shoot", output="out", model="tiny-model", threads=1):
    print(outcome.path.name, outcome.status)
print("torch" in sys.modules)
"""
    ended = subprocess.run([sys.executable, "-"], input=program, capture_output=True, text=True, check=False)
    assert ended.stderr == ""
    assert ended.stdout == "a.png done\nb.png done\nc.png done\nFalse\n"


def test_processes_write_what_threads_write(shoot: Path, request: pytest.FixtureRequest) -> None:
    outcomes("shoot", output="threads")
    request.getfixturevalue("monkeypatch").setattr(workers, "start", _real_start)
    assert set(statuses("shoot", output="processes", devices="cpu,cpu").values()) == {"done"}
    for name in ("a.png", "b.png", "deep/c.png"):
        assert Path("threads", name).read_bytes() == Path("processes", name).read_bytes()


_real_start = workers.start
