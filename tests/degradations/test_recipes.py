"""Degradation recipes: syntax, order of variants, sampling, requests, and targets of pairs."""

import numpy as np
import pytest

from sanarestore.degradations.draws import BOUNDS, DRAWS, POOL_OF_ALL, UNITS
from sanarestore.degradations.operations import (
    Blur,
    ColourShift,
    Exposure,
    GaussianNoise,
    Jpeg,
    LowLight,
    Pixels,
)
from sanarestore.degradations.photograph import Photograph
from sanarestore.degradations.recipes import CLEAN_ASKED, COMPOSED, CONFUSABLE, PRESETS, UNREAD, Plan, Recipe, stream
from sanarestore.degradations.requests import KINDS, LIGHT_AND_COLOUR, Request
from sanarestore.errors import UsageError


def gradient(height: int = 24, width: int = 30) -> Pixels:
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return (0.5 + 0.3 * np.sin(x / 6 + c) * np.cos(y / 5)).astype(np.float32)


def draw(line: str, turn: int = 0, *keys: str | int) -> Plan:
    return Recipe.parse(line).draw(stream("test", *keys, turn), turn)


def plans(line: str, count: int) -> list[Plan]:
    recipe = Recipe.parse(line)
    return [recipe.draw(stream("test", turn), turn) for turn in range(count)]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_parse_and_give_plans(name: str) -> None:
    assert Recipe.parse(name) == Recipe.parse(PRESETS[name])
    for plan in plans(name, 12):
        assert plan.degraded(gradient()).shape == (24, 30, 3)
        assert plan.prompt
        assert plan.label


@pytest.mark.parametrize(
    ("line", "label"),
    [
        ("noise:25", "noise:25"),
        (" Noise:25 ", "noise:25"),
        ("noise:25 + jpeg:20", "noise:25+jpeg:20"),
        ("poisson:0.5", "poisson:0.5"),
        ("blur:1.25+noise:5+jpeg:40", "blur:1.25+noise:5+jpeg:40"),
        ("clean", "clean"),
        ("EVERYTHING", "noise:10"),
        ("noise", "noise:10"),
    ],
)
def test_recipe_lines_give_the_expected_label(line: str, label: str) -> None:
    assert draw(line).label == label


@pytest.mark.parametrize(
    ("line", "fact"),
    [
        ("", "not a step"),
        ("noise:25,", "not a step"),
        ("noise:25+", "not a step"),
        ("fog:3", "'fog:3' is not a step"),
        ("noise:", "not a step"),
        ("noise:10-20-30", "not a step"),
        ("noise:10/20-30", "not a step"),
        ("noise:-5", "not a step"),
        ("photograph+jpeg:30", "'photograph' needs a level here"),
        ("jpeg:30+webp", "'webp' needs a level here"),
        ("photograph:1600", "levels from 0 to 12"),
        ("combined:3", "not a step"),
        ("noise:1..2", "needs levels from 0 to 255"),
        ("noise:256", "needs levels from 0 to 255"),
        ("jpeg:10/96", "needs levels from 1 to 95"),
        ("kernel:1", "needs levels from 3 to 99"),
        ("noise:50-5", "ends before it begins"),
        ("noise:5+combined", "'combined', which is a whole recipe"),
        ("selective+unneeded", "stand alone"),
        ("clean+noise:5", "'clean', which is a whole recipe"),
        ("combined-light:3", "not a step"),
    ],
)
def test_invalid_lines_are_refused_with_the_wrong_word(line: str, fact: str) -> None:
    with pytest.raises(UsageError, match="--recipe") as refusal:
        Recipe.parse(line)
    assert fact in str(refusal.value)


def test_a_preset_name_can_be_one_of_several_alternatives() -> None:
    assert Recipe.parse("photograph,webp:30") == Recipe.parse("photograph:7-12,webp:30")
    assert BOUNDS.keys() == UNITS.keys()


