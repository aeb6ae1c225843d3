"""Data checked before training: faults of the images of pairs by line, notes on doubts, and folders that hold pairs."""

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sanarestore import images
from sanarestore.degradations.recipes import Recipe, stream
from sanarestore.errors import NoImagesError, SanarestoreError, UsageError
from sanarestore.images import Metadata, Pixels, quantize
from sanarestore.training import pair_images
from sanarestore.training.making import PairBatch
from sanarestore.training.preflight import check_pairs, check_photos, fingerprint_of
from sanarestore.training.recipe import TrainingRecipe
from tests.conftest import photo, save_photo

HEAD = "image_path,condition_image_path,caption\n"

RECIPE = TrainingRecipe(name="tiny", patch=32, validation_photos=2)


def save(path: Path, pixels: Pixels, orientation: int | None = None) -> Path:
    """Write an 8-bit PNG, with an orientation tag if one is given."""
    exif = None
    if orientation is not None:
        exif = b"II*\0" + struct.pack("<LHHHLHHL", 8, 1, 274, 3, 1, orientation, 0, 0)
    image = images.Image(pixels_HWC=pixels, depth="uint8", format="png", metadata=Metadata(exif=exif))
    images.write(image, path, overwrite=True)
    return path


def noisy(clean: Pixels, seed: int = 0, sigma: float = 20) -> Pixels:
    noise = np.random.default_rng(seed).normal(0, sigma / 255, clean.shape).astype(np.float32)
    return quantize(np.clip(clean + noise, 0, 1))


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A list of four pairs, without faults."""
    for index in range(4):
        save(tmp_path / f"c{index}.png", photo(96, 128, seed=index))
        save(tmp_path / f"n{index}.png", noisy(photo(96, 128, seed=index), index))
    path = tmp_path / "pairs.csv"
    path.write_text(HEAD + "".join(f"c{index}.png,n{index}.png,remove noise\n" for index in range(4)))
    return path


def message(listed: Path) -> str:
    with pytest.raises(UsageError) as refusal:
        check_pairs(listed, RECIPE)
    return str(refusal.value).removeprefix(f"{listed}: ")


def test_pairs_without_faults_are_split_and_measured(listed: Path) -> None:
    found = check_pairs(listed, RECIPE)
    assert (len(found.pairs), len(found.held_pairs), found.photographs) == (2, 2, 4)
    assert found.megapixels == pytest.approx(8 * 96 * 128 / 1e6)
    assert found.smallest == found.largest == (128, 96)
    assert found.fingerprint == fingerprint_of([(pair.target, pair.degraded) for pair in found.pairs])
    assert found.notes == ("4 photographs are few: a long training overfits them",)


def test_all_faults_of_texts_and_images_are_one_error(listed: Path) -> None:
    save(listed.parent / "n1.png", photo(64, 64))
    (listed.parent / "n2.png").write_bytes(b"no image")
    (listed.parent / "c3.png").unlink()
    first, *lines = message(listed).splitlines()
    assert first == "the list has 3 faults. Correct them and run the command again."
    starts = [
        "  line 3: n1.png has 64 x 64",
        "  line 4: n2.png: it is not an image",
        "  line 5: there is no file c3.png",
    ]
    assert all(line.startswith(start) for line, start in zip(lines, starts, strict=True))


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-600])


@pytest.mark.parametrize(
    ("spoil", "fact"),
    [
        (lambda folder: (folder / "n1.png").write_bytes(b""), "line 3: n1.png: it is empty"),
        (lambda folder: (folder / "n1.png").write_bytes(b"text"), "line 3: n1.png: it is not an image"),
        (lambda folder: (folder / "n1.png").write_bytes(b"GIF89a" + bytes(60)), "line 3: n1.png: it is a GIF file"),
        (lambda folder: damage(folder / "c1.png"), "line 3: c1.png: "),
        (lambda folder: save(folder / "n1.png", photo(48, 64)), "2.00 times as large. If all pairs are"),
        (lambda folder: save(folder / "n1.png", photo(32, 43)), "the target is 2.98 times as large. In pairs of low"),
        (lambda folder: save(folder / "c1.png", photo(48, 64)), "the degraded image is 2.00 times as large. Shrink"),
        (lambda folder: save(folder / "n1.png", photo(128, 96)), "The orientation was applied to one of them only"),
        (lambda folder: save(folder / "n1.png", photo(96, 120)), "and its target c1.png has 128 x 96. Both must show"),
    ],
)  # fmt: skip
def test_an_image_that_does_not_fit_is_one_clear_message(listed: Path, spoil: object, fact: str) -> None:
    spoil(listed.parent)  # type: ignore[operator]
    found = message(listed)
    assert found.startswith("line 3: ")
    assert fact in found
    assert "\n" not in found


def test_small_inputs_are_taken_if_the_recipe_says_how_many_times_smaller_they_are(listed: Path) -> None:
    for index in range(4):
        save(listed.parent / f"n{index}.png", photo(48, 64, index))
    recipe = TrainingRecipe(scale=2, patch=64, validation_photos=1)
    found = check_pairs(listed, recipe)
    assert (len(found.pairs), len(found.held_pairs)) == (3, 1)
    assert not [note for note in found.notes if "smaller than the crops" in note], "targets are large enough"
    assert "set scale = 2 in the recipe" in message(listed)
    with pytest.raises(UsageError, match=r"n0.png has 64 x 48 .* must have exactly 4 times the width and height"):
        check_pairs(listed, replace(recipe, scale=4))
    save(listed.parent / "n1.png", photo(96, 128))
    with pytest.raises(UsageError, match=r"line 3: n1.png has 128 x 96 .* exactly 2 times"):
        check_pairs(listed, recipe)


def test_both_images_of_a_row_are_looked_into(listed: Path) -> None:
    damage(listed.parent / "c1.png")
    (listed.parent / "n1.png").write_bytes(b"text")
    save(listed.parent / "n2.png", photo(64, 64))
    damage(listed.parent / "n2.png")
    facts = ("line 3: c1.png:", "line 3: n1.png: it is not", "line 4: n2.png has 64 x 64", "line 4: n2.png:")
    assert all(f"  {fact}" in line for fact, line in zip(facts, message(listed).splitlines()[1:], strict=True))


def test_an_animation_is_refused(listed: Path) -> None:
    from PIL import Image

    frames = [Image.fromarray(np.full((96, 128, 3), value, np.uint8)) for value in (0, 90)]
    frames[0].save(listed.parent / "n0.png", format="WEBP", save_all=True, append_images=frames[1:])
    assert "line 2: n0.png: it is an animation of 2 frames" in message(listed)


def test_a_file_with_a_fault_is_told_once_with_all_its_lines(listed: Path) -> None:
    damage(listed.parent / "c0.png")
    listed.write_text(HEAD + "".join(f"c0.png,n{index}.png,x\n" for index in range(4)))
    assert message(listed).startswith("line 2: c0.png: ")
    assert "(also in lines 3, 4 and 5)" in message(listed)
    assert message(listed).endswith("Restore the file from a backup, or remove the line.")


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_an_orientation_applied_to_one_image_only_is_a_fault(listed: Path, orientation: int) -> None:
    clean = photo(96, 128, seed=1)
    turned = {2: clean[:, ::-1], 3: clean[::-1, ::-1], 4: clean[::-1]}[orientation]
    save(listed.parent / "c1.png", np.ascontiguousarray(turned), orientation)
    assert message(listed).startswith("line 3: an orientation tag was applied to one of the two images only")


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_square_image_that_was_turned_is_a_fault(listed: Path, orientation: int) -> None:
    clean = photo(96, 96, seed=1)
    stored = {5: clean.transpose(1, 0, 2), 6: np.rot90(clean), 7: np.rot90(clean, 2).transpose(1, 0, 2)}
    stored[8] = np.rot90(clean, -1)
    save(listed.parent / "c1.png", np.ascontiguousarray(stored[orientation]), orientation)
    save(listed.parent / "n1.png", noisy(clean))
    assert "line 3: an orientation tag was applied" in message(listed)


def test_an_orientation_tag_that_one_image_lacks_is_harmless_where_pixels_agree(listed: Path) -> None:
    save(listed.parent / "c1.png", photo(96, 128, seed=1), 3)
    assert check_pairs(listed, RECIPE).photographs == 4


def swapped(found: tuple[str, ...]) -> bool:
    return any("swapped" in note for note in found)


def made(folder: Path, line: str, *, reverse: bool) -> Path:
    """A list of pairs made by a recipe, with its columns exchanged if asked."""
    rows = []
    for index in range(5):
        clean = photo(128, 144, seed=index)
        plan = Recipe.parse(line).draw(stream("preflight", line, index), index)
        pixels = [quantize(plan.target(clean)), quantize(plan.degraded(clean))]
        names = [f"{kind}{index}.png" for kind in "ab"]
        for name, each in zip(names, pixels, strict=True):
            save(folder / name, each)
        rows.append(",".join([*(reversed(names) if reverse else names), "x"]))
    listed = folder / "pairs.csv"
    listed.write_text(HEAD + "\n".join(rows))
    return listed


@pytest.mark.parametrize("line", ["noise", "jpeg", "blur", "lowres", "poisson"])
def test_swapped_columns_are_noticed(tmp_path: Path, line: str) -> None:
    notes = check_pairs(made(tmp_path, line, reverse=True), RECIPE).notes
    assert notes[0].startswith("in 5 of 5 pairs that show it, the target is the worse image")
    assert swapped(notes)


@pytest.mark.parametrize(
    "line", ["noise", "jpeg", "blur", "lowres", "camera", "photograph", "lowlight", "selective", "combined", "clean"]
)
def test_pairs_in_their_right_order_raise_no_doubt(tmp_path: Path, line: str) -> None:
    assert not swapped(check_pairs(made(tmp_path, line, reverse=False), RECIPE).notes)


def test_pairs_of_equal_images_and_of_different_scenes_are_noted(listed: Path) -> None:
    save(listed.parent / "n1.png", photo(96, 128, seed=1))
    save(listed.parent / "n3.png", np.ascontiguousarray(1 - photo(96, 128, seed=3)))
    notes = check_pairs(listed, RECIPE).notes
    assert "input and target are equal in line 3: such pairs teach the network to change nothing" in notes
    assert "the two images of a pair seem to show different scenes in line 5" in notes


def test_small_images_are_noted(listed: Path) -> None:
    notes = check_pairs(listed, replace(RECIPE, patch=112)).notes
    assert "c0.png and 7 more are smaller than the crops of 112 x 112 pixels: they are continued by mirroring" in [
        note.removeprefix(f"{listed.parent}/") for note in notes
    ]


def test_of_many_pairs_an_even_sample_is_decoded(listed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_images, "MOST_PAIRS", 2)
    damage(listed.parent / "n0.png")
    assert message(listed).startswith("line 2: n0.png: ")
    save(listed.parent / "n0.png", noisy(photo(96, 128)))
    notes = check_pairs(listed, RECIPE).notes
    assert notes[0] == "the headers of all images were read, and the pixels of 2 of 4 pairs"


def test_progress_counts_the_pairs(listed: Path) -> None:
    told: list[tuple[int, int]] = []
    check_pairs(listed, RECIPE, lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_pairs_of_one_photograph_are_validated_on_crops_of_it(listed: Path) -> None:
    listed.write_text(HEAD + "".join(f"c0.png,n{index}.png,x\n" for index in range(4)))
    found = check_pairs(listed, RECIPE)
    assert (len(found.pairs), len(found.held_pairs)) == (4, 2)
    assert "validation uses crops of the training photographs: there is only one" in found.notes
    assert check_pairs(listed, replace(RECIPE, validation_photos=0)).held_pairs == ()


def test_one_photograph_is_validated_on_crops_of_it(tmp_path: Path) -> None:
    alone = save_photo(tmp_path / "a.png", 64, 64)
    for data in (tmp_path, alone):
        found = check_photos(data, RECIPE)
        assert found.photos == found.held_photos == (alone,)
        assert "validation uses crops of the training photographs: there is only one" in found.notes
    assert check_photos(tmp_path, replace(RECIPE, validation_photos=0)).held_photos == ()


def test_clean_photographs_are_split_and_measured(tmp_path: Path) -> None:
    for index in range(12):
        save_photo(tmp_path / "shoot" / f"{index:02}.png", 40 + index, 64)
    (tmp_path / "shoot" / "empty.png").touch()
    found = check_photos(tmp_path / "shoot", RECIPE)
    assert (len(found.photos), len(found.held_photos), found.photographs) == (10, 2, 12)
    assert (found.smallest, found.largest) == ((64, 40), (64, 51))
    assert found.files == [(photo,) for photo in found.photos]
    assert found.notes == (f"{tmp_path / 'shoot' / 'empty.png'}: it is empty; it is left out",)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A folder that `degrade` has filled, beside its clean photographs."""
    save_photo(tmp_path / "clean" / "a.png", 64, 64)
    batch = PairBatch(images.find([str(tmp_path / "clean")]), tmp_path / "pairs", recipe="selective", variants=2)
    assert {outcome.status for outcome in batch.run()} == {"done"}
    return tmp_path / "pairs"


