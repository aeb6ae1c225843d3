"""Training samples: determined by the recipe, the photos and the sample's number alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sanarestore import images
from sanarestore.degradations.grammar import read_grammar
from sanarestore.degradations.operations import ColourShift
from sanarestore.degradations.pairs import Pair
from sanarestore.degradations.recipes import Recipe as Degradation
from sanarestore.degradations.recipes import stream
from sanarestore.degradations.requests import LIGHT_AND_COLOUR, Request
from sanarestore.degradations.wordings import Language, word_strangely
from sanarestore.errors import NoImagesError, UsageError
from sanarestore.images import Pixels, quantize
from sanarestore.model.colour_correction import QUANTILE_STATISTICS, colour_statistics, overview
from sanarestore.training import photos as photos_module
from sanarestore.training.backdrops import before_backdrop
from sanarestore.training.batching import batches
from sanarestore.training.data import (
    OverviewSamples,
    PairSamples,
    PhotoSamples,
    Sample,
    WordingSamples,
    on_average,
    overview_sample,
    small_sample,
)
from sanarestore.training.photos import SMALL_SIDE, CropWindow, Photo, PhotoCache, to_tensor
from sanarestore.training.recipe import TrainingRecipe
from tests.conftest import photo


@pytest.fixture
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use English only, because reading all grammars is slow."""
    monkeypatch.setattr("sanarestore.training.data.languages", lambda: (Language(grammar=read_grammar("en")),))


def recipe(**fields: object) -> TrainingRecipe:
    base: dict[str, object] = {"steps": 4, "batch": 3, "patch": 32, "workers": 0, "seed": 5}
    return TrainingRecipe(**{**base, **fields})  # type: ignore[arg-type]


def test_a_sample_does_not_depend_on_earlier_samples(photos: list[Path]) -> None:
    first, second = PhotoSamples(photos, recipe()), PhotoSamples(photos, recipe())
    second[7], second[2]
    repeated, once = second[4], first[4]
    assert torch.equal(once["degraded"], repeated["degraded"])
    assert torch.equal(once["target"], repeated["target"])
    assert torch.equal(once["statistics"], repeated["statistics"])
    assert once["prompt"] == repeated["prompt"]


def test_samples_differ_by_number_and_seed(photos: list[Path]) -> None:
    samples = PhotoSamples(photos, recipe())
    assert not torch.equal(samples[0]["degraded"], samples[3]["degraded"])
    assert not torch.equal(samples[0]["degraded"], PhotoSamples(photos, recipe(seed=6))[0]["degraded"])


