"""Tests of whole files: images keep all they carry, and a bad file fails alone."""

import weakref
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import torch
from PIL import Image as PillowImage
from PIL import ImageCms

from sanarestore import __version__, images
from sanarestore.engine.file_restorer import FileRestorer
from sanarestore.engine.jobs import Job, Outcome, TileDone
from sanarestore.engine.restorer import Restorer
from sanarestore.errors import DiskFull, OutOfMemory
from sanarestore.files import temporary_beside
from sanarestore.images.image import to_stored
from sanarestore.model.loading import RestorationModel
from sanarestore.options import OutputFormat, RestoreOptions, WriteOptions
from tests.conftest import photo, save_photo
from tests.engine.test_restorer import ran, short_of_memory, unread
from tests.images.foreign_files import foreign_files

METADATA = images.Metadata(icc=None, xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>", dpi=(300.0, 300.0))


def image_of(pixels_HWC: npt.NDArray[np.float32], depth: images.Depth = "float32", **fields: Any) -> images.Image:
    return images.Image(pixels_HWC=pixels_HWC, depth=depth, format="tiff", **fields)


def restored(model: RestorationModel, *jobs: Job, **chosen: Any) -> tuple[list[Outcome], list[TileDone]]:
    """Restore files and give the results their names, as a batch does; return outcomes and progress."""
    return through(FileRestorer(Restorer(RestoreOptions(**chosen), device="cpu", model=model)), *jobs)


def finish(steps: Generator[TileDone, None, Any], parts: list[TileDone] | None = None) -> Any:
    """Run all steps; return what the generator returns."""
    while True:
        try:
            part = next(steps)
        except StopIteration as done:
            return done.value
        if parts is not None:
            parts.append(part)


def through(task: FileRestorer, *jobs: Job) -> tuple[list[Outcome], list[TileDone]]:
    outcomes: list[Outcome] = []
    parts: list[TileDone] = []
    for job in jobs:
        job = replace(job, temporary=temporary_beside(job.target))
        try:
            worked = finish(task.work(job, task.read(job)), parts)
            outcomes.append(task.write(job, worked, 0.5))
            assert job.temporary is not None
            job.temporary.replace(job.target)
        except Exception as error:
            outcomes.append(task.fail(job, error, 0.5))
    return outcomes, parts


def test_a_16_bit_tiff_keeps_its_depth_alpha_and_metadata(tmp_path: Path, tiny_model: RestorationModel) -> None:
    alpha = (photo(40, 50, seed=2)[..., 0] * 65535).astype(np.uint16)
    image = image_of(photo(40, 50), "uint16", alpha_HW=alpha, metadata=METADATA)
    images.write(image, tmp_path / "a.tif")
    outcomes, _ = restored(tiny_model, Job(source=tmp_path / "a.tif", target=tmp_path / "out/a.tif"))
    assert outcomes[0].status == "done"
    reread = images.read(tmp_path / "out/a.tif")
    assert (reread.depth, reread.format) == ("uint16", "tiff")
    assert (reread.metadata.xmp, reread.metadata.dpi) == (METADATA.xmp, METADATA.dpi)
    assert reread.alpha_HW is not None
    assert np.array_equal(reread.alpha_HW, alpha)
    expected = ran(tiny_model, images.read(tmp_path / "a.tif"))
    assert np.array_equal(to_stored(reread), to_stored(expected))
    assert not np.array_equal(to_stored(reread), to_stored(image))


def test_a_gray_file_stays_gray(tmp_path: Path, tiny_model: RestorationModel) -> None:
    images.write(image_of(photo(40, 50)[..., :1], "uint8"), tmp_path / "a.tif")
    restored(tiny_model, Job(source=tmp_path / "a.tif", target=tmp_path / "b.tif"))
    assert images.read(tmp_path / "b.tif").pixels_HWC.shape == (40, 50, 1)


def test_the_output_may_have_another_format(tmp_path: Path, tiny_model: RestorationModel) -> None:
    job = Job(source=save_photo(tmp_path / "a.png"), target=tmp_path / "a.tif", format="tiff")
    assert restored(tiny_model, job)[0][0].status == "done"
    assert images.read(tmp_path / "a.tif").format == "tiff"


def test_bad_files_do_not_stop_the_others(tmp_path: Path, tiny_model: RestorationModel) -> None:
    good = save_photo(tmp_path / "good.png")
    cut = tmp_path / "cut.png"
    cut.write_bytes(good.read_bytes()[:200])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "wall").write_text("a file where a folder is needed")
    sources = [cut, tmp_path / "text.png", tmp_path / "missing.png", good]
    jobs = [Job(source=source, target=tmp_path / "out" / source.name) for source in sources]
    jobs.insert(3, Job(source=good, target=tmp_path / "wall" / "good.png"))
    outcomes, _ = restored(tiny_model, *jobs)
    assert [outcome.status for outcome in outcomes] == ["failed"] * 4 + ["done"]
    reasons = ["damaged", "unreadable", "missing", "unwritable", None]
    assert [outcome.reason for outcome in outcomes] == reasons
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.png"]
    for job, outcome in zip(jobs, outcomes, strict=True):
        assert outcome.path == job.source
        assert outcome.output == (job.target if outcome.status == "done" else None)
        assert outcome.error is None or str(job.source) in outcome.error or str(job.target) in outcome.error