@pytest.mark.parametrize("named", ["pairs", "pairs/degraded", "pairs/target", "pairs/.", "clean/../pairs"])
def test_a_folder_of_pairs_is_no_folder_of_clean_photographs(pairs: Path, named: str) -> None:
    with pytest.raises(UsageError, match="it holds pairs, not clean photographs") as refusal:
        check_photos(pairs.parent / named, RECIPE)
    assert str(pairs / "pairs.csv") in str(refusal.value).replace("clean/../", "")


def test_unfinished_pairs_are_to_be_finished_first(pairs: Path) -> None:
    (pairs / "pairs.csv").unlink()
    with pytest.raises(UsageError, match="Finish making them with `degrade`"):
        check_photos(pairs, RECIPE)


def test_pairs_below_a_folder_of_photographs_are_passed_over(pairs: Path) -> None:
    found = check_photos(pairs.parent, RECIPE)
    assert [path.name for path in found.photos] == ["a.png"]
    assert f"4 images of pairs are left out: {pairs / 'pairs.csv'} lists them" in found.notes
    (pairs.parent / "clean" / "a.png").unlink()
    with pytest.raises(UsageError, match=r"it holds pairs.*pairs\.csv"):
        check_photos(pairs.parent, RECIPE)


@pytest.mark.parametrize("name", ["pairs.csv", "train.csv"])
def test_lists_of_other_makers_are_found(listed: Path, name: str) -> None:
    listed.rename(listed.with_name(name))
    with pytest.raises(UsageError, match=f"Name .*{name}"):
        check_photos(listed.parent, RECIPE)
    save_photo(listed.parents[1] / "above" / "x.png")
    (listed.parents[1] / "above" / "notes.csv").write_text("name,date\nx.png,today\n")
    assert check_photos(listed.parents[1] / "above", RECIPE).photographs == 1