def test_alternatives_and_their_levels_alternate_in_order() -> None:
    labels = [plan.label for plan in plans("noise:10/20/30,jpeg:15/25,clean", 9)]
    assert labels == [
        "noise:10", "jpeg:15", "clean", "noise:20", "jpeg:25", "clean", "noise:30", "jpeg:15", "clean",
    ]  # fmt: skip


def test_levels_of_a_range_are_sampled_uniformly() -> None:
    recipe = Recipe.parse("noise:10-30")
    operations = [recipe.draw(stream("range", index), index).operations[0] for index in range(600)]
    sigmas = [operation.sigma for operation in operations if isinstance(operation, GaussianNoise)]
    assert len(sigmas) == 600
    assert 10 <= min(sigmas) < 10.5
    assert 29.5 < max(sigmas) <= 30
    assert np.mean(sigmas) == pytest.approx(20, abs=0.8)


def test_labels_name_the_sampled_levels() -> None:
    for plan in plans("jpeg:10-60", 30):
        (operation,) = plan.operations
        assert isinstance(operation, Jpeg)
        assert plan.label == f"jpeg:{operation.quality}"
    for plan in plans("kernel:3-21", 10):
        (operation,) = plan.operations
        size = int(plan.label.removeprefix("kernel:"))
        assert isinstance(operation, Blur)
        assert operation == Blur.of_kernel(size)
    labels = [part.rstrip("!") for plan in plans("combined,selective,unneeded", 90) for part in plan.label.split("+")]
    assert all(float(label.split(":")[1]).is_integer() for label in labels if label.startswith("jpeg"))


@pytest.mark.parametrize("line", ["everything", *COMPOSED, "camera:5-100", "lowlight:1-3"])
def test_plans_depend_on_the_stream_only(line: str) -> None:
    forwards = [draw(line, turn) for turn in range(16)]
    backwards = [draw(line, turn) for turn in reversed(range(16))]
    assert forwards == backwards[::-1]
    assert draw(line, 0, "a") != draw(line, 0, "b") or line in ("everything", "clean")


def test_streams_depend_on_all_their_keys() -> None:
    firsts = {keys: stream(*keys).random() for keys in [(0,), (1,), (0, 0), ("ab", 1), ("a", "b1"), (0, "sha", 3)]}
    assert len(set(firsts.values())) == len(firsts)
    assert stream(0, "sha", 3).random() == firsts[0, "sha", 3]


def test_operations_are_applied_from_left_to_right() -> None:
    plan = draw("blur:2+noise:25+jpeg:20")
    blur, noise, jpeg = plan.operations
    assert [operation.kind for operation in plan.operations] == ["blur", "noise", "jpeg"]
    assert np.array_equal(plan.degraded(gradient()), jpeg(noise(blur(gradient()))))
    assert np.array_equal(plan.target(gradient()), gradient())


def test_clean_pairs_are_unchanged_for_every_request() -> None:
    sampled = plans("clean", 400)
    for plan in sampled:
        assert plan.operations == plan.kept == ()
        assert np.array_equal(plan.degraded(gradient()), gradient())
        assert np.array_equal(plan.target(gradient()), gradient())
    asked = [plan.request.removes for plan in sampled]
    assert 0.4 < asked.count(None) / 400 < 0.6
    assert {kinds for kinds in asked if kinds} == {(kind,) for kind in CLEAN_ASKED}
    assert not {kind for kinds in asked for kind in kinds or ()} & set(LIGHT_AND_COLOUR)


def test_each_operation_has_its_own_noise() -> None:
    first, second = draw("noise:20+noise:20").operations
    assert first != second
    assert not np.array_equal(first(gradient()), second(gradient()))


