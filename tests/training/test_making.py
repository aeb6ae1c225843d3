"""Making pairs: deterministic for any order and workers, resumable, and never overwriting an input."""

import csv
import functools
import hashlib
import json
import os
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sanarestore import images
from sanarestore.degradations.pairs import read_pairs
from sanarestore.degradations.recipes import Recipe, stream
from sanarestore.errors import NoImagesError, UsageError
from sanarestore.images import Depth, Image, Metadata
from sanarestore.training.making import PairOutcome, make_pairs, originals

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


def make(folder: Path, output: Path, recipe: str = RECIPE, variants: int = 4, **options: object) -> list[PairOutcome]:
    found = images.find([str(folder)]).images
    return list(make_pairs(found, output, recipe=recipe, variants=variants, **options))  # type: ignore[arg-type]


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
    together = make(folder, tmp_path / "together", workers=2)
    found = images.find([str(folder)]).images
    list(make_pairs(found[::-1], tmp_path / "turned", recipe=RECIPE, variants=4))
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


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_run_is_finished_by_the_next(tmp_path: Path, workers: int) -> None:
    folder = shoot(tmp_path)
    make(folder, tmp_path / "whole")
    output = tmp_path / "out"
    with closing(
        make_pairs(images.find([str(folder)]).images, output, recipe=RECIPE, variants=4, workers=workers)
    ) as run:
        begun = [next(run) for _ in range(3)]
    assert [outcome.status for outcome in begun] == ["done"] * 3
    assert not (output / "pairs.csv").exists()
    with (output / "pairs.jsonl").open("ab") as journal:
        journal.write(b'{"recipe": "noise:25", "seed": 0, "sha')
    kept = (output / "pairs.jsonl").read_bytes().count(b"\n")
    statuses = [outcome.status for outcome in make(folder, output)]
    # Worker processes may have finished more than the three outcomes; those are kept as well.
    assert kept == 3 if workers == 1 else kept >= 4
    assert statuses.count("skipped") == kept
    assert statuses[:3] == ["skipped"] * 3
    assert made(output) == made(tmp_path / "whole")
    assert {outcome.status for outcome in make(folder, output)} == {"skipped"}, "the torn line does not affect others"


@pytest.mark.parametrize("line", [b"\xff\xfe\n", b"[]\n", b"5\n", b'{"version": 1}\n', b"{}", b"\n\n"])
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
    assert {outcome.status for outcome in make(folder, output, seed=9)} == {"done"}
    assert {outcome.status for outcome in make(folder, output)} == {"done"}, "the files on disk have seed 9"
    assert made(output) == whole
    assert [outcome.status for outcome in make(folder, output, variants=6)] == ["skipped"] * 4 + ["done"] * 2
    spaced = RECIPE.replace(",", " , ").upper()
    assert {outcome.status for outcome in make(folder, output, spaced, 6)} == {"skipped"}
    save(folder / "a.png", pixels_HWC=scene(seed=44))
    assert {outcome.status for outcome in make(folder, output)} == {"done"}


def test_fewer_variants_list_fewer_pairs(tmp_path: Path) -> None:
    folder, output = shoot(tmp_path, "a.png"), tmp_path / "out"
    make(folder, output)
    make(folder, output, variants=2)
    assert [row["variant"] for row in rows(output)] == ["0", "1"]


def test_one_unreadable_photo_does_not_stop_the_others(tmp_path: Path) -> None:
    folder, output = shoot(tmp_path, "a.png", "z.png"), tmp_path / "out"
    (folder / "m.png").write_bytes((folder / "a.png").read_bytes()[:200])
    outcomes = make(folder, output, variants=2)
    assert [outcome.status for outcome in outcomes] == ["done"] * 2 + ["failed"] * 2 + ["done"] * 2
    failed = outcomes[2]
    assert failed.path == folder / "m.png"
    assert failed.error is not None
    assert "m.png" in failed.error
    assert failed.files == ()
    assert [row["image_path"] for row in rows(output)] == ["../shoot/a.png"] * 2 + ["../shoot/z.png"] * 2
    assert not list(output.rglob("*m__*"))
    save(folder / "m.png")
    assert [outcome.status for outcome in make(folder, output, variants=2)][2:4] == ["done", "done"], (
        "a failed photo is tried again"
    )


