"""Making pairs: deterministic for any order and workers, resumable, and nothing of others is replaced."""

import csv
import errno
import functools
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from sanarestore import images
from sanarestore.degradations.pairs import read_pairs
from sanarestore.degradations.recipes import Recipe, stream
from sanarestore.engine import workers
from sanarestore.engine.lock import Lock
from sanarestore.errors import DiskFull, NoImagesError, UsageError
from sanarestore.files import write_atomically
from sanarestore.images import Depth, Image, Metadata
from sanarestore.training import making
from sanarestore.training.making import PairBatch
from sanarestore.training.variants import PairMaker, PairOutcome, PhotoJob

RECIPE = "noise:25,jpeg:20,selective,blur:1-2+noise:5"


def scene(height: int = 21, width: int = 33, channels: int = 3, seed: int = 0) -> np.ndarray:
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(channels), indexing="ij")
    smooth = 0.5 + 0.3 * np.sin(x / 6 + c + seed) * np.cos(y / 5) + 0.1 * np.sin(1.9 * x + y)
    return smooth.astype(np.float32)


def save(path: Path, depth: Depth = "uint8", **fields: object) -> Path:
    image = Image(pixels_HWC=scene(seed=len(path.name)), depth=depth, format="tiff" if depth == "float32" else "png")
    images.write(replace(image, **fields), path)  # type: ignore[arg-type]
    return path


def shoot(tmp_path: Path, *names: str) -> Path:
    folder = tmp_path / "shoot"
    for name in names or ("b.png", "a.png", "sub/a.png"):
        save(folder / name)
    return folder


def batch(folder: Path, output: Path, recipe: str = RECIPE, variants: int = 4, **options: Any) -> PairBatch:
    return PairBatch(images.find([folder]), output, recipe=recipe, variants=variants, **options)


def make(folder: Path, output: Path, *line: Any, processes: int = 1, **options: Any) -> list[PairOutcome]:
    """Make pairs; return the outcomes in order of photo and variant."""
    outcomes = batch(folder, output, *line, **options).run(processes)
    return sorted(outcomes, key=lambda outcome: (outcome.source.relative_to(folder).as_posix(), outcome.variant or 0))


def made(output: Path) -> dict[str, str]:
    """Hash every file in the output folder except the journal."""
    return {
        file.relative_to(output).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(output.rglob("*"))
        if file.is_file() and file.suffix != ".jsonl"
    }


