"""Tests of planned jobs: where outputs go, and what is refused before any work."""

import os
from pathlib import Path

import pytest
from PIL import Image as PillowImage

from sanarestore import images
from sanarestore.engine import planning
from sanarestore.engine.jobs import Job
from sanarestore.engine.naming import Naming
from sanarestore.engine.planning import BatchPlan, plan
from sanarestore.errors import UsageError
from tests.conftest import save_photo
from tests.images.foreign_files import foreign_files


@pytest.fixture
def shoot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of photos; the current folder is the one above it."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png", "deep/er/c.png"):
        save_photo(Path("shoot") / name, 8, 8)
    return Path("shoot")


def whole(*inputs: str, output: str | None = None, naming: Naming = Naming()) -> BatchPlan:  # noqa: B008 - frozen
    return plan(images.find(inputs).images, inputs, output, naming)


def planned(*inputs: str, output: str | None = None, naming: Naming = Naming()) -> list[Job]:  # noqa: B008 - frozen
    made = whole(*inputs, output=output, naming=naming)
    assert made.refused == ()
    return list(made.jobs)


def targets(*inputs: str, output: str | None = None, naming: Naming = Naming()) -> list[str]:  # noqa: B008 - frozen
    return [os.path.relpath(job.target) for job in planned(*inputs, output=output, naming=naming)]


def test_the_output_folder_mirrors_the_input_tree(shoot: Path) -> None:
    assert targets("shoot", output="out") == ["out/a.png", "out/b.png", "out/deep/er/c.png"]
    assert targets("shoot/a.png", "shoot/deep", output="out") == ["out/a.png", "out/er/c.png"]
    assert targets("shoot/d*", output="out") == ["out/deep/er/c.png"]
    assert {job.folder for job in planned("shoot", output="out")} == {Path("out").absolute()}


@pytest.mark.skipif(os.name == "nt", reason="links need permission there")
def test_a_file_that_is_named_through_a_link_too_is_restored_once(shoot: Path) -> None:
    Path("link").symlink_to("shoot")
    assert targets("shoot/a.png", "link/a.png", output="out") == ["out/a.png"]
    assert targets("shoot/a.png", "link/a.png") == ["shoot/a-restored.png"]


def test_results_go_beside_the_input_when_no_output_is_given(shoot: Path) -> None:
    assert targets("shoot/a.png") == ["shoot/a-restored.png"]
    assert planned("shoot/a.png")[0].folder == Path("shoot").absolute()
    assert targets("shoot") == [f"shoot-restored/{name}" for name in ("a.png", "b.png", "deep/er/c.png")]
    assert targets("shoot/deep", "shoot/b.png") == ["shoot/deep-restored/er/c.png", "shoot/b-restored.png"]
    assert planned("shoot")[0].folder == shoot.resolve().with_name("shoot-restored")


def test_every_output_folder_has_its_own_journal(shoot: Path) -> None:
    save_photo(Path("other/d.png"), 8, 8)
    folders = {job.source.name: job.folder for job in planned("shoot", "other") if job.folder}
    assert {name: folder.name for name, folder in folders.items()} == {
        "a.png": "shoot-restored", "b.png": "shoot-restored", "c.png": "shoot-restored", "d.png": "other-restored",
    }  # fmt: skip


def test_the_results_of_the_current_folder_go_beside_it(shoot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shoot)
    assert targets(".")[0] == "../shoot-restored/a.png"


