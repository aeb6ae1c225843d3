"""Samples depend on the recipe, the photos and their number, and on nothing else."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from sanarestore import images
from sanarestore.degradations.grammar import read_grammar
from sanarestore.degradations.pairs import Pair
from sanarestore.degradations.recipes import stream
from sanarestore.degradations.requests import LIGHT_AND_COLOUR, Request
from sanarestore.degradations.wordings import Language, word_strangely
from sanarestore.errors import NoImagesError, UsageError
from sanarestore.training import photos as photos_module
from sanarestore.training.backdrops import before_backdrop
from sanarestore.training.data import (
    WORKER_NICENESS,
    OverviewSamples,
    PairSamples,
    PhotoSamples,
    Sample,
    WordingSamples,
    batches,
)
from sanarestore.training.photos import Photo, PhotoCache, Window
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.validation import pair_validation
from tests.conftest import photo


@pytest.fixture
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    """One language alone, which is read in no time."""
    monkeypatch.setattr("sanarestore.training.data.languages", lambda: (Language(grammar=read_grammar("en")),))


def recipe(**fields: object) -> TrainingRecipe:
    base: dict[str, object] = {"steps": 4, "batch": 3, "patch": 32, "workers": 0, "seed": 5}
    return TrainingRecipe(**{**base, **fields})  # type: ignore[arg-type]


def test_a_sample_is_the_same_whatever_was_asked_before(photos: list[Path]) -> None:
    first, second = PhotoSamples(photos, recipe()), PhotoSamples(photos, recipe())
    second[7], second[2]
    again, once = second[4], first[4]
    assert torch.equal(once["degraded"], again["degraded"])
    assert torch.equal(once["target"], again["target"])
    assert torch.equal(once["statistics"], again["statistics"])
    assert once["prompt"] == again["prompt"]


def test_samples_differ_and_the_seed_matters(photos: list[Path]) -> None:
    samples = PhotoSamples(photos, recipe())
    assert not torch.equal(samples[0]["degraded"], samples[3]["degraded"])
    assert not torch.equal(samples[0]["degraded"], PhotoSamples(photos, recipe(seed=6))[0]["degraded"])


def test_every_photo_comes_once_an_epoch(photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    samples = PhotoSamples(photos, recipe())
    used: list[Path] = []
    real = samples._most_detailed
    monkeypatch.setattr(samples, "_most_detailed", lambda photo, rng: (used.append(photo.path), real(photo, rng))[1])
    for index in range(6):
        samples[index]
    assert sorted(used[:3]) == sorted(used[3:]) == sorted(photos)


def test_noise_has_the_size_it_should(photos: list[Path]) -> None:
    samples = PhotoSamples(photos, recipe(degradations={"noise:25": 1.0}, quantized_fraction=0.0, gray=0.0))
    noise = torch.stack([samples[index]["degraded"] - samples[index]["target"] for index in range(12)])
    assert noise.std().item() * 255 == pytest.approx(25, rel=0.03)


def test_stored_pairs_are_8_bit_codes(photos: list[Path]) -> None:
    samples = PhotoSamples(photos, recipe(degradations={"noise:25": 1.0}, quantized_fraction=1.0))
    for name in ("degraded", "target"):
        codes = samples[0][name].numpy() * 255  # type: ignore[literal-required]
        assert np.abs(codes - np.rint(codes)).max() < 1e-4
        assert codes.min() >= 0
        assert codes.max() <= 255


def test_gray_samples_have_three_equal_channels(photos: list[Path]) -> None:
    sample = PhotoSamples(photos, recipe(gray=1.0, degradations={"noise:25": 1.0}))[0]
    assert torch.equal(sample["degraded"][0], sample["degraded"][2])
    assert torch.equal(sample["statistics"].view(-1, 4)[:, 0], sample["statistics"].view(-1, 4)[:, 2])


def test_the_statistics_are_those_of_the_degraded_photo(photos: list[Path]) -> None:
    """Darkened, every quantile falls; noise leaves them about there, save where it is clipped."""
    found = {}
    for line in ("clean", "lowlight:2", "noise:25"):
        samples = PhotoSamples(photos[:1], recipe(degradations={line: 1.0}, gray=0.0))
        found[line] = torch.stack([samples[index]["statistics"] for index in range(6)]).view(6, -1, 4)[..., :3]
    assert (found["lowlight:2"] < found["clean"] - 0.2).all()
    assert torch.allclose(found["noise:25"], found["clean"], atol=0.15)
    assert found["clean"].std(dim=0).max() > 0.02, "framed anew each time"


def test_overview_samples_are_cells_of_an_overview(photos: list[Path]) -> None:
    samples = OverviewSamples(photos, recipe(degradations={"lowlight:2": 1.0}, gray=0.0, patch=16))
    sample, again = samples[5], OverviewSamples(photos, samples.recipe)[5]
    assert all(torch.equal(sample[name], again[name]) for name in ("degraded", "target", "statistics"))  # type: ignore[literal-required]
    assert sample["degraded"].shape == sample["target"].shape == (3, 16, 16)
    assert (sample["degraded"] < sample["target"]).float().mean() > 0.99
    # The same cells of both: a brighter target was a brighter input.
    pairs = torch.stack([sample["degraded"].flatten(), sample["target"].flatten()])
    assert torch.corrcoef(pairs)[0, 1] > 0.9
    # Drawn from what the statistics are of.
    medians = sample["degraded"].flatten(1).median(dim=1).values
    assert torch.allclose((medians - 0.5) * 4, sample["statistics"].view(-1, 4)[3, :3], atol=0.3)


def test_a_kept_colour_is_the_target_s_too(photos: list[Path]) -> None:
    samples = OverviewSamples(photos, recipe(degradations={"unneeded": 1.0}, patch=16))
    assert all(torch.equal(samples[index]["degraded"], samples[index]["target"]) for index in range(20))


@pytest.mark.usefixtures("english")
def test_wordings_come_with_what_they_ask_for() -> None:
    samples = WordingSamples(recipe(steps=100))
    drawn = [samples[index] for index in range(300)]
    assert len(drawn) == len(samples)
    assert [sample["prompt"] for sample in drawn] == [WordingSamples(recipe())[index]["prompt"] for index in range(300)]
    for sample in drawn:
        assert sample["prompt"] == sample["wording"].text
        assert sample["request"] == sample["wording"].request
    assert {Request(), Request(None, understood=False), Request.of("noise")} <= {sample["request"] for sample in drawn}
    batch = next(batches(samples, recipe(steps=100), 0))
    assert batch.prompts == [sample["prompt"] for sample in drawn[:3]]
    assert batch.requests == tuple(sample["request"] for sample in drawn[:3])
    assert batch.wordings == tuple(sample["wording"] for sample in drawn[:3])


@pytest.mark.usefixtures("english")
def test_a_wording_is_named_by_seed_and_number() -> None:
    expected = word_strangely(stream(5, "wording", 7), (Language(grammar=read_grammar("en")),))
    assert WordingSamples(recipe())[7]["wording"] == expected
    assert WordingSamples(recipe(seed=6))[7]["wording"] != expected


def test_samples_come_with_what_their_prompt_asks_for(photos: list[Path]) -> None:
    """Unprompted, a dark crop is to stay dark, and prompted to become bright."""
    lines = {"degradations": {"lowlight:2": 1.0}, "gray": 0.0}
    for samples in (PhotoSamples(photos, recipe(**lines)), OverviewSamples(photos, recipe(patch=16, **lines))):
        drawn = [samples[index] for index in range(16)]
        assert {sample["request"] for sample in drawn} == {Request(), Request.of("lowlight")}
        for sample in drawn:
            brighter = (sample["target"] - sample["degraded"]).mean()
            assert (brighter > 0.1) if sample["request"].is_lit else (abs(brighter) < 0.03)
        batch = next(batches(samples, recipe(patch=16, **lines), 0))
        assert batch.requests == tuple(sample["request"] for sample in drawn[:3])
        assert batch.wordings == ()


@pytest.mark.parametrize("line", ["everything", "combined"])
def test_what_is_not_asked_for_is_no_other_light(photos: list[Path], line: str) -> None:
    samples = PhotoSamples(photos, recipe(degradations={line: 1.0}, gray=0.0, quantized_fraction=0.0))
    for index in range(24):
        sample = samples[index]
        if not set(sample["request"].removes or ()) & set(LIGHT_AND_COLOUR):
            assert abs((sample["target"] - sample["degraded"]).mean()) < 0.06


def test_some_show_a_plain_backdrop_and_the_others_stay_what_they_were(photos: list[Path]) -> None:
    lines = {"degradations": {"clean": 1.0}, "gray": 0.0, "quantized_fraction": 0.0}
    plain, without, some = (PhotoSamples(photos, recipe(backdrops=share, **lines)) for share in (1.0, 0.0, 0.5))
    alike = {True: 0, False: 0}
    for index in range(24):
        with_backdrop, photograph = plain[index]["target"], without[index]["target"]
        changed = (with_backdrop != photograph).any(dim=0)
        assert changed.any()
        shown = with_backdrop[:, changed]
        assert (shown == shown[:, :1]).all(), "one colour beyond a line, and the photograph before it"
        chosen = some[index]["target"]
        untouched = torch.equal(chosen, photograph)
        assert untouched or torch.equal(chosen, with_backdrop)
        assert plain[index]["prompt"] == without[index]["prompt"]
        alike[untouched] += 1
    assert min(alike.values()) > 4


def test_backdrops_are_flat_in_the_target_whatever_was_done_to_them(photos: list[Path]) -> None:
    """Noise and all comes on top of it: only what was photographed in front of it can be blurred or lost."""
    samples = PhotoSamples(
        photos, recipe(degradations={"noise:25": 1.0}, gray=0.0, backdrops=1.0, quantized_fraction=0.0)
    )
    wholly = [sample for index in range(40) if (sample := samples[index])["target"].flatten(1).std(dim=1).max() == 0]
    assert 5 < len(wholly) < 25, "some show nothing else"
    assert all(sample["degraded"].std() > 0.05 for sample in wholly)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_backdrop_lies_beyond_a_line_and_is_an_8_bit_colour(channels: int) -> None:
    clean = np.random.default_rng(9).random((40, 50, channels), dtype=np.float32)
    wholly, extreme = 0, 0
    for seed in range(200):
        shown = before_backdrop(clean, np.random.default_rng(seed))
        assert (shown.shape, shown.dtype) == (clean.shape, np.float32)
        beyond = (shown != clean).any(axis=2)
        (colour,) = np.unique(shown[beyond], axis=0)
        assert np.abs(colour * 255 - np.rint(colour * 255)).max() < 1e-4
        wholly += beyond.all()
        extreme += np.isin(colour, (0, 1)).all()
        # Of a half plane every row is beyond from one end on, or up to it.
        assert np.abs(np.diff(beyond.astype(int), axis=1)).sum(axis=1).max() <= 1
        assert np.abs(np.diff(beyond.astype(int), axis=0)).sum(axis=0).max() <= 1
    assert 0.25 < wholly / 200 < 0.45
    assert 0.3 < extreme / 200 < 0.5, "often white, black or saturated"


def test_framings_hold_the_crop(photos: list[Path]) -> None:
    taken = PhotoCache().photo(photos[0])
    whole = taken.overview
    for top, left, expected in ((0, 0, whole[:6, :6]), (80, 110, whole[-6:, -6:])):
        for seed in range(20):
            framed = taken.framing(Window(top, left, 10), np.random.default_rng(seed))
            assert min(framed.shape[:2]) >= 16
            corner = framed[:6, :6] if top == 0 else framed[-6:, -6:]
            assert framed.shape[:2] != whole.shape[:2] or np.array_equal(corner, expected)
            assert any(
                np.array_equal(framed, whole[y : y + framed.shape[0], x : x + framed.shape[1]])
                for y in range(whole.shape[0]) for x in range(whole.shape[1])
            )  # fmt: skip


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_for_any_number_of_workers(photos: list[Path], workers: int) -> None:
    samples = PhotoSamples(photos, recipe())
    got = list(batches(samples, recipe(workers=workers), first_step=2))
    assert len(got) == 2
    assert torch.equal(got[0].degraded_BCHW[1], samples[7]["degraded"])
    assert torch.equal(got[0].statistics_BK[1], samples[7]["statistics"])
    assert got[1].prompts[2] == samples[11]["prompt"]


class _Priorities(WordingSamples):
    """Samples that say how nice their process is."""

    def __getitem__(self, index: int) -> Sample:
        return {**super().__getitem__(index), "note": str(os.nice(0))}


@pytest.mark.usefixtures("english")
@pytest.mark.skipif(not hasattr(os, "nice"), reason="no priorities to give")
def test_workers_leave_the_processor_to_the_step() -> None:
    (batch,) = batches(_Priorities(recipe()), recipe(steps=1, workers=1), first_step=0)
    assert {int(note) for note in batch.notes} == {min(os.nice(0) + WORKER_NICENESS, 19)}


def test_pairs_are_cropped_alike(tmp_path: Path) -> None:
    clean = photo(80, 90)
    for name, pixels in (("clean", clean), ("bad", np.clip(clean * 0.5, 0, 1))):
        images.write(images.Image(pixels_HWC=pixels, depth="uint16", format="png"), tmp_path / f"{name}.png")
    pair = Pair(target=tmp_path / "clean.png", degraded=tmp_path / "bad.png", prompt="brighten")
    samples = PairSamples([pair], recipe())
    for index in range(5):
        sample = samples[index]
        assert sample["degraded"].shape == (3, 32, 32)
        assert torch.allclose(sample["degraded"] * 2, sample["target"], atol=1e-4)
        assert sample["prompt"] == "brighten"


def test_an_unreadable_photo_gives_way_to_the_next(photos: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n and nothing else")
    for kind in (PhotoSamples, OverviewSamples):
        samples = kind([photos[0], bad], recipe())
        again = kind([photos[0], bad], recipe())
        notes = [samples[index]["note"] for index in range(4)]
        assert sum(map(bool, notes)) == 2, "once an epoch"
        assert all(str(bad) in note and "left out" in note for note in notes if note)
        assert torch.equal(samples[3]["degraded"], again[3]["degraded"])
        with pytest.raises(NoImagesError, match="not one of them can be read"):
            kind([bad], recipe())[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_what_ends_a_run_is_said_in_its_own_words(tmp_path: Path, workers: int) -> None:
    """A pair of two sizes; in a worker process too, without that process's traceback."""
    for name, size in (("clean", (80, 90)), ("small", (40, 45))):
        images.write(images.Image(pixels_HWC=photo(*size), depth="uint8", format="png"), tmp_path / f"{name}.png")
    pair = Pair(target=tmp_path / "clean.png", degraded=tmp_path / "small.png", prompt="upscale")
    with pytest.raises(UsageError) as refused:
        list(batches(PairSamples([pair], recipe()), recipe(workers=workers), first_step=0))
    assert str(refused.value).startswith(
        f"{tmp_path / 'small.png'}: its size is not that of {tmp_path / 'clean.png'}: "
    )
    assert "45 x 40 and 90 x 80. Enlarge the smaller one first" in str(refused.value)
    assert "Traceback" not in str(refused.value)
    with pytest.raises(UsageError, match="its size is not that of"):
        pair_validation([pair])