def rows(output: Path) -> list[dict[str, str]]:
    with (output / "pairs.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_pairs_follow_the_recipe_and_the_stream_of_the_photo(tmp_path: Path) -> None:
    folder, output = shoot(tmp_path, "a.png"), tmp_path / "out"
    outcomes = make(folder, output, seed=5)
    sha256 = hashlib.sha256((folder / "a.png").read_bytes()).hexdigest()
    clean = images.read(folder / "a.png").pixels_HWC
    assert [outcome.variant for outcome in outcomes] == [0, 1, 2, 3]
    for outcome in outcomes:
        plan = Recipe.parse(RECIPE).draw(stream(5, sha256, outcome.variant), outcome.variant)
        assert (outcome.status, outcome.label, outcome.prompt) == ("done", plan.label, plan.prompt)
        assert outcome.sha256 == sha256
        wanted = [plan.degraded(clean)] + ([plan.target(clean)] if plan.kept else [])
        for file, pixels in zip(outcome.files, wanted, strict=True):
            assert np.array_equal(images.from_float(images.read(file).pixels_HWC, "uint8"), codes(pixels))


def codes(pixels: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(pixels, 0, 1) * np.float32(255)).astype(np.uint8)


def test_files_and_pairs_csv_mirror_the_input_tree(tmp_path: Path) -> None:
    folder, output = shoot(tmp_path), tmp_path / "out"
    outcomes = make(folder, output)
    names = ["a", "b", "sub/a"]
    degraded = [f"degraded/{name}__v{variant:02d}.png" for name in names for variant in range(4)]
    assert [row["condition_image_path"] for row in rows(output)] == degraded
    for row, outcome in zip(rows(output), outcomes, strict=True):
        place, variant = outcome.source.relative_to(folder), outcome.variant
        selective = f"target/{place.with_suffix('').as_posix()}__v{variant:02d}.png"
        assert row["image_path"] == (selective if variant == 2 else f"../shoot/{place.as_posix()}")
        assert (row["caption"], row["label"]) == (outcome.prompt, outcome.label)
        assert (row["variant"], row["sha256"]) == (str(variant), outcome.sha256)
    targets = [f"target/{name}__v02.png" for name in names]
    assert sorted(made(output)) == sorted([*degraded, *targets, "pairs.csv"])
    assert len(read_pairs(output / "pairs.csv")) == 12


def test_an_unprompted_dark_pair_has_its_own_dark_target(tmp_path: Path) -> None:
    folder, output = shoot(tmp_path, "a.png"), tmp_path / "out"
    clean = images.read(folder / "a.png").pixels_HWC
    outcomes = make(folder, output, "lowlight:2", 12)
    unprompted = [outcome for outcome in outcomes if len(outcome.files) == 2]
    assert 0 < len(unprompted) < 12
    for outcome in unprompted:
        degraded, target = (images.read(file).pixels_HWC for file in outcome.files)
        assert target.mean() == pytest.approx(degraded.mean(), rel=0.05)
        assert target.mean() < 0.7 * clean.mean()
    listed = {row["variant"]: row["image_path"] for row in rows(output)}
    for outcome in outcomes:
        own = f"target/a__v{outcome.variant:02d}.png"
        assert listed[str(outcome.variant)] == (own if outcome in unprompted else "../shoot/a.png")


def test_workers_and_order_do_not_change_the_files(tmp_path: Path) -> None:
    folder = shoot(tmp_path)
    save(folder / "sub" / "deep.png", "uint16")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    alone = make(folder, tmp_path / "alone")
    together = make(folder, tmp_path / "together", processes=2)
    found = images.find([folder])
    turned = replace(found, images=found.images[::-1])
    list(PairBatch(turned, tmp_path / "turned", recipe=RECIPE, variants=4).run())
    assert made(tmp_path / "alone") == made(tmp_path / "together") == made(tmp_path / "turned")
    assert [(o.source, o.variant, o.status) for o in alone] == [(o.source, o.variant, o.status) for o in together]


def test_noise_depends_on_seed_and_content_but_not_on_the_name(tmp_path: Path) -> None:
    folder = shoot(tmp_path, "a.png")
    (folder / "copy.png").write_bytes((folder / "a.png").read_bytes())
    make(folder, tmp_path / "zero", "noise:25", 1)
    make(folder, tmp_path / "one", "noise:25", 1, seed=1)
    zero, one = made(tmp_path / "zero"), made(tmp_path / "one")
    assert zero["degraded/a__v00.png"] == zero["degraded/copy__v00.png"]
    assert zero["degraded/a__v00.png"] != one["degraded/a__v00.png"]


def test_a_repeated_run_skips_everything(tmp_path: Path) -> None:
    folder, output = shoot(tmp_path), tmp_path / "out"
    first = make(folder, output)
    before, stamps = made(output), [file.stat().st_mtime_ns for file in sorted((output / "degraded").rglob("*.png"))]
    repeated = make(folder, output)
    assert {outcome.status for outcome in repeated} == {"skipped"}
    assert [(o.files, o.label, o.prompt) for o in repeated] == [(o.files, o.label, o.prompt) for o in first]
    assert made(output) == before
    assert [file.stat().st_mtime_ns for file in sorted((output / "degraded").rglob("*.png"))] == stamps


@pytest.mark.parametrize("processes", [1, 2])
def test_an_interrupted_run_is_finished_by_the_next(tmp_path: Path, processes: int) -> None:
    folder = shoot(tmp_path)
    make(folder, tmp_path / "whole")
    output = tmp_path / "out"
    with closing(batch(folder, output).run(processes)) as run:
        begun = [next(run) for _ in range(3)]
    assert [outcome.status for outcome in begun] == ["done"] * 3
    assert not (output / "pairs.csv").exists()
    assert not list(output.rglob(".*")), "no temporary file and no lock is left"
    with (output / "pairs.jsonl").open("ab") as journal:
        journal.write(b'{"recipe": "noise:25", "seed": 0, "sha')
    outcomes = make(folder, output)
    skipped = {(outcome.source, outcome.variant) for outcome in outcomes if outcome.status == "skipped"}
    assert skipped == {(outcome.source, outcome.variant) for outcome in begun}
    assert made(output) == made(tmp_path / "whole")
    assert {outcome.status for outcome in make(folder, output)} == {"skipped"}, "the torn line does not affect others"


FOREIGN = [
    json.dumps(
        {"recipe": "", "seed": 0, "sha256": "", "variant": 0, "label": "", "prompt": "", "files": files}
    ).encode()
    for files in (5, [1], {"/": 1}, {"a": "b"})
]
"""Lines with the fields of a record and values of the wrong kind."""


@pytest.mark.parametrize("line", [b"\xff\xfe\n", b"[]\n", b"5\n", b'{"version": 1}\n', b"{}", b"\n\n", *FOREIGN])
def test_invalid_lines_in_the_journal_are_ignored(tmp_path: Path, line: bytes) -> None:
    folder, output = shoot(tmp_path, "a.png"), tmp_path / "out"
    make(folder, output)
    with (output / "pairs.jsonl").open("ab") as journal:
        journal.write(line)
    assert {outcome.status for outcome in make(folder, output)} == {"skipped"}


def test_missing_damaged_or_changed_pairs_are_made_again(tmp_path: Path) -> None:
    folder, output = shoot(tmp_path, "a.png"), tmp_path / "out"
    make(folder, output)
    whole = made(output)
    (output / "degraded" / "a__v00.png").unlink()
    (output / "target" / "a__v02.png").write_bytes(b"cut")
    assert [outcome.status for outcome in make(folder, output)] == ["done", "skipped", "done", "skipped"]
    assert made(output) == whole
    spaced = RECIPE.replace(",", " , ").upper()
    assert {outcome.status for outcome in make(folder, output, spaced)} == {"skipped"}
    save(folder / "a.png", pixels_HWC=scene(seed=44))
    assert {outcome.status for outcome in make(folder, output)} == {"done"}


def test_one_unreadable_photo_does_not_stop_the_others(tmp_path: Path) -> None:
    folder, output = shoot(tmp_path, "a.png", "z.png"), tmp_path / "out"
    (folder / "m.png").write_bytes((folder / "a.png").read_bytes()[:200])
    outcomes = make(folder, output, variants=2)
    assert [outcome.status for outcome in outcomes] == ["done"] * 2 + ["failed"] * 2 + ["done"] * 2
    failed = outcomes[2]
    assert failed.path == folder / "m.png"
    assert failed.reason == "damaged"
    assert failed.error is not None
    assert "m.png" in failed.error
    assert "--accept-damaged" not in failed.error
    assert failed.files == ()
    assert [row["image_path"] for row in rows(output)] == ["../shoot/a.png"] * 2 + ["../shoot/z.png"] * 2
    assert not list(output.rglob("*m__*"))
    save(folder / "m.png")
    assert [outcome.status for outcome in make(folder, output, variants=2)][2:4] == ["done", "done"], (
        "a failed photo is tried again"
    )


def test_a_vanished_photo_does_not_stop_the_others(tmp_path: Path) -> None:
    folder, output = shoot(tmp_path, "a.png", "z.png"), tmp_path / "out"
    planned = batch(folder, output, "noise:5", 1)
    (folder / "a.png").unlink()
    outcomes = list(planned.run())
    assert [(outcome.status, outcome.reason) for outcome in outcomes] == [("failed", "missing"), ("done", None)]
    assert "a.png" in (outcomes[0].error or "")


def test_every_file_has_an_outcome(tmp_path: Path) -> None:
    folder, output = shoot(tmp_path, "a.png"), tmp_path / "out"
    (folder / "notes.txt").write_text("nothing to degrade")
    (folder / "empty.jpg").write_bytes(b"")
    planned = batch(folder, output, variants=2)
    assert planned.total == 3
    assert [(o.path.name, o.variant, o.status, o.reason) for o in planned.run()] == [
        ("notes.txt", None, "ignored", "other"), ("empty.jpg", None, "failed", "unreadable"),
        ("a.png", 0, "done", None), ("a.png", 1, "done", None),
    ]  # fmt: skip
    (folder / "a.png").unlink()
    assert [outcome.status for outcome in batch(folder, tmp_path / "none").run()] == ["ignored", "failed"]
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("depth", ["uint8", "uint16", "float32"])
def test_depth_alpha_and_metadata_are_kept(tmp_path: Path, depth: Depth) -> None:
    folder, output = tmp_path / "shoot", tmp_path / "out"
    alpha = np.arange(21 * 33).reshape(21, 33).astype(depth)
    save(folder / "a.image", depth, alpha_HW=alpha, metadata=Metadata(icc=profile(), xmp=b"<x:xmpmeta/>"))
    clean = images.read(folder / "a.image")
    first, second = make(folder, output, "noise:10,jpeg:30", 2)
    assert first.files[0].name == ("a__v00.tif" if depth == "float32" else "a__v00.png")
    degraded = images.read(first.files[0])
    assert degraded.depth == clean.depth == depth
    assert degraded.metadata.icc == clean.metadata.icc == profile()
    assert degraded.metadata.xmp == clean.metadata.xmp
    assert degraded.alpha_HW is not None
    assert np.array_equal(degraded.alpha_HW, alpha)
    noise = (degraded.pixels_HWC - clean.pixels_HWC) * 255
    assert noise.std() == pytest.approx(10, rel=0.1)
    if depth != "uint8":
        assert np.abs(noise - np.rint(noise)).max() > 0.2, "the noise is not rounded to 8 bits"
        assert "WebP hold 8 bits" in second.notes[0]
    assert not first.notes
    assert (depth == "uint8") == (not second.notes)


@functools.cache
def profile() -> bytes:
    """Make a profile once, because it contains its creation time."""
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def test_gray_stays_gray_and_tiny_photos_work(tmp_path: Path) -> None:
    folder, output = tmp_path / "shoot", tmp_path / "out"
    save(folder / "gray.png", pixels_HWC=scene(channels=1))
    save(folder / "dot.png", pixels_HWC=scene(1, 1))
    save(folder / "line.png", pixels_HWC=scene(1, 7))
    outcomes = make(folder, output, "everything", 8)
    assert {outcome.status for outcome in outcomes} == {"done"}
    for outcome in outcomes:
        assert images.read(outcome.files[0]).pixels_HWC.shape == images.read(outcome.source).pixels_HWC.shape


def test_file_names_in_any_script_work(tmp_path: Path) -> None:
    folder, output = shoot(tmp_path, "Zürich, 'alt'/日本 写真.v2.png", "emoji 🙂.png"), tmp_path / "ausgabe ü"
    make(folder, output, variants=3)
    pairs = read_pairs(output / "pairs.csv")
    assert len(pairs) == 6
    assert {pair.degraded.name for pair in pairs} >= {"日本 写真.v2__v00.png", "emoji 🙂__v02.png"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_only_the_file_with_an_undecodable_name_fails(tmp_path: Path) -> None:
    folder = shoot(tmp_path, "a.png", os.fsdecode(b"\xff.png"))
    assert [outcome.status for outcome in make(folder, tmp_path / "out", variants=1)] == ["done", "failed"]
    assert len(read_pairs(tmp_path / "out" / "pairs.csv")) == 1


def test_photos_whose_names_differ_only_in_the_suffix_are_told_apart(tmp_path: Path) -> None:
    folder, output = shoot(tmp_path, "a.png", "b.png"), tmp_path / "out"
    save(folder / "B.tif", "uint8", format="tiff")
    assert {outcome.status for outcome in make(folder, output, "noise:25", 1)} == {"done"}
    assert [row["condition_image_path"] for row in rows(output)] == [
        "degraded/B__v00.png", "degraded/a__v00.png", "degraded/b.png__v00.png",
    ]  # fmt: skip
    assert [pair.target.name for pair in read_pairs(output / "pairs.csv")] == ["B.tif", "a.png", "b.png"]
    assert {outcome.status for outcome in make(folder, output, "noise:25", 1)} == {"skipped"}


def test_photos_without_a_name_of_their_own_are_refused_one_by_one(tmp_path: Path) -> None:
    output = tmp_path / "out"
    for name in ("x/same.png", "y/same.png", "y/other.png"):
        save(tmp_path / name)
    work = PairBatch(images.find([tmp_path / "y", tmp_path / "x"]), output, recipe="noise:25", variants=2)
    outcomes = list(work.run())
    assert work.total == len(outcomes) == 5
    (refused,) = (outcome for outcome in outcomes if outcome.status != "done")
    assert (refused.source, refused.status, refused.reason) == (tmp_path / "y" / "same.png", "failed", "collision")
    assert f"would write the same files as {tmp_path / 'x' / 'same.png'}" in str(refused.error)
    assert sorted({pair.target.parent.name for pair in read_pairs(output / "pairs.csv")}) == ["x", "y"]


def test_inputs_are_never_overwritten(tmp_path: Path) -> None:
    folder = shoot(tmp_path, "a.png")
    before = (folder / "a.png").read_bytes()
    make(folder, folder, variants=2)
    assert (folder / "a.png").read_bytes() == before
    save(tmp_path / "mine" / "degraded" / "a.png")
    with pytest.raises(UsageError, match="holds some of the photos"):
        batch(tmp_path / "mine", tmp_path / "mine")
    with pytest.raises(UsageError, match="is one of the photos"):
        batch(folder, tmp_path / "out", pairs=folder / "a.png")


def test_pairs_of_earlier_runs_are_no_photos(tmp_path: Path) -> None:
    folder = shoot(tmp_path, "a.png")
    make(folder, folder, variants=2)
    make(folder, folder / "earlier", "selective", 1)
    for output in (folder, tmp_path / "out"):
        planned = batch(folder, output, variants=2)
        assert [photo.path.name for photo in planned.photos] == ["a.png"]
        assert {outcome.path.relative_to(folder).as_posix() for outcome in planned.ignored} >= {
            "degraded/a__v00.png", "degraded/a__v01.png", "earlier/degraded/a__v00.png", "earlier/target/a__v00.png",
        }  # fmt: skip
        assert {outcome.reason for outcome in planned.ignored} == {"ours", "other"}
        assert {outcome.status for outcome in planned.run()} == {"ignored", "skipped" if output == folder else "done"}
    assert len(batch(folder / "degraded", tmp_path / "again").photos) == 2, "their own folder was named"
    with pytest.raises(NoImagesError, match="an earlier run made it"):
        batch(folder / "degraded", folder)


@pytest.mark.parametrize("other", [{"recipe": "noise:25"}, {"seed": 9}, {"variants": 2}, {"variants": 6}])
def test_a_list_is_not_replaced_by_another(tmp_path: Path, other: dict[str, Any]) -> None:
    folder, output = shoot(tmp_path, "a.png"), tmp_path / "out"
    make(folder, output)
    before = made(output)
    with pytest.raises(UsageError, match=r"would be replaced\. Name another output"):
        make(folder, output, **other)
    assert made(output) == before
    if "variants" in other:
        statuses = [outcome.status for outcome in make(folder, output, pairs=tmp_path / "other.csv", **other)]
        assert statuses == (["skipped"] * 4 + ["done"] * 2)[: other["variants"]]
    else:
        with pytest.raises(UsageError, match=r"would be replaced\. Name another output"):
            make(folder, output, pairs=tmp_path / "other.csv", **other)
    assert {name: made(output)[name] for name in before} == before


def test_the_recipe_that_is_there_is_named(tmp_path: Path) -> None:
    folder, output = shoot(tmp_path, "a.png"), tmp_path / "out"
    make(folder, output, "everything", 2, seed=3)
    with pytest.raises(UsageError, match="pairs of the recipe everything with seed 3"):
        make(folder, output, variants=2)
    # Other photos would replace no pair, but they would replace the list.
    others = tmp_path / "others"
    save(others / "b.png")
    with pytest.raises(UsageError, match=r"pairs.csv: lists pairs of the recipe everything.*--pairs"):
        make(others, output, variants=2)
    make(others, output, variants=2, pairs=output / "others.csv")
    assert len(read_pairs(output / "others.csv")) == 2
    make(folder, output, "Everything ", 2, seed=3)


def test_lists_of_others_are_not_replaced(tmp_path: Path) -> None:
    folder, output = shoot(tmp_path, "a.png"), tmp_path / "out"
    make(folder, output)
    for name, content in (("notes.csv", b"a,b\n1,2\n"), ("binary.csv", b"\xff\xfe\0"), ("line.txt", b"one line\n")):
        listed = tmp_path / name
        listed.write_bytes(content)
        with pytest.raises(UsageError, match="is not a list of pairs"):
            make(folder, output, pairs=listed)
        assert listed.read_bytes() == content
    with pytest.raises(UsageError, match="not known to be of this output"):
        make(folder, tmp_path / "other", pairs=output / "pairs.csv")


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    folder, output = shoot(tmp_path, "a.png"), tmp_path / "out"
    with (
        Lock(output),
        pytest.raises(UsageError, match=r"another run is writing.* or name another output"),
    ):
        make(folder, output)


def test_invalid_arguments_are_refused_before_any_work(tmp_path: Path) -> None:
    folder = shoot(tmp_path, "a.png")
    with pytest.raises(UsageError, match="fog"):
        batch(folder, tmp_path / "out", "fog:3")
    with pytest.raises(UsageError, match="--variants"):
        batch(folder, tmp_path / "out", variants=0)
    with pytest.raises(UsageError, match="--workers"):
        make(folder, tmp_path / "out", processes=0)
    with pytest.raises(UsageError, match="no such file or folder"):
        batch(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoImagesError):
        batch(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be made a folder"):
        make(folder, tmp_path / "file" / "out")


def test_pairs_csv_can_be_written_to_another_folder(tmp_path: Path) -> None:
    folder, output = shoot(tmp_path, "a.png"), tmp_path / "out"
    make(folder, output, variants=2, pairs=tmp_path / "lists" / "all.csv")
    assert not (output / "pairs.csv").exists()
    assert [pair.target.resolve() for pair in read_pairs(tmp_path / "lists" / "all.csv")] == [folder / "a.png"] * 2


def test_outcomes_are_yielded_one_by_one(tmp_path: Path) -> None:
    folder, output = shoot(tmp_path), tmp_path / "out"
    run = batch(folder, output).run()
    assert not output.exists(), "no pair is made before the first outcome is requested"
    with closing(run):
        first = next(run)
        assert [file.is_file() for file in first.files] == [True]
        assert not (output / "degraded" / "sub").exists(), "the last photo is not begun"


def test_an_outcome_converts_to_json(tmp_path: Path) -> None:
    outcome = make(shoot(tmp_path, "a.png"), tmp_path / "out", variants=1)[0]
    line = json.loads(json.dumps(outcome.to_json()))
    assert line["status"] == "done"
    assert line["files"] == [str(tmp_path / "out" / "degraded" / "a__v00.png")]
    assert outcome.megapixels == pytest.approx(21 * 33 / 1e6)
    assert outcome.seconds > 0


def test_making_pairs_does_not_import_torch() -> None:
    heavy = "[name for name in ('torch', 'transformers', 'diffusers', 'scipy') if name in sys.modules]"
    code = f"import sys, sanarestore.training.making; print({heavy})"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


@contextmanager
def full(target: Path) -> Generator[BinaryIO, None, None]:
    """Take the place of `write_atomically` on a disk that is full from the third variant of the second photo on."""
    if target.name == "b__v02.png":
        raise OSError(errno.ENOSPC, "No space left on device")
    with write_atomically(target) as file:
        yield file


def test_a_full_disk_stops_the_run_and_it_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, output = shoot(tmp_path), tmp_path / "out"
    with monkeypatch.context() as filled:
        filled.setattr("sanarestore.training.variants.write_atomically", full)
        with pytest.raises(DiskFull, match=r"b__v02.png: the disk is full. Free some space"):
            make(folder, output)
    assert not (output / "pairs.csv").exists()
    assert not list(output.rglob(".*"))
    assert [outcome.status for outcome in make(folder, output)] == ["skipped"] * 6 + ["done"] * 6
    make(folder, tmp_path / "whole")
    assert made(output) == made(tmp_path / "whole")


class Dying(PairMaker):
    """Dies with some photos: always with `killer.png`, once with `once.png`; `slow.png` takes long."""

    def work(self, job: PhotoJob, read: Any) -> Generator[PairOutcome, None, None]:
        mark = job.settings.output / "died"
        for outcome in super().work(job, read):
            if job.name == "slow":
                (job.settings.output / "degraded" / ".sanarestore-half.tmp").touch()
                time.sleep(100)
            if outcome.variant == 1 and (job.name == "killer" or (job.name == "once" and not mark.exists())):
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield outcome


def dying(_device: str) -> Callable[[], PairMaker]:
    return Dying


@pytest.fixture
def deaths(processes: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real worker processes, which find this module."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setattr(making, "_build", dying)


@pytest.mark.usefixtures("deaths")
@pytest.mark.parametrize("processes", [1, 2])
def test_a_photo_that_kills_its_worker_fails_alone(tmp_path: Path, processes: int) -> None:
    folder, output = shoot(tmp_path, "a.png", "killer.png", "once.png", "z.png"), tmp_path / "out"
    outcomes = make(folder, output, processes=processes)
    assert [(outcome.source.name, outcome.status, outcome.reason) for outcome in outcomes] == [
        *[("a.png", "done", None)] * 4,
        *[("killer.png", "done", None)] + [("killer.png", "failed", "crashed")] * 3,
        *[("once.png", "done", None)] * 4,
        *[("z.png", "done", None)] * 4,
    ]  # fmt: skip
    assert "Use fewer --workers" in str(outcomes[5].error)
    assert [row["variant"] for row in rows(output)] == [*"0123", "0", *"0123", *"0123"]
    assert len((output / "pairs.jsonl").read_bytes().splitlines()) == 13, "no pair is made twice"


@pytest.mark.usefixtures("deaths")
def test_closing_early_ends_the_workers_at_once(tmp_path: Path) -> None:
    folder, output = shoot(tmp_path, "a.png", "slow.png"), tmp_path / "out"
    run = batch(folder, output).run()
    assert [next(run).status for _ in range(4)] == ["done"] * 4
    while not (output / "degraded" / ".sanarestore-half.tmp").exists():
        time.sleep(0.05)
    begun = time.monotonic()
    run.close()
    assert time.monotonic() - begun < workers.GRACE
    assert not list(output.rglob(".*"))


def test_unguarded_scripts_make_pairs_and_a_killed_run_leaves_nothing(tmp_path: Path, processes: None) -> None:
    folder, output = shoot(tmp_path, *(f"{number}.png" for number in range(9))), tmp_path / "out"
    program = textwrap.dedent(f"""
        from pathlib import Path
        from sanarestore import images
        from sanarestore.training.making import PairBatch
        for outcome in PairBatch(images.find([{str(folder)!r}]), Path({str(output)!r}), recipe="noise:5").run(2):
            print(outcome.status, flush=True)
    """)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as script:
        assert script.stdout is not None
        assert script.stdout.readline() == "done\n"
        script.kill()
    (output / "degraded" / ".sanarestore-half.tmp").touch()
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert (ended.stdout.count("\n"), ended.stderr) == (72, "")
    assert ended.stdout.count("skipped") >= 1
    assert not list(output.rglob(".*"))
