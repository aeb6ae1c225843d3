"""Tests of the protocols of all tasks against the scripts of the literature and against recipes."""

import io

import numpy as np
import pytest
from PIL import Image as PillowImage

from sanarestore.degradations.recipes import Recipe, stream
from sanarestore.degradations.requests import PLAIN, Request
from sanarestore.degradations.wordings import HELD_OUT
from sanarestore.errors import UsageError
from sanarestore.evaluation.metrics import to_8bit
from sanarestore.evaluation.tasks import CLEAN, RECONSTRUCTION, TASKS, Example, Levels, cases
from tests.conftest import photo


def only(task: str, number: int = 0, clean: object = None, **levels: object) -> Example:
    (case,) = cases(task, Levels(**levels))  # type: ignore[arg-type]
    return case.trial(photo(40, 50) if clean is None else clean, None, number)  # type: ignore[arg-type]


def test_noise_equals_that_of_the_usual_scripts_for_every_image() -> None:
    """The scripts call `np.random.seed(0)` before every image and add float64 noise of scale sigma/255 in HWC order."""
    clean = photo(40, 50)
    np.random.seed(0)
    expected = clean + np.random.normal(0, 25 / 255, clean.shape)
    for number in (0, 7):
        trial = only("denoise", number, sigma=(25,))
        assert np.array_equal(trial.degraded_HWC, expected.astype(np.float32))
        assert np.array_equal(trial.target_HWC, clean)
    assert trial.degraded_HWC.min() < 0, "noisy values are not clipped"


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_equals_pillow_at_the_same_quality(channels: int) -> None:
    clean = photo(40, 50)[..., :channels]
    codes = np.rint(clean * 255).astype(np.uint8)
    buffer = io.BytesIO()
    PillowImage.fromarray(codes if channels == 3 else codes[..., 0]).save(buffer, "JPEG", quality=10)
    expected = np.asarray(PillowImage.open(buffer), np.float32).reshape(clean.shape) / np.float32(255)
    assert np.array_equal(only("jpeg", clean=clean, quality=(10,)).degraded_HWC, expected)


def test_super_resolution_crops_to_whole_pixels_and_trims_the_border() -> None:
    trial = only("sr", clean=photo(41, 51), scale=(4,))
    assert trial.target_HWC.shape == trial.degraded_HWC.shape == (40, 48, 3)
    assert trial.border == 4
    smaller = trial.degraded_HWC[2::4, 2::4]
    assert np.abs(smaller - trial.target_HWC[2::4, 2::4]).mean() < 0.1
    assert np.diff(trial.degraded_HWC, axis=0).std() < np.diff(trial.target_HWC, axis=0).std()


def test_recipes_are_repeatable_and_stored_in_8_bits() -> None:
    for task, levels in (
        ("mixed", Levels(draws=1)),
        ("recipe", Levels(recipe=("noise:25+jpeg:20",))),
        ("deblur", Levels()),
    ):
        case = cases(task, levels)[0]
        trial, repeated, other = (case.trial(photo(40, 50), None, number) for number in (3, 3, 4))
        assert np.array_equal(trial.degraded_HWC, repeated.degraded_HWC)
        assert np.array_equal(trial.degraded_HWC, to_8bit(trial.degraded_HWC).astype(np.float32))
        assert (task == "deblur") == np.array_equal(trial.degraded_HWC, other.degraded_HWC)
        assert np.array_equal(trial.target_HWC, photo(40, 50))


@pytest.mark.parametrize(
    ("line", "kinds"),
    [
        ("lowlight:2", ["lowlight"]), ("colour:0.2", ["colour"]), ("noise:25+colour:0.2", ["noise", "colour"]),
        ("lowlight:1+jpeg:40", ["jpeg", "lowlight"]),
    ],
)  # fmt: skip
def test_trials_of_light_and_colour_name_and_remove_them(line: str, kinds: list[str]) -> None:
    """Half of the sampled plans name nothing, so that their targets keep the light; the trials always name it."""
    for number in range(6):
        trial = only("recipe", number, recipe=(line,))
        assert trial.prompt == Request.of(*kinds).plain
        assert trial.wrong_prompt is None
        assert np.array_equal(trial.target_HWC, photo(40, 50))
        assert not np.array_equal(trial.degraded_HWC, photo(40, 50))


