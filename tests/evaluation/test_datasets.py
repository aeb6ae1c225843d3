"""Tests of finding test sets in the layouts of their authors, and of the errors for missing files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from scipy.io import savemat

from sanarestore.errors import NoImagesError, UnreadableImage, UsageError
from sanarestore.evaluation.datasets import VARIABLE, Item, find_folder, find_set
from sanarestore.evaluation.metrics import psnr
from sanarestore.evaluation.public import SETS
from tests.conftest import photo, save_photo

LIVE1 = (
    "bikes building2 buildings caps carnivaldolls cemetry churchandcapitol coinsinfountain dancers flowersonih35 house"
)
LIVE1 += (
    " lighthouse2 lighthouse3 manfishing monarch ocean paintedhouse parrots plane rapids sailing1 sailing2 sailing3"
)
LIVE1 += " sailing4 statue stream studentsculpture woman womanhat"

SET14 = "baboon barbara bridge coastguard comic face flowers foreman lenna man monarch pepper ppt3 zebra"

NAMES = {
    "urban100": [
        [f"img_{n:03d}.png" for n in range(1, 101)], [f"image_SRF_4/img_{n:03d}_SRF_4_HR.png" for n in range(1, 101)],
        [f"HR/img{n:03d}.png" for n in range(1, 101)],
    ],
    "cbsd68": [
        [f"{n * 1013}.png" for n in range(10, 78)], [f"test/{n * 1013}.jpg" for n in range(10, 78)],
        [f"original_png/{n:04d}.png" for n in range(68)],
    ],
    "kodak24": [[f"kodim{n:02d}.png" for n in range(1, 25)], [f"{n}.png" for n in range(1, 25)]],
    "mcmaster": [[f"{n}.tif" for n in range(1, 19)], [f"McM{n:02d}.tif" for n in range(1, 19)]],
    "set12": [[f"{n:02d}.png" for n in range(1, 13)]],
    "set14": [[f"{name}.bmp" for name in SET14.split()], [f"img_{n:03d}_SRF_4_HR.png" for n in range(1, 15)]],
    "bsd100": [
        [f"{n * 1013}.png" for n in range(10, 110)], [f"image_SRF_4/img_{n:03d}_SRF_4_HR.png" for n in range(1, 101)],
    ],
    "live1": [[f"{name}.bmp" for name in LIVE1.split()]],
    "classic5": [
        [f"{name}.bmp" for name in ("baboon", "barbara", "boats", "lena", "peppers")],
        [f"{n}.png" for n in range(1, 6)],
    ],
    "div2k-val": [[f"DIV2K_valid_HR/{n:04d}.png" for n in range(801, 901)]],
}  # fmt: skip


def lay_out(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(("name", "layout"), [(name, n) for name, found in NAMES.items() for n in range(len(found))])
def test_clean_sets_are_found_in_every_published_layout(name: str, layout: int, tmp_path: Path) -> None:
    names = NAMES[name][layout]
    lay_out(tmp_path / name, [*names, "readme.txt", "thumbs/of/deep.png"])
    items = find_set(name.upper(), tmp_path)
    assert [item.clean for item in items] == [tmp_path / name / each for each in sorted(names)]
    assert all(item.degraded is None for item in items)
    (tmp_path / name / names[3]).unlink()
    with pytest.raises(NoImagesError, match=f"{len(names) - 1} of {len(names)} files"):
        find_set(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "folder"),
    [("urban100", "Urban100"), ("kodak24", "Kodak"), ("div2k-val", "DIV2K_valid_HR"), ("div2k-val", "DIV2K")],
)
def test_a_folder_may_have_the_name_of_the_archive(name: str, folder: str, tmp_path: Path) -> None:
    lay_out(tmp_path / folder, NAMES[name][0])
    assert {item.clean.relative_to(tmp_path).parts[0] for item in find_set(name, tmp_path)} == {folder}


def test_missing_and_surplus_files_are_named(tmp_path: Path) -> None:
    lay_out(tmp_path / "kodak24", NAMES["kodak24"][0][2:])
    with pytest.raises(NoImagesError, match=r"22 of 24 files .* are there, without kodim01, kodim02\."):
        find_set("kodak24", tmp_path)
    lay_out(tmp_path / "live1", ["bikes.bmp"])
    with pytest.raises(NoImagesError, match=r"without building2, .* and 23 more"):
        find_set("live1", tmp_path)
    lay_out(tmp_path / "urban100", [*NAMES["urban100"][0], "img_101.png"])
    with pytest.raises(NoImagesError, match=r"101 of 100 .*: more than it has, as img_101\. .*no stable address"):
        find_set("urban100", tmp_path)


def test_low_resolution_versions_are_left_out(tmp_path: Path) -> None:
    lay_out(tmp_path / "urban100", NAMES["urban100"][1])
    lay_out(tmp_path / "urban100", [name.replace("HR", "LR") for name in NAMES["urban100"][1]])
    assert len(find_set("urban100", tmp_path)) == 100


def test_pairs_of_real_photographs_are_found(tmp_path: Path) -> None:
    stems = [f"{camera}_{n:03d}" for camera in ("Canon", "Nikon") for n in range(1, 51)]
    lay_out(tmp_path / "RealSR(V3)", [f"{s[:5]}/Test/4/{s}_{kind}.png" for s in stems for kind in ("HR", "LR4")])
    items = find_set("realsr", tmp_path)
    assert len(items) == 100
    assert items[60].clean.name == "Nikon_011_HR.png"
    assert items[60].degraded == items[60].clean.with_name("Nikon_011_LR4.png")
    lay_out(tmp_path / "nam", [f"camera_{n}_{kind}.png" for n in range(15) for kind in ("mean", "real")])
    assert {(item.clean.name, item.degraded and item.degraded.name) for item in find_set("nam", tmp_path)} == {
        (f"camera_{n}_mean.png", f"camera_{n}_real.png") for n in range(15)
    }


POLYU = [f"Canon5D2_5_160_{iso}_{thing}_{n}" for iso in (3200, 6400) for thing in ("chair", "plug") for n in range(25)]


@pytest.mark.parametrize("folder", ["polyu", "PolyU-Real-World-Noisy-Images-Dataset/CroppedImages"])
def test_the_crops_of_polyu_are_found_without_whole_photographs(folder: str, tmp_path: Path) -> None:
    crops = [f"{stem}_{kind}.JPG" for stem in POLYU for kind in ("mean", "real")]
    lay_out(tmp_path / folder, crops)
    lay_out(tmp_path / folder / "../OriginalImages", ["Canon5D2_chair_mean.JPG", "Canon5D2_5_160_3200_plug_Real.JPG"])
    items = find_set("polyu", tmp_path)
    assert [item.name for item in items] == sorted(POLYU, key=lambda stem: f"{stem}_mean.JPG")
    assert all(item.clean == tmp_path / folder / f"{item.name}_mean.JPG" for item in items)
    assert all(item.degraded == tmp_path / folder / f"{item.name}_real.JPG" for item in items)
    assert SETS["polyu"].task == "real"


@pytest.mark.parametrize("kind", ["mean", "real"])
def test_an_incomplete_pair_is_named_in_an_error(kind: str, tmp_path: Path) -> None:
    lay_out(tmp_path / "polyu", [f"{stem}_{each}.JPG" for stem in POLYU for each in ("mean", "real")])
    lay_out(tmp_path / "polyu", [f"Sony_1_{kind}.JPG"])
    with pytest.raises(
        NoImagesError, match=rf"100 of 100 pairs .* are whole; Sony_1_{kind}\.JPG is half a pair, without"
    ):
        find_set("polyu", tmp_path)
    (tmp_path / "polyu" / f"{POLYU[0]}_{kind}.JPG").unlink()
    with pytest.raises(NoImagesError, match=r"99 of 100 pairs of PolyU.* is half a pair.*, and so are 1 more"):
        find_set("polyu", tmp_path)
    with pytest.raises(NoImagesError, match=r"Put its 100 pairs there, named as CroppedImages/Canon5D2_.*_real\.JPG"):
        find_set("polyu", tmp_path)


def test_the_real_polyu_has_a_hundred_pairs_of_512_pixels(real_data: Path) -> None:
    try:
        items = find_set("polyu", real_data)
    except NoImagesError:
        pytest.skip("polyu is not there")
    assert len(items) == 100
    clean, noisy = items[7].read()
    assert noisy is not None
    assert clean.shape == noisy.shape == (512, 512, 3)
    assert 25 < psnr(noisy, clean) < 50


def test_blocks_of_sidd_are_read_one_by_one(tmp_path: Path) -> None:
    blocks = np.random.default_rng(0).integers(0, 256, (40, 32, 4, 4, 3), dtype=np.uint8)
    folder = tmp_path / "sidd-val"
    folder.mkdir()
    savemat(folder / "ValidationGtBlocksSrgb.mat", {"ValidationGtBlocksSrgb": blocks})
    savemat(folder / "ValidationNoisyBlocksSrgb.mat", {"ValidationNoisyBlocksSrgb": blocks[::-1]})
    items = find_set("sidd-val", tmp_path)
    assert len(items) == 1280
    clean, noisy = items[33].read()
    assert np.array_equal(clean, blocks[1, 1].astype(np.float32) / 255)
    assert noisy is not None
    assert np.array_equal(noisy, blocks[38, 1].astype(np.float32) / 255)


def test_a_damaged_file_of_sidd_is_named(tmp_path: Path) -> None:
    path = tmp_path / "blocks.mat"
    path.write_bytes(b"nothing")
    with pytest.raises(UnreadableImage, match=r"blocks\.mat: cannot be read as a MATLAB file"):
        Item(name="", clean=path, block=0).read()


def test_the_error_for_a_missing_set_names_folder_files_and_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "sets"))
    with pytest.raises(NoImagesError) as missing:
        find_set("urban100")
    sentence = str(missing.value)
    assert str(tmp_path / "sets" / "urban100") in sentence
    assert "100 images" in sentence
    assert "img_001.png, or HR/img001.png, or img_001_SRF_4_HR.png" in sentence
    assert SETS["urban100"].published in sentence
    with pytest.raises(UsageError, match="not a known set"):
        find_set("urban101")


def test_the_example_of_every_layout_matches_its_pattern() -> None:
    import re

    for each in SETS.values():
        for layout in each.layouts:
            patterns = (layout.clean, layout.degraded) if layout.degraded else (layout.clean,)
            shown = [layout.example, layout.example.replace("_SRF_4_HR", "")]
            assert any(re.fullmatch(pattern, one) for pattern in patterns for one in shown), (each.name, layout.example)


def test_bmp_files_of_test_sets_are_read(tmp_path: Path) -> None:
    pixels = photo(6, 5)
    codes = np.rint(pixels * 255).astype(np.uint8)
    PillowImage.fromarray(codes).save(tmp_path / "colour.bmp")
    PillowImage.fromarray(codes[..., 0]).save(tmp_path / "gray.bmp")
    assert np.array_equal(Item(name="", clean=tmp_path / "colour.bmp").read()[0], pixels)
    assert np.array_equal(Item(name="", clean=tmp_path / "gray.bmp").read()[0], pixels[..., :1])
    (tmp_path / "bad.bmp").write_bytes(b"BM")
    with pytest.raises(UnreadableImage, match="cannot be read as BMP"):
        Item(name="", clean=tmp_path / "bad.bmp").read()


def test_a_folder_or_a_list_of_pairs_of_the_user_is_found(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    save_photo(tmp_path / "b" / "2.png")
    save_photo(tmp_path / "1.png", seed=1)
    assert [item.name for item in find_folder(tmp_path)] == ["1.png", "b/2.png"]
    (tmp_path / "pairs.csv").write_text("image_path,condition_image_path,caption\n1.png,b/2.png,deblur\n")
    for given in (tmp_path, tmp_path / "pairs.csv"):
        (item,) = find_folder(given)
        assert (item.clean, item.degraded, item.prompt) == (tmp_path / "1.png", tmp_path / "b" / "2.png", "deblur")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoImagesError, match="holds no image"):
        find_folder(tmp_path / "empty")