@pytest.mark.parametrize(
    ("error", "reason", "message"),
    [
        (KeyError("surprise"), "error", "unexpected KeyError: 'surprise'"),
        (MemoryError(), "memory", "does not fit into memory"),
        (OutOfMemory("out of memory on cpu"), "memory", "out of memory on cpu"),
    ],
)
def test_an_unexpected_error_in_one_file_does_not_stop_the_next(
    error: Exception,
    reason: str,
    message: str,
    tmp_path: Path,
    tiny_model: RestorationModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = (save_photo(tmp_path / name) for name in ("first.png", "second.png"))
    encode = images.encode
    errors = iter([error])

    def failing(*arguments: Any) -> bytes:
        for each in errors:
            raise each
        return encode(*arguments)

    monkeypatch.setattr(images, "encode", failing)
    jobs = [Job(source=source, target=tmp_path / "out" / source.name) for source in (first, second)]
    outcomes, _ = restored(tiny_model, *jobs)
    assert [outcome.status for outcome in outcomes] == ["failed", "done"]
    assert outcomes[0].error is not None
    assert outcomes[0].error.startswith(f"{first}: ")
    assert message in outcomes[0].error
    assert outcomes[0].reason == reason
    assert ("Traceback" in outcomes[0].trace) == isinstance(error, KeyError)
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_full_disk_is_an_error_of_its_own(
    tmp_path: Path, tiny_model: RestorationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _data: bytes) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sanarestore.engine.file_restorer.write_new", full)
    job = Job(source=save_photo(tmp_path / "a.png"), target=tmp_path / "b.png", temporary=tmp_path / ".b.tmp")
    task = FileRestorer(Restorer(RestoreOptions(), device="cpu", model=tiny_model))
    steps = task.work(job, task.read(job))
    worked = finish(steps)
    with pytest.raises(DiskFull, match="Free some space"):
        task.write(job, worked, 0)


def test_a_file_that_a_worker_died_with_gets_smaller_tiles(tmp_path: Path, tiny_model: RestorationModel) -> None:
    source = save_photo(tmp_path / "a.png", 200, 130)
    task = FileRestorer(Restorer(RestoreOptions(), device="cpu", model=tiny_model))
    jobs = [Job(source=source, target=tmp_path / f"{halvings}.png", halvings=halvings) for halvings in (1, 0, 9)]
    outcomes, _ = through(task, *jobs)
    assert [outcome.tile for outcome in outcomes] == [100, 1536, 64]


def test_a_file_that_does_not_fit_does_not_shrink_the_tiles_of_the_next(
    small_model: RestorationModel, tmp_path: Path
) -> None:
    jobs = []
    for number, side in enumerate((300, 60)):
        images.write(image_of(photo(side, side)), tmp_path / f"{number}.tiff")
        jobs.append(Job(source=tmp_path / f"{number}.tiff", target=tmp_path / f"out/{number}.tiff"))
    restorer = Restorer(RestoreOptions(tile=256), device="cpu", model=small_model)
    short_of_memory(restorer, 90, torch.OutOfMemoryError)
    outcomes, _ = through(FileRestorer(restorer), *jobs)
    assert [each.status for each in outcomes] == ["failed", "done"]
    assert (restorer.tile, outcomes[1].tile) == (256, 256)


def test_an_outcome_records_device_tile_size_and_time(tmp_path: Path, tiny_model: RestorationModel) -> None:
    source = save_photo(tmp_path / "a.png", 130, 70)
    outcomes, parts = restored(tiny_model, Job(source=source, target=tmp_path / "b.png"), tile=64)
    outcome = outcomes[0]
    assert (outcome.device, outcome.tile, outcome.threads) == ("cpu", 64, torch.get_num_threads())
    assert outcome.megapixels == pytest.approx(0.0091)
    assert outcome.seconds > 0
    assert len(outcome.sha256) == 64
    assert [(part.path, part.done, part.total) for part in parts] == [(source, done, 6) for done in range(1, 7)]


def test_an_unwritable_target_is_reported_before_any_work(tmp_path: Path, tiny_model: RestorationModel) -> None:
    deep = image_of(photo(40, 50), "uint16")
    images.write(deep, tmp_path / "deep.tif")
    job = Job(source=tmp_path / "deep.tif", target=tmp_path / "b.jpg", format="jpeg")
    outcomes, parts = restored(tiny_model, job)
    assert outcomes[0].status == "failed"
    assert outcomes[0].error is not None
    assert outcomes[0].error == f"{job.target}: JPEG holds 8 bits, and this image has 16 bits. " + (
        "Use --bit-depth 8, or --format tiff or png."
    )
    assert parts == []


def test_a_16_bit_tiff_keeps_profile_exif_xmp_and_alpha(tiny_model: RestorationModel, tmp_path: Path) -> None:
    """Another library reads depth, profile, EXIF with maker note, XMP and alpha from the restored file."""
    exif = PillowImage.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    note = b"MakerNote\0" + bytes(range(64))
    exif.get_ifd(0x8769).update({0x829A: (1, 250), 0x927C: note, 0x9003: "2026:01:02 03:04:05"})
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    xmp = "<x:xmpmeta xmlns:x='adobe:ns:meta/'>café</x:xmpmeta>".encode()
    alpha = np.random.default_rng(0).integers(0, 65536, (40, 50)).astype(np.uint16)
    metadata = images.Metadata(icc=profile, exif=exif.tobytes().removeprefix(b"Exif\0\0"), xmp=xmp)
    source, target = tmp_path / "a.tif", tmp_path / "b.tif"
    images.write(image_of(photo(40, 50), "uint16", alpha_HW=alpha, metadata=metadata), source)

    outcomes, _ = restored(tiny_model, Job(source=source, target=target))

    assert outcomes[0].status == "done"
    with tifffile.TiffFile(target) as file:
        tags = file.pages.first.tags
        stored = file.asarray()
        assert tags[34675].value == profile
        assert tags[700].value == xmp
        assert (tags[271].value, tags[274].value) == ("Maker", 6)
        assert tags[34665].value == {
            "ExposureTime": (1, 250),
            "DateTimeOriginal": "2026:01:02 03:04:05",
            "MakerNote": note,
        }
    assert stored.dtype == np.uint16
    assert np.array_equal(stored[..., 3], alpha)
    assert not np.array_equal(stored[..., :3], tifffile.imread(source)[..., :3])


def test_the_input_is_freed_before_its_result_is_written(
    tmp_path: Path, tiny_model: RestorationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(source=save_photo(tmp_path / "a.png"), target=tmp_path / "b.png")
    read: list[weakref.ref[Any]] = []
    decode, encode = images.decode, images.encode

    def noted(*arguments: Any, **named: Any) -> images.Image:
        image = decode(*arguments, **named)
        read.append(weakref.ref(image.pixels_HWC))
        return image

    def checked(*arguments: Any) -> bytes:
        assert [pixels() for pixels in read] == [None]
        return encode(*arguments)

    monkeypatch.setattr(images, "decode", noted)
    monkeypatch.setattr(images, "encode", checked)
    assert restored(tiny_model, job)[0][0].status == "done"
    assert len(read) == 1


def test_an_outcome_names_the_degradations_that_the_prompt_removes(
    tiny_model: RestorationModel, tmp_path: Path
) -> None:
    source = save_photo(tmp_path / "in.png", 40, 50)
    for prompt, removes, notes in (("remove noise", ["noise"], 0), ("Restore this image", None, 0), ("asdf", None, 1)):
        model = unread(tiny_model) if notes else tiny_model
        restorer = Restorer(RestoreOptions(prompt=prompt), device="cpu", model=model)
        (outcome,), _ = through(FileRestorer(restorer), Job(source=source, target=tmp_path / f"{prompt}.png"))
        assert outcome.to_json()["removes"] == removes
        assert len(outcome.to_json()["notes"]) == notes


def test_what_the_format_of_the_result_cannot_hold_is_in_the_notes(
    tmp_path: Path, tiny_model: RestorationModel
) -> None:
    metadata = images.Metadata(iptc=b"\x1c\x02\x05\x00\x05Title")
    images.write(image_of(photo(40, 50), "uint8", metadata=metadata), tmp_path / "a.tif")
    job = Job(source=tmp_path / "a.tif", target=tmp_path / "a.webp", format="webp")
    (outcome,), _ = restored(tiny_model, job)
    assert outcome.notes == ("IPTC records are left out, because WebP has no place for them",)


@pytest.mark.parametrize(
    ("format_", "folder", "name", "is_said"),
    [
        ("preserve", True, "a.png", True), ("png", True, "a.png", False), ("preserve", False, "a.png", False),
        ("preserve", False, "stdout", True),
    ],
)  # fmt: skip
def test_a_format_that_is_only_read_is_noted_unless_another_was_asked_for(
    tmp_path: Path, tiny_model: RestorationModel, format_: OutputFormat, folder: bool, name: str, is_said: bool
) -> None:
    source = tmp_path / "a.bmp"
    source.write_bytes(foreign_files()["24.bmp"])
    restorer = Restorer(RestoreOptions(), device="cpu", model=tiny_model)
    job = Job(source=source, target=tmp_path / name, format=None, folder=tmp_path if folder else None)
    notes = FileRestorer(restorer, write=WriteOptions(format=format_)).read(job).image.notes
    assert notes == ("the result is PNG, because BMP is only read",) * is_said


@pytest.mark.parametrize("strip", [False, True])
def test_a_result_says_how_it_was_made(tmp_path: Path, tiny_model: RestorationModel, strip: bool) -> None:
    packet = """<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
        xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Label="Red"/></rdf:RDF>"""
    images.write(image_of(photo(40, 50), "uint8", metadata=replace(METADATA, xmp=packet.encode())), tmp_path / "a.tif")
    restorer = Restorer(RestoreOptions(strength=0.5, threads=1), device="cpu", model=tiny_model)
    task = FileRestorer(restorer, write=WriteOptions(provenance=True, strip=strip))
    (outcome,), _ = through(task, Job(source=tmp_path / "a.tif", target=tmp_path / "out.tif"))
    found = images.read(tmp_path / "out.tif").metadata
    told = images.provenance_of(found)
    assert told is not None
    assert (told.version, told.weights, told.input) == (__version__, tiny_model.fingerprint, outcome.sha256)
    assert ("strength", "0.5") in told.options
    assert not {"threads", "model", "tile"} & dict(told.options).keys()
    assert (b"Red" in (found.xmp or b"")) != strip
    assert (found.dpi is None) == strip


def test_a_provenance_that_cannot_be_added_fails_the_file(tmp_path: Path, tiny_model: RestorationModel) -> None:
    metadata = images.Metadata(xmp=b"<broken")
    images.write(image_of(photo(40, 50), "uint8", metadata=metadata), tmp_path / "a.tif")
    task = FileRestorer(Restorer(RestoreOptions(), device="cpu", model=tiny_model), write=WriteOptions(provenance=True))
    (outcome,), _ = through(task, Job(source=tmp_path / "a.tif", target=tmp_path / "out.tif"))
    assert (outcome.status, outcome.reason) == ("failed", "unwritable")
    assert outcome.error is not None
    assert "--provenance" in outcome.error