@pytest.mark.parametrize(
    "line", ["noise:25+jpeg:20", "blur:1.6", "lowres:2", "poisson:4", "combined", "photograph", "clean"]
)
def test_other_recipes_use_no_prompt(line: str) -> None:
    for number in range(6):
        trial = only("recipe", number, recipe=(line,))
        sampled = Recipe.parse(line).draw(stream("quality", line, number), number)
        assert trial.prompt is None
        assert np.array_equal(trial.degraded_HWC, to_8bit(sampled.degraded(photo(40, 50))).astype(np.float32))
        assert np.array_equal(trial.target_HWC, to_8bit(sampled.target(photo(40, 50))).astype(np.float32))
        assert sampled.kept or np.array_equal(trial.target_HWC, photo(40, 50))


def test_the_target_keeps_what_a_selective_recipe_keeps() -> None:
    """The prompt names light or colour only where these are removed."""
    prompts = set()
    for number in range(40):
        trial = only("recipe", number, recipe=("selective",))
        sampled = Recipe.parse("selective").draw(stream("quality", "selective", number), number)
        (named,) = (op.kind for op, gone in zip(sampled.operations, sampled.removed, strict=True) if gone)
        assert trial.prompt == (Request.of(named).plain if named in ("lowlight", "colour") else None)
        assert np.array_equal(trial.target_HWC, to_8bit(sampled.target(photo(40, 50))).astype(np.float32))
        prompts.add(trial.prompt)
    assert len(prompts) == 3


def test_the_mixed_task_is_measured_without_and_with_light_and_colour() -> None:
    made = cases("mixed", Levels(draws=3))
    assert [(case.level, case.draw) for case in made] == [
        (level, draw) for level in ("combined", "combined-light") for draw in range(3)
    ]
    for case in made:
        prompts = [case.trial(photo(40, 50), None, number).prompt or "" for number in range(4)]
        is_lit = [PLAIN["lowlight"] in prompt or PLAIN["colour"] in prompt for prompt in prompts]
        assert is_lit == [case.level == "combined-light"] * 4


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("noise:25+jpeg:20", 1), ("blur:1.6", 1), ("clean", 1), ("unneeded", 1), ("camera", 1), ("lowlight:2", 2),
        ("noise:25,colour:0.2", 2), ("combined", 4), ("selective", 2), ("everything", 4), ("photograph:9", 2),
    ],
)  # fmt: skip
def test_protocols_have_a_higher_number_where_figures_changed(line: str, number: int) -> None:
    (case,) = cases("recipe", Levels(recipe=(line,)))
    assert case.protocol == f"recipe-8bit/{number}"


def test_clean_images_are_restored_as_they_are_without_an_input_row() -> None:
    for task, degrades in ((CLEAN, False), (RECONSTRUCTION, False), ("denoise", True), ("real", True)):
        assert {case.degrades for case in cases(task, Levels())} == {degrades}
    (case,) = cases(CLEAN, Levels())
    trial = case.trial(photo(40, 50), photo(40, 50, 1), 0)
    assert np.array_equal(trial.degraded_HWC, photo(40, 50)), "the clean image of a pair is the input"
    assert np.array_equal(trial.target_HWC, photo(40, 50))
    assert (trial.prompt, trial.border) == (None, 0)


def test_prompt_pairs_name_one_of_two_degradations_in_held_out_words() -> None:
    pairs = [case.trial(photo(40, 50), None, 0) for case in cases("prompts", Levels(draws=6))]
    for trial in pairs:
        words = [prompt for prompts in HELD_OUT.values() for prompt in prompts]
        assert trial.prompt in words
        assert trial.wrong_prompt in words
        assert trial.prompt != trial.wrong_prompt
        assert not np.array_equal(trial.target_HWC, trial.degraded_HWC)
    assert len({trial.prompt for trial in pairs}) > 2


def test_real_pairs_are_measured_unchanged() -> None:
    (case,) = cases("real", Levels())
    trial = case.trial(photo(4, 4), photo(4, 4, 1), 0)
    assert np.array_equal(trial.degraded_HWC, photo(4, 4, 1))
    with pytest.raises(UsageError, match="no degraded images"):
        case.trial(photo(4, 4), None, 0)


def test_all_tasks_have_cases_and_unknown_tasks_are_refused() -> None:
    for task in TASKS:
        made = cases(task, Levels(recipe=("noise:5",)))
        assert {case.task for case in made} == {task}
        assert len({(case.level, case.draw) for case in made}) == len(made)
        assert all("/" in case.protocol for case in made)
    with pytest.raises(UsageError, match="'denoising' is not a known task"):
        cases("denoising", Levels())
    with pytest.raises(UsageError, match="needs a recipe"):
        cases("recipe", Levels())
    with pytest.raises(UsageError, match="--recipe"):
        cases("recipe", Levels(recipe=("nois:3",)))
