"""Tests of files restored in strips: the pixels, notes and errors are those of files restored whole."""

import errno
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import torch

from sanarestore import images, weights
from sanarestore.engine.file_restorer import FileRestorer
from sanarestore.engine.jobs import Job
from sanarestore.engine.refinement import Refinement
from sanarestore.engine.restorer import Restorer
from sanarestore.engine.strips import use
from sanarestore.errors import DiskFull, UnreadableImage
from sanarestore.files import temporary_beside
from sanarestore.model.loading import RestorationModel, load_model
from sanarestore.options import RestoreOptions, WriteOptions
from tests.conftest import photo
from tests.engine.strips.conftest import Both, BothWays
from tests.engine.test_file_restorer import finish

HEIGHT, WIDTH = 131, 107


def codes(depth: str = "uint8", colours: int = 3, height: int = HEIGHT, width: int = WIDTH) -> npt.NDArray[Any]:
    """Make a noisy photograph; gray has no last axis."""
    rng = np.random.default_rng(1)
    values = (photo(height, width) + rng.normal(0, 0.03, (height, width, 3)).astype(np.float32)).clip(0, 1)
    values = values if colours == 3 else values[..., 0]
    most = {"uint8": 255, "uint16": 65535}.get(depth)
    return np.rint(values * most).astype(depth) if most else values.astype(depth)


def alike(both: Both, given: npt.NDArray[Any]) -> None:
    """Check that both results have the same codes, other than those given, and that outcomes say the same of them."""
    assert (both.whole.error, both.strips.error) == (None, None)
    assert both.whole_codes.dtype == both.strips_codes.dtype
    assert np.array_equal(both.whole_codes, both.strips_codes)
    assert both.whole_codes.shape != given.shape or not np.array_equal(both.whole_codes, given)
    same = ("status", "notes", "megapixels", "tile", "expert", "removes", "sha256", "dtype", "threads", "device")
    assert [getattr(both.whole, name) for name in same] == [getattr(both.strips, name) for name in same]
    assert [(part.done, part.total) for part in both.whole_parts] == [
        (part.done, part.total) for part in both.strips_parts
    ]


LAYOUTS: dict[str, dict[str, Any]] = {
    "uncompressed": {},
    "strips of 7 rows": {"compression": "zlib", "predictor": True, "rowsperstrip": 7},
    "lzw": {"compression": "lzw", "rowsperstrip": 50},
    "big-endian": {"byteorder": ">", "compression": "zlib", "predictor": True, "rowsperstrip": 16},
    "bigtiff": {"bigtiff": True, "rowsperstrip": 9},
    "tiles": {"tile": (32, 48), "compression": "zstd"},
    "uncompressed tiles": {"tile": (16, 16)},
}


CASES = [("strips of 7 rows", colours, depth) for colours in (1, 3) for depth in ("uint8", "uint16", "float32")]
CASES += [(layout, 3, depth) for layout in LAYOUTS for depth in ("uint8", "uint16") if layout != "strips of 7 rows"]


@pytest.mark.parametrize(("layout", "colours", "depth"), CASES)
def test_a_tiff_file_has_the_pixels_of_the_whole_way(
    layout: str, colours: int, depth: str, tmp_path: Path, small_model: RestorationModel, both_ways: BothWays
) -> None:
    given = codes(depth, colours)
    tifffile.imwrite(
        tmp_path / "a.tif", given, photometric="rgb" if colours == 3 else "minisblack", metadata=None, **LAYOUTS[layout]
    )
    alike(both_ways(small_model, tmp_path / "a.tif"), given)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "rowsperstrip": 8}, {"tile": (32, 32)}])