def test_statistics_need_no_photo_a_second_time(photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos_module, "CACHE_BYTES", 1)
    samples = OverviewSamples(photos, recipe(patch=16))
    for index in range(3):
        samples[index]
    monkeypatch.setattr(images, "read", lambda _: pytest.fail("decoded again"))
    for index in range(3, 9):
        samples[index]


def test_the_most_detailed_place_is_taken(tmp_path: Path) -> None:
    pixels = np.full((400, 400, 3), 0.5, np.float32)
    pixels[100:260, 100:260] = np.random.default_rng(0).random((160, 160, 3))
    path = tmp_path / "half-empty.png"
    images.write(images.Image(pixels_HWC=pixels, depth="uint8", format="png"), path)

    def flat(candidates: int) -> float:
        chosen = recipe(candidates=candidates, degradations={"clean": 1.0}, shrink=0.0, gray=0.0)
        samples = PhotoSamples([path], chosen)
        return float(np.mean([samples[index]["target"].std().item() < 0.02 for index in range(40)]))

    assert flat(8) < flat(1) - 0.1


def test_without_a_choice_of_windows_detail_is_not_measured(
    photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[Window] = []
    monkeypatch.setattr(Photo, "detail", lambda _, window, every: measured.append(window) or 0.0)
    for candidates, expected in ((1, 0), (3, 3)):
        PhotoSamples(photos, recipe(candidates=candidates))[0]
        assert len(measured) == expected


def test_some_are_drawn_and_the_others_stay_what_they_were(photos: list[Path]) -> None:
    """A drawn one has its own statistics, and nothing of the photo whose turn it was."""
    lines = {"degradations": {"clean": 1.0}, "gray": 0.0}
    photographed, mixed, drawn = (
        PhotoSamples(photos, recipe(synthetic_fraction=share, **lines)) for share in (0.0, 0.5, 1.0)
    )
    alike = {True: 0, False: 0}
    for index in range(12):
        from_photo = torch.equal(mixed[index]["target"], photographed[index]["target"])
        assert from_photo != torch.equal(mixed[index]["target"], drawn[index]["target"])
        assert torch.equal(mixed[index]["statistics"], (photographed if from_photo else drawn)[index]["statistics"])
        alike[from_photo] += 1
    assert min(alike.values()) > 1
    others = PhotoSamples(photos[::-1], recipe(synthetic_fraction=1.0, **lines))
    assert torch.equal(others[3]["target"], drawn[3]["target"])


def test_small_photos_are_not_stretched(photos: list[Path]) -> None:
    """A photo smaller than the crop's span at the drawn scale is taken as it is."""
    samples = PhotoSamples(photos[:1], recipe(patch=48, shrink=1.0, shrink_most=3.0, degradations={"clean": 1.0}))
    for index in range(4):
        assert samples[index]["target"].shape == (3, 48, 48)
