"""Protocols, to the value: what the literature's scripts do, and what ours say they do."""

import io

import numpy as np
import pytest
from PIL import Image as PillowImage

from sanarestore.degradations.wordings import HELD_OUT
from sanarestore.errors import UsageError
from sanarestore.evaluation.metrics import to_8bit
from sanarestore.evaluation.tasks import TASKS, Levels, Trial, cases
from tests.conftest import photo


def only(task: str, number: int = 0, clean: object = None, **levels: object) -> Trial:
    (case,) = cases(task, Levels(**levels))  # type: ignore[arg-type]
    return case.trial(photo(40, 50) if clean is None else clean, None, number)  # type: ignore[arg-type]


def test_noise_is_that_of_the_usual_scripts_for_every_image() -> None:
    """`np.random.seed(0)` before every image, float64 normal of scale sigma/255 in HWC order, added in float."""
    clean = photo(40, 50)
    np.random.seed(0)
    expected = clean + np.random.normal(0, 25 / 255, clean.shape)
    for number in (0, 7):
        trial = only("denoise", number, sigma=(25,))
        assert np.array_equal(trial.degraded_HWC, expected.astype(np.float32))
        assert np.array_equal(trial.target_HWC, clean)
    assert trial.degraded_HWC.min() < 0, "not clipped"


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_pillow_s_at_that_quality(channels: int) -> None:
    clean = photo(40, 50)[..., :channels]
    codes = np.rint(clean * 255).astype(np.uint8)
    buffer = io.BytesIO()
    PillowImage.fromarray(codes if channels == 3 else codes[..., 0]).save(buffer, "JPEG", quality=10)
    expected = np.asarray(PillowImage.open(buffer), np.float32).reshape(clean.shape) / np.float32(255)
    assert np.array_equal(only("jpeg", clean=clean, quality=(10,)).degraded_HWC, expected)


def test_super_resolution_begins_from_whole_pixels_in_8_bits() -> None:
    trial = only("sr", clean=photo(41, 51), scale=(4,))
    assert trial.target_HWC.shape == trial.degraded_HWC.shape == (40, 48, 3)
    assert trial.border == 4
    smaller = trial.degraded_HWC[2::4, 2::4]
    assert np.abs(smaller - trial.target_HWC[2::4, 2::4]).mean() < 0.1
    assert np.diff(trial.degraded_HWC, axis=0).std() < np.diff(trial.target_HWC, axis=0).std()


def test_recipes_are_drawn_alike_each_time_and_stored_in_8_bits() -> None:
    for task, levels in (("mixed", {"draws": 1}), ("recipe", {"recipe": ("noise:25+jpeg:20",)}), ("deblur", {})):
        trial, again, other = (only(task, number, **levels) for number in (3, 3, 4))  # type: ignore[arg-type]
        assert np.array_equal(trial.degraded_HWC, again.degraded_HWC)
        assert np.array_equal(trial.degraded_HWC, to_8bit(trial.degraded_HWC).astype(np.float32))
        assert (task == "deblur") == np.array_equal(trial.degraded_HWC, other.degraded_HWC)
        assert np.array_equal(trial.target_HWC, photo(40, 50))


def test_prompt_pairs_name_one_of_two_in_held_out_words() -> None:
    pairs = [case.trial(photo(40, 50), None, 0) for case in cases("prompts", Levels(draws=6))]
    for trial in pairs:
        words = [prompt for prompts in HELD_OUT.values() for prompt in prompts]
        assert trial.prompt in words
        assert trial.wrong_prompt in words
        assert trial.prompt != trial.wrong_prompt
        assert not np.array_equal(trial.target_HWC, trial.degraded_HWC)
    assert len({trial.prompt for trial in pairs}) > 2


def test_given_pairs_are_taken_as_they_are() -> None:
    (case,) = cases("real", Levels())
    trial = case.trial(photo(4, 4), photo(4, 4, 1), 0)
    assert np.array_equal(trial.degraded_HWC, photo(4, 4, 1))
    with pytest.raises(UsageError, match="no degraded images"):
        case.trial(photo(4, 4), None, 0)


def test_every_task_is_known_and_no_other() -> None:
    for task in TASKS:
        made = cases(task, Levels(recipe=("noise:5",)))
        assert {case.task for case in made} == {task}
        assert len({(case.level, case.draw) for case in made}) == len(made)
        assert all("/" in case.protocol for case in made)
    with pytest.raises(UsageError, match="'denoising' is no task"):
        cases("denoising", Levels())
    with pytest.raises(UsageError, match="needs a recipe"):
        cases("recipe", Levels())
    with pytest.raises(UsageError, match="--recipe"):
        cases("recipe", Levels(recipe=("nois:3",)))