def test_every_photo_is_used_once_per_epoch(photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    samples = PhotoSamples(photos, recipe())
    used: list[Path] = []
    real = samples._most_detailed
    monkeypatch.setattr(samples, "_most_detailed", lambda photo, rng: (used.append(photo.path), real(photo, rng))[1])
    for index in range(6):
        samples[index]
    assert sorted(used[:3]) == sorted(used[3:]) == sorted(photos)


def test_noise_of_samples_has_the_recipes_sigma(photos: list[Path]) -> None:
    samples = PhotoSamples(photos, recipe(degradations={"noise:25": 1.0}, quantized_fraction=0.0, gray=0.0))
    noise = torch.stack([samples[index]["degraded"] - samples[index]["target"] for index in range(12)])
    assert noise.std().item() * 255 == pytest.approx(25, rel=0.03)


def test_quantized_pairs_are_8_bit_codes(photos: list[Path]) -> None:
    samples = PhotoSamples(photos, recipe(degradations={"noise:25": 1.0}, quantized_fraction=1.0))
    for name in ("degraded", "target"):
        codes = samples[0][name].numpy() * 255  # type: ignore[literal-required]
        assert np.abs(codes - np.rint(codes)).max() < 1e-4
        assert codes.min() >= 0
        assert codes.max() <= 255


def test_gray_samples_have_three_equal_channels(photos: list[Path]) -> None:
    sample = PhotoSamples(photos, recipe(gray=1.0, degradations={"noise:25": 1.0}))[0]
    assert torch.equal(sample["degraded"][0], sample["degraded"][2])
    quantiles, extremes = sample["statistics"].split((QUANTILE_STATISTICS, 24))
    for each in (quantiles.view(-1, 4), extremes.view(-1, 3)):
        assert torch.equal(each[:, 0], each[:, 2])


def test_statistics_are_those_of_the_degraded_photo(photos: list[Path]) -> None:
    """Darkening lowers every quantile; noise hardly changes them, except for clipping."""
    found = {}
    for line in ("clean", "lowlight:2", "noise:25"):
        samples = PhotoSamples(photos[:1], recipe(degradations={line: 1.0}, gray=0.0))
        measured = torch.stack([samples[index]["statistics"][:QUANTILE_STATISTICS] for index in range(6)])
        found[line] = measured.view(6, -1, 4)[..., :3]
    assert (found["lowlight:2"] < found["clean"] - 0.2).all()
    assert torch.allclose(found["noise:25"], found["clean"], atol=0.15)
    assert found["clean"].std(dim=0).max() > 0.02, "each sample has its own framing"


def test_overview_samples_are_pixels_of_an_overview(photos: list[Path]) -> None:
    samples = OverviewSamples(photos, recipe(degradations={"lowlight:2": 1.0}, gray=0.0, patch=16))
    sample, repeated = samples[5], OverviewSamples(photos, samples.recipe)[5]
    assert all(torch.equal(sample[name], repeated[name]) for name in ("degraded", "target", "statistics"))  # type: ignore[literal-required]
    assert sample["degraded"].shape == sample["target"].shape == (3, 16, 16)
    assert (sample["degraded"] < sample["target"]).float().mean() > 0.99
    # Both hold the same pixels, so brighter targets belong to brighter inputs.
    pairs = torch.stack([sample["degraded"].flatten(), sample["target"].flatten()])
    assert torch.corrcoef(pairs)[0, 1] > 0.9
    # The pixels are sampled from the overview that the statistics measure.
    medians = sample["degraded"].flatten(1).median(dim=1).values
    assert torch.allclose((medians - 0.5) * 4, sample["statistics"].view(-1, 4)[3, :3], atol=0.3)


def test_extremes_of_an_overview_are_degraded_like_its_means() -> None:
    image = photo(256, 384)
    shift = ColourShift(brightness=0.05, contrast=-0.1, gains=(0.9, 1.0, 0.8))
    seen, wanted = (overview(to_tensor(each)).permute(1, 2, 0).numpy() for each in (image, shift(image)))
    assert np.allclose(on_average(shift.on_average, seen), wanted, atol=1e-5)
    gray = on_average(shift.on_average, seen, gray=True)
    assert gray.shape == seen.shape
    assert np.array_equal(gray[..., 0::3], gray[..., 2::3]), "gray stays gray"


def test_blur_beside_a_colour_shift_reaches_the_extremes() -> None:
    """Means of cells hardly show a blur, but the darkest and brightest parts of cells do."""
    clean, rng = photo(256, 384), np.random.default_rng(0)
    plan = Degradation.parse("colour:0.2+blur:8").draw(rng, 0)
    sample = small_sample(clean, plan, 16, rng)
    assert torch.equal(
        sample["statistics"], colour_statistics(overview(to_tensor(quantize(plan.degraded(clean)))))
    )  # fmt: skip
    seen = overview(to_tensor(clean)).permute(1, 2, 0).numpy()
    alike = overview_sample(seen, plan, 16, rng)
    spans = [
        each["statistics"][QUANTILE_STATISTICS:].view(-1, 3)[[0, 3]].diff(dim=0).mean() for each in (sample, alike)
    ]
    assert spans[0] < spans[1] - 0.1
    gray = small_sample(clean, plan, 16, rng, gray=True)
    assert torch.equal(gray["target"][0], gray["target"][2])


@pytest.mark.parametrize(
    ("line", "is_small"), [("colour:0.2", False), ("colour:0.2+blur:2", True), ("lowlight:2", False)]
)
def test_only_what_moves_extremes_is_degraded_pixel_by_pixel(
    photos: list[Path], monkeypatch: pytest.MonkeyPatch, line: str, is_small: bool
) -> None:
    sizes = []

    def recorded(clean: Pixels, *given: Any, **more: Any) -> Sample:
        sizes.append(clean.shape)
        return small_sample(clean, *given, **more)

    monkeypatch.setattr("sanarestore.training.data.small_sample", recorded)
    samples = OverviewSamples(photos, recipe(degradations={line: 1.0}, patch=16))
    assert all(samples[index]["request"] for index in range(4))
    assert bool(sizes) == is_small
    assert all(max(height, width) <= SMALL_SIDE and channels == 3 for height, width, channels in sizes)


def test_a_small_photo_keeps_its_shape_and_mean(tmp_path: Path) -> None:
    whole = photo(600, 900)
    images.write(images.Image(pixels_HWC=whole, depth="uint16", format="png"), tmp_path / "large.png")
    taken = PhotoCache().photo(tmp_path / "large.png")
    assert (taken.small.shape, taken.small.dtype) == ((256, SMALL_SIDE, 3), np.uint8)
    assert taken.small.mean() / 255 == pytest.approx(whole.mean(), abs=0.01)


def test_all_samples_of_overviews_ask_for_light_or_colour(photos: list[Path]) -> None:
    lines = {"colour:0.2": 1.0, "selective": 1.0, "noise:25": 1.0}
    samples = OverviewSamples(photos, recipe(degradations=lines, patch=16))
    requests = [samples[index]["request"] for index in range(24)]
    assert all(request and (request.is_lit or request.is_coloured) for request in requests)
    with pytest.raises(UsageError, match="asks for light or colour"):
        OverviewSamples(photos, recipe(degradations={"noise:25": 1.0}, patch=16))[0]


def test_distinct_samples_come_again(photos: list[Path]) -> None:
    samples = OverviewSamples(photos, recipe(degradations={"colour:0.2": 1.0}, patch=16, distinct_samples=3))
    fresh = OverviewSamples(photos, recipe(degradations={"colour:0.2": 1.0}, patch=16))
    assert samples[4] is samples[1]
    assert torch.equal(samples[1]["degraded"], fresh[1]["degraded"])
    assert not torch.equal(fresh[4]["degraded"], fresh[1]["degraded"])


def test_a_kept_colour_shift_is_in_the_target_too(photos: list[Path]) -> None:
    samples = OverviewSamples(photos, recipe(degradations={"unneeded": 1.0}, patch=16))
    assert all(torch.equal(samples[index]["degraded"], samples[index]["target"]) for index in range(20))


@pytest.mark.usefixtures("english")
def test_wording_samples_come_with_their_requests() -> None:
    samples = WordingSamples(recipe(steps=100))
    sampled = [samples[index] for index in range(300)]
    assert len(sampled) == len(samples)
    assert [sample["prompt"] for sample in sampled] == [
        WordingSamples(recipe())[index]["prompt"] for index in range(300)
    ]
    for sample in sampled:
        assert sample["prompt"] == sample["wording"].text
        assert sample["request"] == sample["wording"].request
    assert {Request(), Request(None, understood=False), Request.of("noise")} <= {
        sample["request"] for sample in sampled
    }
    batch = next(batches(samples, recipe(steps=100), 0))
    assert batch.prompts == [sample["prompt"] for sample in sampled[:3]]
    assert batch.requests == tuple(sample["request"] for sample in sampled[:3])
    assert batch.wordings == tuple(sample["wording"] for sample in sampled[:3])


@pytest.mark.usefixtures("english")
def test_a_wording_depends_on_seed_and_number_only() -> None:
    expected = word_strangely(stream(5, "wording", 7), (Language(grammar=read_grammar("en")),))
    assert WordingSamples(recipe())[7]["wording"] == expected
    assert WordingSamples(recipe(seed=6))[7]["wording"] != expected


def test_samples_come_with_the_request_of_their_prompt(photos: list[Path]) -> None:
    """The target of a dark crop is dark without a prompt for light, and bright with one."""
    lines = {"degradations": {"lowlight:2": 1.0}, "gray": 0.0}
    for samples in (PhotoSamples(photos, recipe(**lines)), OverviewSamples(photos, recipe(patch=16, **lines))):
        sampled = [samples[index] for index in range(16)]
        unprompted = () if isinstance(samples, OverviewSamples) else (Request(),)
        assert {sample["request"] for sample in sampled} == {*unprompted, Request.of("lowlight")}
        for sample in sampled:
            brighter = (sample["target"] - sample["degraded"]).mean()
            assert (brighter > 0.1) if sample["request"].is_lit else (abs(brighter) < 0.03)
        batch = next(batches(samples, recipe(patch=16, **lines), 0))
        assert batch.requests == tuple(sample["request"] for sample in sampled[:3])
        assert batch.wordings == ()


@pytest.mark.parametrize("line", ["everything", "combined"])
def test_light_stays_unless_the_request_names_light_or_colour(photos: list[Path], line: str) -> None:
    samples = PhotoSamples(photos, recipe(degradations={line: 1.0}, gray=0.0, quantized_fraction=0.0))
    for index in range(24):
        sample = samples[index]
        if not set(sample["request"].removes or ()) & set(LIGHT_AND_COLOUR):
            assert abs((sample["target"] - sample["degraded"]).mean()) < 0.06


def test_a_share_of_samples_has_a_backdrop_and_others_are_unchanged(photos: list[Path]) -> None:
    lines = {"degradations": {"clean": 1.0}, "gray": 0.0, "quantized_fraction": 0.0}
    plain, without, some = (PhotoSamples(photos, recipe(backdrops=share, **lines)) for share in (1.0, 0.0, 0.5))
    counts = {True: 0, False: 0}
    for index in range(24):
        with_backdrop, photograph = plain[index]["target"], without[index]["target"]
        changed = (with_backdrop != photograph).any(dim=0)
        assert changed.any()
        shown = with_backdrop[:, changed]
        assert (shown == shown[:, :1]).all(), "the backdrop has one colour"
        chosen = some[index]["target"]
        untouched = torch.equal(chosen, photograph)
        assert untouched or torch.equal(chosen, with_backdrop)
        assert plain[index]["prompt"] == without[index]["prompt"]
        counts[untouched] += 1
    assert min(counts.values()) > 4


def test_backdrops_are_flat_in_the_target_and_degraded_in_the_input(photos: list[Path]) -> None:
    """Degradations apply after the backdrop is added."""
    samples = PhotoSamples(
        photos, recipe(degradations={"noise:25": 1.0}, gray=0.0, backdrops=1.0, quantized_fraction=0.0)
    )
    flat = [sample for index in range(40) if (sample := samples[index])["target"].flatten(1).std(dim=1).max() == 0]
    assert 5 < len(flat) < 25, "some samples show only a backdrop"
    assert all(sample["degraded"].std() > 0.05 for sample in flat)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_backdrop_fills_a_half_plane_with_an_8_bit_colour(channels: int) -> None:
    clean = np.random.default_rng(9).random((40, 50, channels), dtype=np.float32)
    full, extreme = 0, 0
    for seed in range(200):
        shown = before_backdrop(clean, np.random.default_rng(seed))
        assert (shown.shape, shown.dtype) == (clean.shape, np.float32)
        beyond = (shown != clean).any(axis=2)
        (colour,) = np.unique(shown[beyond], axis=0)
        assert np.abs(colour * 255 - np.rint(colour * 255)).max() < 1e-4
        full += beyond.all()
        extreme += np.isin(colour, (0, 1)).all()
        # A half plane changes at most once along every row and column.
        assert np.abs(np.diff(beyond.astype(int), axis=1)).sum(axis=1).max() <= 1
        assert np.abs(np.diff(beyond.astype(int), axis=0)).sum(axis=0).max() <= 1
    assert 0.25 < full / 200 < 0.45
    assert 0.3 < extreme / 200 < 0.5, "many backdrops are white, black or saturated"


def test_framings_contain_the_crop(photos: list[Path]) -> None:
    taken = PhotoCache().photo(photos[0])
    whole = taken.overview
    for top, left, expected in ((0, 0, whole[:6, :6]), (80, 110, whole[-6:, -6:])):
        for seed in range(20):
            framed = taken.framing(CropWindow(top, left, 10), np.random.default_rng(seed))
            assert min(framed.shape[:2]) >= 16
            corner = framed[:6, :6] if top == 0 else framed[-6:, -6:]
            assert framed.shape[:2] != whole.shape[:2] or np.array_equal(corner, expected)
            assert any(
                np.array_equal(framed, whole[y : y + framed.shape[0], x : x + framed.shape[1]])
                for y in range(whole.shape[0]) for x in range(whole.shape[1])
            )  # fmt: skip


def test_both_images_of_a_pair_get_the_same_crop(tmp_path: Path) -> None:
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


def test_an_unreadable_photo_is_replaced_by_the_next(photos: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n and nothing else")
    darkened = recipe(degradations={"lowlight:2": 1.0})
    for kind in (PhotoSamples, OverviewSamples):
        samples = kind([photos[0], bad], darkened)
        repeated = kind([photos[0], bad], darkened)
        notes = [samples[index]["note"] for index in range(4)]
        assert sum(map(bool, notes)) == 2, "the photo is reported once per epoch"
        assert all(str(bad) in note and "left out" in note for note in notes if note)
        assert torch.equal(samples[3]["degraded"], repeated[3]["degraded"])
        with pytest.raises(NoImagesError, match="not one of them can be read"):
            kind([bad], darkened)[0]


def test_statistics_of_a_known_photo_need_no_second_decoding(
    photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photos_module, "CACHE_BYTES", 1)
    samples = OverviewSamples(photos, recipe(degradations={"colour:0.2": 1.0, "selective": 1.0}, patch=16))
    for photo_of in map(samples._cache.photo, photos):
        assert photo_of.overview.ndim == photo_of.small.ndim == 3
    monkeypatch.setattr(images, "read", lambda _: pytest.fail("decoded again"))
    for index in range(3, 9):
        samples[index]


def test_more_candidates_give_fewer_flat_crops(tmp_path: Path) -> None:
    pixels = np.full((400, 400, 3), 0.5, np.float32)
    pixels[100:260, 100:260] = np.random.default_rng(0).random((160, 160, 3))
    path = tmp_path / "half-empty.png"
    images.write(images.Image(pixels_HWC=pixels, depth="uint8", format="png"), path)

    def flat(candidates: int) -> float:
        chosen = recipe(candidates=candidates, degradations={"clean": 1.0}, shrink=0.0, gray=0.0)
        samples = PhotoSamples([path], chosen)
        return float(np.mean([samples[index]["target"].std().item() < 0.02 for index in range(40)]))

    assert flat(8) < flat(1) - 0.1


def test_detail_is_not_measured_for_a_single_candidate(photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[CropWindow] = []
    monkeypatch.setattr(Photo, "detail", lambda _, window, every: measured.append(window) or 0.0)
    for candidates, expected in ((1, 0), (3, 3)):
        PhotoSamples(photos, recipe(candidates=candidates))[0]
        assert len(measured) == expected


def test_a_share_of_samples_is_synthetic_and_others_are_unchanged(photos: list[Path]) -> None:
    """A synthetic sample has its own statistics and does not depend on the photos."""
    lines = {"degradations": {"clean": 1.0}, "gray": 0.0}
    photographed, mixed, synthetic = (
        PhotoSamples(photos, recipe(synthetic_fraction=share, **lines)) for share in (0.0, 0.5, 1.0)
    )
    counts = {True: 0, False: 0}
    for index in range(12):
        from_photo = torch.equal(mixed[index]["target"], photographed[index]["target"])
        assert from_photo != torch.equal(mixed[index]["target"], synthetic[index]["target"])
        assert torch.equal(mixed[index]["statistics"], (photographed if from_photo else synthetic)[index]["statistics"])
        counts[from_photo] += 1
    assert min(counts.values()) > 1
    others = PhotoSamples(photos[::-1], recipe(synthetic_fraction=1.0, **lines))
    assert torch.equal(others[3]["target"], synthetic[3]["target"])


def test_small_photos_are_not_stretched(photos: list[Path]) -> None:
    """A photo smaller than the crop at the sampled scale is used at its own scale."""
    samples = PhotoSamples(photos[:1], recipe(patch=48, shrink=1.0, shrink_most=3.0, degradations={"clean": 1.0}))
    for index in range(4):
        assert samples[index]["target"].shape == (3, 48, 48)
