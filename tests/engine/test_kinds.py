"""Tests of calls from Python: the same kind of object comes back, and what cannot be restored is refused."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import Tensor

from sanarestore import images
from sanarestore.engine.kinds import opened
from sanarestore.engine.restorer import Restorer
from sanarestore.errors import DamagedImage, UnreadableImage, UnwritableImage, UsageError
from sanarestore.files import hash_file
from sanarestore.images import to_array
from sanarestore.model.loading import RestorationModel
from sanarestore.options import RestoreOptions
from tests.conftest import photo, save_photo
from tests.engine.test_restorer import unread
from tests.images.rich import LABELLED


@pytest.fixture
def restorer(tiny_model: RestorationModel) -> Restorer:
    return Restorer(RestoreOptions(), device="cpu", model=tiny_model)


def codes(height: int = 20, width: int = 30) -> Any:
    return np.rint(photo(height, width) * 255).astype(np.uint8)


def test_every_kind_gives_the_result_of_the_file(restorer: Restorer, tmp_path: Path) -> None:
    path = save_photo(tmp_path / "a.png", 20, 30)
    expected = to_array(restorer(images.read(path)))
    assert not np.array_equal(expected, codes())
    assert np.array_equal(to_array(restorer(path)), expected)
    assert np.array_equal(to_array(restorer(str(path))), expected)
    assert np.array_equal(restorer(codes()), expected)
    picture = restorer(Pillow.open(path))
    assert type(picture) is Pillow.Image
    assert np.array_equal(np.asarray(picture), expected)
    tensor = restorer(torch.from_numpy(codes()).permute(2, 0, 1))
    assert torch.equal(tensor, torch.from_numpy(expected).permute(2, 0, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("shape", [(3, 20, 30), (1, 20, 30), (4, 20, 30), (2, 3, 20, 30), (1, 1, 20, 30)])
def test_tensors_keep_shape_and_type(shape: tuple[int, ...], dtype: torch.dtype, restorer: Restorer) -> None:
    given = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    given = (given * 255).to(dtype) if dtype == torch.uint8 else given.to(dtype)
    before = given.clone()
    result = restorer(given)
    assert (result.shape, result.dtype, result.device) == (given.shape, given.dtype, given.device)
    assert result.is_contiguous()
    assert torch.equal(given, before)
    assert not torch.equal(result, given)
    if shape[-3] == 4:
        assert torch.equal(result[3], given[3]), "alpha is unchanged"


def test_a_batch_equals_its_images_one_by_one(restorer: Restorer) -> None:
    batch = torch.stack([torch.from_numpy(photo(20, 30, seed)).permute(2, 0, 1) for seed in (1, 2)])
    assert torch.equal(restorer(batch), torch.stack([restorer(each) for each in batch]))


def test_a_result_has_no_gradient(restorer: Restorer) -> None:
    assert not restorer(torch.rand(3, 20, 30, requires_grad=True)).requires_grad


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32"])
def test_alpha_of_an_array_passes_bit_by_bit(dtype: str, restorer: Restorer) -> None:
    rng = np.random.default_rng(0)
    given = rng.random((20, 30, 4)).astype(dtype) if "float" in dtype else rng.integers(0, 256, (20, 30, 4), dtype)
    result = restorer(given)
    assert result.dtype == given.dtype
    assert np.array_equal(result[..., 3], given[..., 3])
    assert not np.array_equal(result[..., :3], given[..., :3])


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_enlarged_pillow_images_keep_their_mode(mode: str, tiny_model: RestorationModel) -> None:
    restorer = Restorer(RestoreOptions(scale=2), device="cpu", model=tiny_model)
    result = restorer(Pillow.fromarray(codes()).convert(mode))
    assert (result.mode, result.size) == (mode, (60, 40))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (torch.zeros(3, 4, 4, dtype=torch.float64), r"type float64.*tensor\.float\(\)"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "type int64: uint8, float16, bfloat16 and float32 are restored"),
        (torch.zeros(4, 4), r"shape \(4, 4\).*1 to 4 channels.*Give \[C, H, W\]"),
        (torch.zeros(40, 50, 3), "1 to 4 channels come before"),
        (torch.zeros(3, 0, 4), "empty"),
        (torch.zeros(0, 3, 4, 4), "empty"),
        (torch.full((3, 4, 4), 200.0), "mean is 200"),
    ],
)
def test_tensors_that_are_no_photographs_are_refused_with_advice(given: Tensor, said: str) -> None:
    with pytest.raises(UnreadableImage, match=said):
        opened(given)


@pytest.mark.parametrize("given", [None, 3, b"bytes", object()])
def test_other_objects_are_refused(given: object) -> None:
    with pytest.raises(UsageError, match=rf"type {type(given).__name__}: it is not a path.*Convert"):
        opened(given)


def test_lists_and_folders_are_sent_to_restore_files(tmp_path: Path) -> None:
    for given in (["a.png"], tmp_path):
        with pytest.raises(UsageError, match="restore_files"):
            opened(given)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad: float, restorer: Restorer) -> None:
    given = photo(20, 30)
    given[3, 4, 1] = bad
    with pytest.raises(UnreadableImage, match="finite"):
        restorer(given)


def test_progress_goes_from_0_to_1_over_all_images_of_a_batch(tiny_model: RestorationModel) -> None:
    restorer = Restorer(RestoreOptions(tile=64), device="cpu", model=tiny_model)
    seen: list[float] = []
    restorer(torch.rand(2, 3, 130, 70), progress=seen.append)
    assert seen == sorted(seen)
    assert len(seen) > 6
    assert seen[0] > 0
    assert seen[-1] == 1
    assert 0.5 in seen


def test_progress_ends_at_1_if_nothing_is_to_be_done(tiny_model: RestorationModel) -> None:
    seen: list[float] = []
    Restorer(RestoreOptions(strength=0), device="cpu", model=tiny_model)(codes(), progress=seen.append)
    assert seen == [1.0]


def test_the_note_on_a_prompt_is_a_warning_where_the_result_has_no_notes(tiny_model: RestorationModel) -> None:
    restorer = Restorer(RestoreOptions(prompt="asdf qwer"), device="cpu", model=unread(tiny_model))
    with pytest.warns(UserWarning, match="'asdf qwer' was not understood"):
        restorer(codes())
    assert "asdf qwer" in restorer(images.from_array(codes())).notes[0]


def test_a_result_is_written_in_the_format_of_its_suffix(restorer: Restorer, tmp_path: Path) -> None:
    path = save_photo(tmp_path / "a.png", 20, 30)
    result = restorer(path, output=tmp_path / "b.tif")
    written = images.read(tmp_path / "b.tif")
    assert written.format == "tiff"
    assert np.array_equal(to_array(written), to_array(result))
    array = restorer(codes(), output=str(tmp_path / "sub" / "c.png"))
    assert np.array_equal(to_array(images.read(tmp_path / "sub" / "c.png")), array)


def test_a_pillow_image_is_written_with_its_profile(restorer: Restorer, tmp_path: Path) -> None:
    picture = Pillow.fromarray(codes())
    picture.info["icc_profile"] = b"a profile"
    restorer(picture, output=tmp_path / "a.tif")
    assert images.read(tmp_path / "a.tif").metadata.icc == b"a profile"


@pytest.mark.parametrize(
    ("name", "said"),
    [("a.png", "replace the input"), ("", "it is a folder"), ("b.heic", "HEIC is not written"),
     ("b", "no suffix.*Use"), ("b.txt", r"'\.txt' names no format")],
)  # fmt: skip
def test_outputs_that_cannot_be_are_refused_before_the_work(
    name: str, said: str, restorer: Restorer, tmp_path: Path
) -> None:
    path = save_photo(tmp_path / "a.png", 20, 30)
    before = path.read_bytes()
    with pytest.raises(UsageError, match=said):
        restorer(path, output=tmp_path / name, overwrite=True, progress=lambda _: pytest.fail("work was done"))
    assert path.read_bytes() == before


def test_a_file_that_exists_is_replaced_only_when_asked(restorer: Restorer, tmp_path: Path) -> None:
    there = tmp_path / "b.png"
    there.write_bytes(b"my own")
    with pytest.raises(UnwritableImage, match=r"exists already.*overwrite"):
        restorer(codes(), output=there)
    assert there.read_bytes() == b"my own"
    restorer(codes(), output=there, overwrite=True)
    assert images.read(there).width == 30


def test_a_format_that_cannot_hold_the_result_is_refused_before_the_work(restorer: Restorer, tmp_path: Path) -> None:
    image = replace(images.from_array(codes()), depth="float32")
    with pytest.raises(UnwritableImage, match=r"a\.png"):
        restorer(image, output=tmp_path / "a.png", progress=lambda _: pytest.fail("work was done"))


def test_the_file_is_written_as_the_keywords_say(restorer: Restorer, tmp_path: Path) -> None:
    """They act like `--format`, `--quality`, `--bit-depth` and `--strip`, and do not change the returned image."""
    path = save_photo(tmp_path / "a.png", 20, 30)
    result = restorer(path, output=tmp_path / "b.tif", bit_depth=16)
    assert (result.depth, images.read(tmp_path / "b.tif").depth) == ("uint8", "uint16")
    sizes = []
    for quality in (50, 95):
        restorer(path, output=tmp_path / "c.jpg", quality=quality, overwrite=True)
        sizes.append((tmp_path / "c.jpg").stat().st_size)
    assert sizes[0] < sizes[1]
    restorer(path, output=tmp_path / "photo", format="webp")
    assert images.read(tmp_path / "photo").format == "webp"
    tagged = replace(images.read(path), metadata=images.Metadata(xmp=LABELLED, iptc=b"\x1c\x02\x05\x00\x01T"))
    restorer(tagged, output=tmp_path / "d.tif", strip=True)
    assert images.read(tmp_path / "d.tif").metadata == images.Metadata()
    result = restorer(tagged, output=tmp_path / "e.webp")
    assert "IPTC records are left out, because WebP has no place for them" in result.notes


def test_a_result_gets_the_dates_and_the_provenance_of_its_file(restorer: Restorer, tmp_path: Path) -> None:
    path = save_photo(tmp_path / "a.png", 20, 30)
    os.utime(path, ns=(10**18, 10**18))
    restorer(path, output=tmp_path / "b.png", keep_dates=True, provenance=True)
    assert (tmp_path / "b.png").stat().st_mtime_ns == 10**18
    told = images.provenance_of(images.read(tmp_path / "b.png").metadata)
    assert told is not None
    assert told.input == hash_file(path)
    for name in ("keep_dates", "provenance"):
        with pytest.raises(UsageError, match=f"^{name}: .*Give the path"):
            restorer(codes(), output=tmp_path / "c.png", **{name: True})  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"quality": 90}, "^quality: .*Name a file with output"),
        ({"output": "a.tif", "format": "jpeg"}, "^a.tif: .*format='jpeg' is asked for"),
        ({"output": "a.png", "quality": 90, "format": "png"}, "^quality: .*format='jpeg'"),
        ({"output": "a.png", "quality": 90}, "^a.png: PNG is written without loss.*Leave out quality, or"),
        ({"output": "-"}, "^output: '-' is stdout.*the result is returned"),
        ({"output": 5}, "^output: 5 is not a path"),
        ({"output": "a.png", "overwrite": "no"}, "^overwrite: 'no' is neither True nor False"),
        ({"output": "a.jpg", "bit_depth": 16}, "bit_depth=8"),
    ],
)
def test_keywords_of_writing_are_checked_before_the_work(
    given: dict[str, Any], said: str, restorer: Restorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UsageError, UnwritableImage), match=said):
        restorer(codes(), progress=lambda _: pytest.fail("work was done"), **given)
    assert list(tmp_path.iterdir()) == []


def test_damaged_files_are_restored_where_that_is_accepted(restorer: Restorer, tmp_path: Path) -> None:
    path = save_photo(tmp_path / "a.png", 20, 30)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DamagedImage, match="add accept_damaged=True"):
        restorer(path)
    assert restorer(path, accept_damaged=True).width == 30


def test_a_batch_does_not_fit_into_one_file(restorer: Restorer, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2 images do not fit into one file"):
        restorer(torch.rand(2, 3, 20, 30), output=tmp_path / "a.png")


def test_options_are_given_in_one_way(tiny_folder: Path) -> None:
    by_name = Restorer(model=str(tiny_folder), prompt="remove noise", device="cpu")
    assert by_name.options == RestoreOptions(model=str(tiny_folder), prompt="remove noise")
    again = Restorer(RestoreOptions(prompt="deblur"), model=by_name.model, device="cpu")
    assert again.model is by_name.model
    with pytest.raises(TypeError, match="not as both"):
        Restorer(RestoreOptions(), prompt="deblur")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="promt"):
        Restorer(promt="deblur")  # type: ignore[call-overload]