def test_jobs_have_absolute_paths_and_know_the_paths_that_were_given(
    shoot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for output, expected in ((None, "shoot/deep/er/c-restored.png"), ("out", "out/c.png"), ("b.png", "b.png")):
        (job,) = planned("shoot/deep/er/c.png", output=output)
        assert (job.path, job.output) == (Path("shoot/deep/er/c.png"), Path(expected))
        assert (job.source, job.target) == (job.path.absolute(), job.output.absolute())
        assert job.folder is None or job.folder.is_absolute()
    # A step up is kept: without the folder before it, another place would be meant if that is a link.
    monkeypatch.chdir(shoot)
    (job,) = planned("deep/../a.png", output="out")
    assert job.source == Path.cwd() / "deep/../a.png"


def test_a_single_output_file_sets_target_and_format(shoot: Path) -> None:
    job = planned("shoot/a.png", output="b.png")[0]
    assert (job.target, job.format, job.folder) == (Path("b.png").absolute(), None, None)
    assert planned("shoot/a.png", output="b.PNG")[0].format is None
    assert planned("shoot/a.png", output="b.tif")[0].format == "tiff"
    # A name without the suffix of an image is a folder, even with a dot in it; an existing folder stays one.
    assert targets("shoot/a.png", output="v1.2") == ["v1.2/a.png"]
    Path("odd.png").mkdir()
    assert targets("shoot/a.png", output="odd.png") == ["odd.png/a.png"]


def test_a_folder_is_converted_with_its_suffixes(shoot: Path) -> None:
    naming = Naming("jpeg", "{stem}_clean")
    expected = ["a_clean.jpg", "b_clean.jpg", "deep/er/c_clean.jpg"]
    assert targets("shoot", output="out", naming=naming) == [f"out/{name}" for name in expected]
    assert targets("shoot", naming=naming) == [f"shoot-restored/{name}" for name in expected]
    assert targets("shoot/a.png", naming=naming) == ["shoot/a_clean.jpg"]
    assert targets("shoot/a.png", naming=Naming("jpeg")) == ["shoot/a-restored.jpg"]
    assert {job.format for job in planned("shoot", naming=naming)} == {"jpeg"}


def test_an_index_counts_the_photographs_of_a_run(shoot: Path) -> None:
    assert targets("shoot", output="out", naming=Naming(template="{index:02}")) == [
        "out/01.png", "out/02.png", "out/deep/er/03.png"
    ]  # fmt: skip


def test_files_that_would_get_the_same_suffix_get_advice(shoot: Path) -> None:
    (shoot / "a.jpg").write_bytes((shoot / "a.png").read_bytes())
    made = whole("shoot", output="out", naming=Naming("tiff"))
    assert [outcome.path.name for outcome in made.refused] == ["a.png"]
    assert "--name '{stem}-{ext}'" in str(made.refused[0].error)
    assert len(planned("shoot", output="out", naming=Naming("tiff", "{stem}-{ext}"))) == 4
    made = whole("shoot", output="out", naming=Naming("tiff", "same"))
    assert "--name '{stem}-{ext}'" in str(made.refused[0].error)
    assert "{stem} or {index}" in str(made.refused[1].error)


def test_one_output_file_has_one_name_and_one_format(shoot: Path) -> None:
    assert planned("shoot/a.png", output="b.png", naming=Naming("png"))[0].format == "png"
    with pytest.raises(UsageError, match=r"names PNG, and --format jpeg"):
        planned("shoot/a.png", output="b.png", naming=Naming("jpeg"))
    with pytest.raises(UsageError, match="--name"):
        planned("shoot/a.png", output="b.png", naming=Naming(template="{stem}"))


def test_the_output_folder_may_lie_inside_the_input_folder(shoot: Path) -> None:
    save_photo(shoot / "out/a.png", 8, 8)
    assert targets("shoot", output="shoot/out") == [f"shoot/out/{name}" for name in ("a.png", "b.png", "deep/er/c.png")]
    assert targets("shoot/deep", output="shoot") == ["shoot/er/c.png"]


@pytest.mark.parametrize(
    ("inputs", "output", "message"),
    [
        (["shoot/a.png", "other/a.png"], "out", "already to be written"),
        (["shoot"], "shoot", "replace an input"),
        (["shoot"], ".", None),
        (["shoot/a.png"], "shoot/a.png", "replace an input"),
        (["shoot/a.png"], "shoot", "replace an input"),
        (["shoot/a.png"], "linked", "replace an input"),
        (["shoot/a.png", "shoot/a-restored.png"], None, "replace an input"),
        (["shoot/d*/../a.png"], "out", None),
        (["shoot/d*/../../other/a.png"], "out", "outside of the output"),
    ],
)
def test_files_without_an_output_of_their_own_are_refused_one_by_one(
    shoot: Path, inputs: list[str], output: str | None, message: str | None
) -> None:
    for path in (shoot / "a-restored.png", Path("other/a.png")):
        save_photo(path, 8, 8)
    Path("linked").symlink_to("shoot")
    made = whole(*inputs, output=output)
    if message is None:
        assert made.refused == ()
        return
    assert {outcome.status for outcome in made.refused} == {"failed"}
    assert {outcome.reason for outcome in made.refused} == {"collision"}
    assert all(message in (outcome.error or "") for outcome in made.refused)
    assert len(made.jobs) + len(made.refused) == len(images.find(inputs).images)


def test_names_that_differ_in_case_are_told_apart_where_the_disk_can(
    shoot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one/a.png", "two/A.PNG", "two/caf\u00e9.png", "one/cafe\u0301.png"):
        save_photo(Path(name), 8, 8)
    inputs = ["one/a.png", "two/A.PNG", "one/cafe\u0301.png", "two/caf\u00e9.png"]
    if planning._takes_names_for_the_same(Path()):
        pytest.skip("this disk cannot")
    assert len(planned(*inputs, output="out")) == 4
    monkeypatch.setattr(planning, "_takes_names_for_the_same", lambda _: True)
    made = whole(*inputs, output="out")
    assert [job.source.name for job in made.jobs] == ["a.png", "cafe\u0301.png"]
    assert [outcome.path.name for outcome in made.refused] == ["A.PNG", "caf\u00e9.png"]
    # Names that do not collide are left alone, whatever the disk.
    assert len(planned("one", output="out")) == 2


def test_trying_a_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    planning._takes_names_for_the_same(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_a_file_is_refused_for_several_inputs(shoot: Path) -> None:
    save_photo(Path("other/a.png"), 8, 8)
    with pytest.raises(UsageError, match="3 files do not fit into one file"):
        planned("shoot", output="other/a.png")
    Path("other/notes").write_text("no folder")
    with pytest.raises(UsageError, match="a folder is needed"):
        planned("shoot", output="other/notes")


def test_the_name_of_a_file_is_no_output_for_several_photographs(shoot: Path) -> None:
    for inputs in (["shoot"], ["shoot/a.png", "shoot/b.png"]):
        with pytest.raises(UsageError, match=r"not fit into one file.*--format jpeg"):
            planned(*inputs, output="new.jpg")
    Path("new.jpg").mkdir()
    assert targets("shoot/a.png", "shoot/b.png", output="new.jpg") == ["new.jpg/a.png", "new.jpg/b.png"]


def test_only_the_suffix_of_an_input_that_is_only_read_is_changed(shoot: Path) -> None:
    """Dots in a name do not begin a suffix."""
    bmp = foreign_files()["24.bmp"]
    for name in ("IMG.20240101.120000", "photo.1", "photo.2", "a.b.bmp"):
        (shoot / name).write_bytes(bmp)
    named = {Path(each).name for each in targets("shoot", output="out")}
    assert {"IMG.20240101.120000.png", "photo.1.png", "photo.2.png", "a.b.png"} <= named


def test_a_name_that_is_too_long_is_planned_like_any_other(shoot: Path) -> None:
    save_photo(Path("y" * 250 + ".png"), 8, 8)
    assert len(planned("y" * 250 + ".png")) == 1


def test_the_root_folder_needs_an_explicit_output() -> None:
    with pytest.raises(UsageError, match="-o"):
        plan([images.Found(Path("/a.png"), Path("a.png"), Path("/"), in_folder=True)], ["/"], None)


def test_a_folder_in_a_list_file_equals_a_folder_argument(shoot: Path) -> None:
    Path("list.txt").write_text("shoot\n")
    assert planned("@list.txt") == planned("shoot")


def test_formats_that_are_only_read_are_written_as_png_or_tiff(shoot: Path) -> None:
    """The content decides: 8 bits become PNG, more become TIFF, and a file that cannot be read TIFF."""
    files = foreign_files()
    for name, kind in (
        ("a.bmp", "24.bmp"),
        ("b.jxl", "16.jxl"),
        ("c.jpg", "8.jp2"),
        ("e.avif", "8.avif"),
        ("d.heic", ""),
    ):
        (shoot / name).write_bytes(files[kind] if kind else b"\0\0\0\x18ftypheic" + bytes(40))
    for name in ("a.png", "b.png"):
        (shoot / name).unlink()
    made = planned("shoot", output="out")
    assert [(os.path.relpath(job.target), job.format) for job in made] == [
        ("out/a.png", "png"), ("out/b.tif", "tiff"), ("out/c.png", "png"), ("out/d.tif", "tiff"),
        ("out/e.avif", None), ("out/deep/er/c.png", None),
    ]  # fmt: skip
    assert targets("shoot/a.bmp") == ["shoot/a-restored.png"]
    assert targets("shoot/e.avif") == ["shoot/e-restored.avif"]
    assert [(os.path.relpath(job.target), job.format) for job in planned("shoot/c.jpg", output="mine.jpg")] == [
        ("mine.jpg", "jpeg")
    ]
    assert [(os.path.relpath(job.target), job.format) for job in planned("shoot/b.jxl", output="b.png")] == [
        ("b.png", "png")
    ]


def test_the_name_of_a_format_that_is_only_read_follows_the_bit_depth(shoot: Path) -> None:
    (shoot / "z.avif").write_bytes(foreign_files()["10.avif"])
    for asked, name in ((None, "z.avif"), (8, "z.avif"), (16, "z.tif")):
        assert targets("shoot/z.avif", output="out", naming=Naming(bit_depth=asked)) == [f"out/{name}"]


def test_two_inputs_whose_outputs_get_the_same_name_are_refused(shoot: Path) -> None:
    (shoot / "a.bmp").write_bytes(foreign_files()["24.bmp"])
    made = whole("shoot", output="out")
    assert len(made.jobs) == 3
    assert "is already to be written to" in str(made.refused[0].error)


@pytest.mark.parametrize("name", ["x.jp2", "x.HEIC", "x.dng", "x.bmp"])
def test_unsupported_output_formats_are_refused(name: str, shoot: Path) -> None:
    for inputs in (["shoot/a.png"], ["shoot"]):
        with pytest.raises(UsageError, match="is not written"):
            planned(*inputs, output=name)
    Path(name).mkdir()
    planned("shoot", output=name)


@pytest.mark.parametrize("name", ["b.png", "b.tif"])
def test_a_quality_is_refused_for_a_named_file_that_has_none(shoot: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"written without loss.*Leave out --quality.*\.jpg"):
        plan(images.find(["shoot/a.png"]).images, ["shoot/a.png"], name, Naming(quality=80))
    assert targets("shoot/a.png", output="b.jpg", naming=Naming(quality=80)) == ["b.jpg"]


def test_one_note_says_in_how_many_results_a_quality_changes_nothing(shoot: Path) -> None:
    (note,) = whole("shoot", output="out", naming=Naming(quality=80)).notes
    assert note == "--quality changes nothing: PNG is written without loss"
    for name in ("d.jpg", "e.tif"):
        PillowImage.new("RGB", (8, 8)).save(shoot / name)
    (note,) = whole("shoot", output="out", naming=Naming(quality=80)).notes
    assert note == "--quality changes nothing in 4 of 5 results: TIFF and PNG are written without loss"
    assert whole("shoot", output="out", naming=Naming("jpeg", quality=80)).notes == ()
    assert whole("shoot", output="out").notes == ()