def test_two_folders_of_equal_names_are_noted(tmp_path: Path) -> None:
    for folder in ("clean", "noisy"):
        for index in range(3):
            save_photo(tmp_path / folder / f"{index}.png")
    assert any(
        note.startswith("clean/ and noisy/ hold files of the same names")
        for note in check_photos(tmp_path, RECIPE).notes
    )
    for index in range(3):
        (tmp_path / "noisy" / f"{index}.png").rename(tmp_path / "noisy" / f"other{index}.png")
    assert not any("same names" in note for note in check_photos(tmp_path, RECIPE).notes)


@pytest.mark.parametrize("name", ["pairs.txt", "pairs.tsv", "pairs.json", "pairs"])
def test_a_list_of_another_name_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(HEAD)
    with pytest.raises(UsageError, match=r"neither a folder of photographs nor a list of pairs. Save .* \.csv"):
        check_photos(tmp_path / name, RECIPE)


@pytest.mark.parametrize(
    ("names", "error", "fact"),
    [
        ((), UsageError, "there is no such file or folder"),
        (("data/notes.txt",), NoImagesError, "there is no image in a supported format"),
        (("data/a.png",), NoImagesError, "there is no image"),
    ],
)
def test_folders_without_photographs_are_refused(
    tmp_path: Path, names: tuple[str, ...], error: type[SanarestoreError], fact: str
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text")
    with pytest.raises(error, match=fact):
        check_photos(tmp_path / "data", RECIPE)


def test_photographs_that_are_all_damaged_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(save_photo(tmp_path / "b.png").read_bytes()[:20])
    (tmp_path / "b.png").unlink()
    with pytest.raises(NoImagesError, match="none of the photographs can be read"):
        check_photos(tmp_path, RECIPE)