def test_separate_planes_have_the_pixels_of_the_whole_way(
    options: dict[str, Any], tmp_path: Path, small_model: RestorationModel, both_ways: BothWays
) -> None:
    given = codes("uint16")
    planes = np.ascontiguousarray(np.moveaxis(given, 2, 0))
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate", metadata=None, **options)
    alike(both_ways(small_model, tmp_path / "a.tif"), given)


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
@pytest.mark.parametrize("colours", [1, 3])
def test_a_png_file_has_the_pixels_of_the_whole_way(
    colours: int, depth: str, tmp_path: Path, small_model: RestorationModel, both_ways: BothWays,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("sanarestore.images.strips.png._BAND", 3000)
    given = codes(depth, colours)
    save(tmp_path / "a.png", given)
    alike(both_ways(small_model, tmp_path / "a.png"), given)


@pytest.mark.parametrize("size", [(1, 1), (1, 60), (60, 1), (9, 200), (47, 48), (48, 49), (200, 9), (97, 33)])
def test_odd_sizes_have_the_pixels_of_the_whole_way(
    size: tuple[int, int], tmp_path: Path, small_model: RestorationModel, both_ways: BothWays
) -> None:
    given = codes("uint16", 3, *size)
    tifffile.imwrite(tmp_path / "a.tif", given, photometric="rgb", metadata=None)
    both = both_ways(small_model, tmp_path / "a.tif")
    assert both.strips.error is None
    assert np.array_equal(both.whole_codes, both.strips_codes)


@pytest.mark.parametrize("chosen", [{"strength": 0.5}, {"strength": 0.0}, {"prompt": "remove nothing"}])
def test_options_of_the_result_hold_in_strips(
    chosen: dict[str, Any], tmp_path: Path, small_model: RestorationModel, both_ways: BothWays
) -> None:
    save(tmp_path / "a.png", codes())
    both = both_ways(small_model, tmp_path / "a.png", **chosen)
    assert (both.strips.error, both.strips.notes) == (None, both.whole.notes)
    assert np.array_equal(both.whole_codes, both.strips_codes)


@pytest.mark.parametrize("prompt", [None, "fix the colours"])
def test_the_embedded_model_chooses_and_corrects_as_on_the_whole_photograph(
    prompt: str | None, tmp_path: Path, both_ways: BothWays
) -> None:
    given = (codes("uint16", 3, 100, 140) * np.array([0.9, 0.8, 0.5])).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", given, photometric="rgb", metadata=None, compression="zlib", rowsperstrip=11)
    both = both_ways(load_model(weights.EMBEDDED), tmp_path / "a.tif", prompt=prompt, tile=80, threads=1)
    alike(both, given)
    assert len(both.strips_parts) == 4
    assert both.strips.expert or prompt


def test_gray_in_three_channels_stays_gray(tmp_path: Path, small_model: RestorationModel, both_ways: BothWays) -> None:
    given = np.repeat(codes("uint16", 1)[..., None], 3, axis=2)
    save(tmp_path / "a.png", given)
    both = both_ways(small_model, tmp_path / "a.png")
    alike(both, given)
    assert (both.strips_codes[..., 1:] == both.strips_codes[..., :1]).all()


@pytest.mark.parametrize(
    ("alpha", "is_taken"), [("visible", True), ("unspecified", True), ("hidden", False), ("associated", False)]
)
def test_alpha_is_carried_where_it_hides_nothing(
    alpha: str, is_taken: bool, tmp_path: Path, small_model: RestorationModel, both_ways: BothWays
) -> None:
    opacity = codes("uint16", 1) | 1
    if alpha == "hidden":
        opacity[60, 60] = 0
    given = np.concatenate([codes("uint16"), opacity[..., None]], axis=2)
    kind = {"unspecified": 0, "associated": 1}.get(alpha, 2)
    tifffile.imwrite(tmp_path / "a.tif", given, photometric="rgb", extrasamples=[kind], metadata=None)
    both = both_ways(small_model, tmp_path / "a.tif", is_taken=is_taken)
    alike(both, given)
    assert np.array_equal(both.strips_codes[..., 3], opacity)


@pytest.mark.parametrize(("suffix", "other"), [(".tif", ".png"), (".png", ".tif")])
def test_the_other_format_may_be_written(
    suffix: str, other: str, tmp_path: Path, small_model: RestorationModel, both_ways: BothWays
) -> None:
    save(tmp_path / f"a{suffix}", codes("uint16"))
    write = WriteOptions(format="png" if other == ".png" else "tiff")
    alike(both_ways(small_model, tmp_path / f"a{suffix}", write=write, suffix=other), codes("uint16"))


@pytest.mark.parametrize("suffix", [".tif", ".png"])
@pytest.mark.parametrize("write", [{}, {"provenance": True}, {"strip": True}, {"strip": True, "provenance": True}])
def test_metadata_is_that_of_the_whole_way(
    write: dict[str, bool], suffix: str, tmp_path: Path, small_model: RestorationModel, both_ways: BothWays
) -> None:
    metadata = images.Metadata(xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>", dpi=(300.0, 300.0), iptc=b"\x1c\x02\x05")
    save(tmp_path / f"a{suffix}", codes("uint16"), metadata=metadata)
    alike(both_ways(small_model, tmp_path / f"a{suffix}", write=WriteOptions(**write)), codes("uint16"))
    whole, strips = (images.read(tmp_path / way / f"a{suffix}") for way in ("whole", "strips"))
    assert whole.metadata == strips.metadata
    assert (whole.metadata.dpi is None) == ("strip" in write)
    sizes = [(tmp_path / way / f"a{suffix}").stat().st_size for way in ("whole", "strips")]
    assert 0.99 * sizes[0] < sizes[1] <= sizes[0]


@pytest.mark.parametrize(
    "chosen",
    [{"scale": 2.0}, {"long_side": 90}, {"tiling": "off", "tile": None}, {"tiling": "independent", "overlap": 8}],
)
def test_what_needs_the_whole_photograph_is_restored_whole(
    chosen: dict[str, Any], tmp_path: Path, small_model: RestorationModel, both_ways: BothWays
) -> None:
    save(tmp_path / "a.png", codes())
    assert both_ways(small_model, tmp_path / "a.png", is_taken=False, **chosen).strips.error is None


def test_other_formats_depths_and_pages_are_restored_whole(
    tmp_path: Path, small_model: RestorationModel, both_ways: BothWays
) -> None:
    save(tmp_path / "a.jpg", codes())
    save(tmp_path / "a.png", codes())
    save(tmp_path / "a.tif", codes("uint16"))
    tifffile.imwrite(tmp_path / "pages.tif", np.stack([codes(), codes()]), photometric="rgb", metadata=None)
    for name, write in (("a.jpg", {}), ("a.tif", {"bit_depth": 8}), ("a.png", {"format": "webp"}), ("pages.tif", {})):
        both = both_ways(small_model, tmp_path / name, write=WriteOptions(**write), is_taken=False)  # type: ignore[arg-type]
        assert both.strips.error is None, name


def damaged_files(folder: Path) -> list[Path]:
    """Make files that are cut off, have a wrong byte among the pixels, or are not finite."""
    save(folder / "good.png", codes("uint16"))
    tifffile.imwrite(folder / "good.tif", codes("uint16"), compression="zlib", rowsperstrip=20, metadata=None)
    tifffile.imwrite(folder / "plain.tif", codes("uint16"), metadata=None)
    for name in ("good.png", "good.tif", "plain.tif"):
        data = (folder / name).read_bytes()
        (folder / f"cut-{name}").write_bytes(data[: len(data) * 2 // 3])
        (folder / f"wrong-{name}").write_bytes(data[:20000] + bytes(64) + data[20064:])
    values = codes("float32")
    values[100, 50, 1] = np.nan
    tifffile.imwrite(folder / "nan.tif", values, photometric="rgb", metadata=None)
    return [*sorted(path for path in folder.glob("*-*") if path.name != "wrong-plain.tif"), folder / "nan.tif"]


def test_damage_is_reported_as_by_the_whole_way(
    tmp_path: Path, small_model: RestorationModel, both_ways: BothWays
) -> None:
    for path in damaged_files(tmp_path):
        both = both_ways(small_model, path)
        assert (both.strips.status, both.strips.error) == ("failed", both.whole.error), path
        assert both.strips.reason == both.whole.reason


def test_accepted_damage_is_restored_whole(tmp_path: Path, small_model: RestorationModel, both_ways: BothWays) -> None:
    for path in damaged_files(tmp_path)[:-1]:
        both = both_ways(small_model, path, accept_damaged=True, is_taken=False)
        assert both.strips.notes == both.whole.notes
        assert both.strips.status == both.whole.status
        assert np.array_equal(both.whole_codes, both.strips_codes)


def test_smaller_tiles_are_tried_when_memory_runs_out(
    tmp_path: Path, small_model: RestorationModel, both_ways: BothWays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sanarestore.engine.tiles.SMALLEST_TILE", 8)
    refine = Refinement._refine_window

    def short(self: Refinement, refiners: Any, whole: Any, window: torch.Tensor, core: Any) -> torch.Tensor:
        if window.shape[1] > 100:
            raise MemoryError
        return refine(self, refiners, whole, window, core)

    monkeypatch.setattr(Refinement, "_refine_window", short)
    given = codes()
    save(tmp_path / "a.png", given)
    both = both_ways(small_model, tmp_path / "a.png", tile=64)
    assert both.strips.tile == 32
    alike(both, given)


def test_a_full_disk_ends_the_batch_and_leaves_nothing(
    tmp_path: Path, small_model: RestorationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(use, "LARGE", 1)
    save(tmp_path / "a.png", codes())
    job = replace(Job(source=tmp_path / "a.png", target=tmp_path / "out/a.png"), temporary=tmp_path / "out/new")
    task = FileRestorer(Restorer(RestoreOptions(), device="cpu", model=small_model))
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode: Full(path, mode) if mode == "xb" else opened(path, mode))
    with pytest.raises(DiskFull):
        finish(task.work(job, task.read(job)))
    task.abandon(job)
    assert not list((tmp_path / "out").iterdir())


class Full(io.FileIO):
    """A file on a disk on which there is room for 1000 bytes."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > 1000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_a_failure_in_between_leaves_nothing(
    tmp_path: Path, small_model: RestorationModel, monkeypatch: pytest.MonkeyPatch, tiny_tiles: None
) -> None:
    monkeypatch.setattr(use, "LARGE", 1)
    save(tmp_path / "a.png", codes())
    job = Job(source=tmp_path / "a.png", target=tmp_path / "out/a.png")
    job = replace(job, temporary=temporary_beside(job.target))
    task = FileRestorer(Restorer(RestoreOptions(tile=48), device="cpu", model=small_model))
    steps = task.work(job, task.read(job))
    for _ in range(4):
        next(steps)
    assert job.temporary is not None
    assert job.temporary.exists()
    assert not job.target.exists()
    steps.close()
    task.abandon(job)
    assert not list((tmp_path / "out").iterdir())


def test_a_file_that_changes_meanwhile_fails(
    tmp_path: Path, small_model: RestorationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(use, "LARGE", 1)
    save(tmp_path / "a.png", codes())
    job = Job(source=tmp_path / "a.png", target=tmp_path / "b.png")
    job = replace(job, temporary=temporary_beside(job.target))
    task = FileRestorer(Restorer(RestoreOptions(), device="cpu", model=small_model))
    read = task.read(job)
    save(tmp_path / "a.png", codes()[::-1])
    with pytest.raises(UnreadableImage, match="changed"):
        finish(task.work(job, read))


def save(path: Path, given: npt.NDArray[Any], **fields: Any) -> None:
    """Write codes in the format of the suffix."""
    stored = given if given.ndim == 3 else given[..., None]
    depth: images.Depth = stored.dtype.name  # type: ignore[assignment]
    image = images.Image(
        pixels_HWC=images.to_float(stored, depth), depth=depth, format=images.SUFFIXES[path.suffix], **fields
    )
    images.write(image, path)