def test_noise_kept_in_a_selective_target_is_identical() -> None:
    noise, jpeg = GaussianNoise(sigma=25, seed=77), Jpeg(quality=20)
    said = {"prompt": "remove JPEG artefacts", "request": Request.of("jpeg"), "label": "x"}
    plan = Plan(operations=(noise, jpeg), removed=(False, True), **said)
    clean = gradient()
    assert np.array_equal(plan.target(clean), noise(clean))
    assert np.array_equal(plan.degraded(clean), jpeg(plan.target(clean)))
    last = Plan(operations=(jpeg, noise), removed=(True, False), **said)
    # The noise is in both images, so their difference is the effect of JPEG alone.
    difference = last.degraded(clean) - last.target(clean)
    assert np.allclose(difference, jpeg(clean) - clean, atol=1e-6)


def test_selective_pairs_request_one_of_two_distinguishable_kinds() -> None:
    for plan in plans("selective", 300):
        kinds = {operation.kind for operation in plan.operations}
        assert len(plan.operations) == len(kinds) == 2
        assert kinds not in CONFUSABLE
        assert sorted(plan.removed) == [False, True]
        kept = [part.endswith("!") for part in plan.label.split("+")]
        assert kept == [not removed for removed in plan.removed]
        assert plan.request == Request.of(plan.operations[plan.removed.index(True)].kind)


def test_selective_targets_keep_the_other_operation_for_every_kind() -> None:
    seen = set()
    for plan in plans("selective", 60):
        stays = next(operation for operation, removed in zip(plan.operations, plan.removed, strict=True) if not removed)
        assert np.array_equal(plan.target(gradient()), stays(gradient()))
        assert not np.array_equal(plan.target(gradient()), plan.degraded(gradient()))
        seen.add(stays.kind)
    assert seen == set(KINDS)


def test_unneeded_pairs_request_kinds_that_are_not_present() -> None:
    for plan in plans("unneeded", 100):
        assert plan.removed == (False,)
        assert plan.request.removes is not None
        assert plan.operations[0].kind not in plan.request.removes
        assert np.array_equal(plan.target(gradient()), plan.degraded(gradient()))


def test_combined_applies_one_to_three_operations_in_any_order() -> None:
    sampled = plans("combined", 400)
    counts = np.bincount([len(plan.operations) for plan in sampled], minlength=4)
    assert counts[0] == 0
    assert (counts[1:] > 90).all()
    pairs = {tuple(part.split(":")[0] for part in plan.label.split("+")) for plan in sampled}
    assert ("noise", "jpeg") in pairs
    assert ("jpeg", "noise") in pairs


def test_combined_never_changes_light_or_colour() -> None:
    kinds = {operation.kind for plan in plans("combined", 300) for operation in plan.operations}
    assert kinds == set(KINDS) - set(LIGHT_AND_COLOUR)


def test_combined_light_changes_light_or_colour_and_requests_all_kinds() -> None:
    sampled = plans("combined-light", 300)
    for plan in sampled:
        kinds = {operation.kind for operation in plan.operations}
        assert kinds & set(LIGHT_AND_COLOUR)
        assert plan.request == Request.of(*kinds)
        # Everything is removed except the effect of a camera without noise.
        assert all(isinstance(each, Photograph) for each in plan.kept)
        assert plan.kept or np.array_equal(plan.target(gradient()), gradient())
    assert {operation.kind for plan in sampled for operation in plan.operations} == set(KINDS)
    assert {len(plan.operations) for plan in sampled} == {1, 2, 3}


@pytest.mark.parametrize(("line", "general"), [("noise:25+jpeg:20", 0.5), ("combined", 0.7), ("combined-light", 0.0)])
def test_prompts_name_all_removed_kinds_or_none(line: str, general: float) -> None:
    sampled = plans(line, 400)
    for plan in sampled:
        named = Request.of(*(operation.kind for operation in plan.operations))
        assert plan.request in (Request(), named)
    unprompted = sum(plan.request.removes is None for plan in sampled) / 400
    assert unprompted == pytest.approx(general, abs=0.07)


def unprompted_and_prompted(line: str) -> tuple[Plan, Plan]:
    """Return the first unprompted plan of a recipe and the first prompted one."""
    sampled = plans(line, 40)
    named = [plan.request.removes is not None for plan in sampled]
    return sampled[named.index(False)], sampled[named.index(True)]