def test_a_vanished_photo_does_not_stop_the_others(tmp_path: Path) -> None:
    folder, output = shoot(tmp_path, "a.png", "z.png"), tmp_path / "out"
    found = images.find([str(folder)]).images
    (folder / "a.png").unlink()
    outcomes = list(make_pairs(found, output, recipe="noise:5", variants=1))
    assert [outcome.status for outcome in outcomes] == ["failed", "done"]
    assert "a.png" in (outcomes[0].error or "")


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


def test_colliding_output_names_are_refused_before_any_work(tmp_path: Path) -> None:
    folder, output = shoot(tmp_path, "a.png", "b.png"), tmp_path / "out"
    save(folder / "B.tif", "uint8", format="tiff")
    with pytest.raises(UsageError, match="would write the same files as"):
        make(folder, output)
    one, other = save(tmp_path / "x" / "same.png"), save(tmp_path / "y" / "same.png")
    with pytest.raises(UsageError, match="same"):
        make_pairs(images.find([str(one), str(other)]).images, output)
    assert not output.exists()


def test_inputs_are_never_overwritten(tmp_path: Path) -> None:
    folder = shoot(tmp_path, "a.png")
    before = (folder / "a.png").read_bytes()
    make(folder, folder, variants=2)
    assert (folder / "a.png").read_bytes() == before
    found = images.find([str(folder)]).images
    assert len(found) == 3, "the pairs are now found among the inputs"
    assert [photo.path.name for photo in originals(found, folder)] == ["a.png"]
    with pytest.raises(UsageError, match="holds some of the photos"):
        make_pairs(found, folder, variants=2)
    with pytest.raises(UsageError, match="is one of the photos"):
        make_pairs(originals(found, folder), tmp_path / "out", pairs=folder / "a.png")


def test_invalid_arguments_are_refused_before_any_work(tmp_path: Path) -> None:
    found = images.find([str(shoot(tmp_path, "a.png"))]).images
    with pytest.raises(UsageError, match="fog"):
        make_pairs(found, tmp_path / "out", recipe="fog:3")
    with pytest.raises(UsageError, match="--variants"):
        make_pairs(found, tmp_path / "out", variants=0)
    with pytest.raises(UsageError, match="--workers"):
        make_pairs(found, tmp_path / "out", workers=0)
    with pytest.raises(NoImagesError):
        make_pairs((), tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be made a folder"):
        make_pairs(found, tmp_path / "file" / "out")


def test_pairs_csv_can_be_written_to_another_folder(tmp_path: Path) -> None:
    folder, output = shoot(tmp_path, "a.png"), tmp_path / "out"
    make(folder, output, variants=2, pairs=tmp_path / "lists" / "all.csv")
    assert not (output / "pairs.csv").exists()
    assert [pair.target.resolve() for pair in read_pairs(tmp_path / "lists" / "all.csv")] == [folder / "a.png"] * 2


def test_outcomes_are_yielded_one_by_one(tmp_path: Path) -> None:
    folder, output = shoot(tmp_path), tmp_path / "out"
    run = make_pairs(images.find([str(folder)]).images, output, recipe=RECIPE, variants=4)
    assert not list(output.rglob("*.png")), "no pair is made before the first outcome is requested"
    with closing(run):
        next(run)
        assert len(list(output.rglob("*.png"))) == 1


def test_an_outcome_converts_to_json(tmp_path: Path) -> None:
    outcome = make(shoot(tmp_path, "a.png"), tmp_path / "out", variants=1)[0]
    line = json.loads(json.dumps(outcome.to_json()))
    assert line["status"] == "done"
    assert line["files"] == [str(tmp_path / "out" / "degraded" / "a__v00.png")]
    assert outcome.megapixels == pytest.approx(21 * 33 / 1e6)
    assert outcome.seconds > 0


def test_making_pairs_does_not_import_torch() -> None:
    check = "import sys, sanarestore.training.making; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