def test_an_unprompted_dark_pair_loses_its_noise_only() -> None:
    unprompted, prompted = unprompted_and_prompted("lowlight:2")
    clean = gradient()
    dark = unprompted.target(clean)
    assert np.array_equal(dark, Exposure(stops=2)(clean))
    assert dark.mean() < 0.6 * clean.mean()
    # The degraded image is equally dark and differs from the target only by its noise.
    assert unprompted.degraded(clean).mean() == pytest.approx(dark.mean(), rel=0.03)
    assert np.abs(unprompted.degraded(clean) - dark).max() > 0.01
    assert np.array_equal(prompted.target(clean), clean)


def test_an_unprompted_pair_keeps_its_colours() -> None:
    unprompted, prompted = unprompted_and_prompted("colour:0.2")
    clean = gradient()
    assert np.array_equal(unprompted.target(clean), unprompted.degraded(clean))
    assert not np.array_equal(unprompted.target(clean), clean)
    assert np.array_equal(prompted.target(clean), clean)


@pytest.mark.parametrize("line", ["lowlight:2+jpeg:20", "noise:25+lowlight:2", "blur:1+lowlight:2+noise:10"])
def test_an_unprompted_dark_pair_loses_its_other_faults(line: str) -> None:
    unprompted, prompted = unprompted_and_prompted(line)
    assert unprompted.kept == (Exposure(stops=2),)
    assert np.array_equal(unprompted.target(gradient()), Exposure(stops=2)(gradient()))
    assert prompted.kept == ()


def test_an_unprompted_pair_keeps_light_and_colour_in_order() -> None:
    unprompted, _ = unprompted_and_prompted("lowlight:1+noise:25+colour:0.2")
    assert [operation.kind for operation in unprompted.kept] == ["lowlight", "colour"]
    assert unprompted.kept[1] == unprompted.operations[2]


def test_an_unprompted_dark_target_has_a_dark_mean() -> None:
    unprompted, prompted = unprompted_and_prompted("lowlight:2")
    overview = gradient(6, 8)
    assert np.array_equal(unprompted.target_on_average(overview), Exposure(stops=2)(overview))
    assert np.array_equal(prompted.target_on_average(overview), overview)


def test_a_kept_dark_exposure_keeps_its_noise_in_selective_pairs() -> None:
    """The request does not name the exposure, so its noise stays in the target."""
    kept = [
        plan for plan in plans("selective", 300)
        if any(isinstance(each, LowLight) for each in plan.kept)
    ]  # fmt: skip
    assert kept
    assert all(plan.kept == tuple(each for each in plan.operations if isinstance(each, LowLight)) for plan in kept)


def test_levels_of_the_pool_are_within_bounds() -> None:
    for text in POOL_OF_ALL:
        for term in Recipe.parse(text).alternatives[0]:
            low, high = BOUNDS[term.name]
            assert all(low <= level <= high for level in term.levels)
    assert BOUNDS.keys() == DRAWS.keys()


@pytest.mark.parametrize("name", DRAWS)
def test_every_name_gives_a_valid_operation_at_both_bounds(name: str) -> None:
    for level in BOUNDS[name]:
        operation = DRAWS[name](level, stream("bounds", name))
        assert operation.kind in (*KINDS, *UNREAD)
        assert np.isfinite(operation(gradient(9, 11))).all()


def test_colour_and_light_are_sampled_within_the_levels() -> None:
    for plan in plans("colour:0.2", 200):
        (shift,) = plan.operations
        assert isinstance(shift, ColourShift)
        amounts = np.abs([shift.brightness, shift.contrast, *(gain - 1 for gain in shift.gains)])
        assert amounts.max() <= 0.2 + 1e-12
    for plan in plans("lowlight:1-3", 50):
        (dark,) = plan.operations
        assert isinstance(dark, LowLight)
        assert 1 <= dark.stops <= 3
        assert 10**-3.7 <= dark.gain <= 10**-2.5
