"""Tests of the benchmark: definitions of scores, rows of their means, and reuse of stored scores."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from sanarestore import images
from sanarestore.engine import workers
from sanarestore.errors import OutOfMemory, SanarestoreError, UnreadableImage, UsageError, WeightsError
from sanarestore.evaluation.benchmark import Benchmark, Method, _hash_file
from sanarestore.evaluation.datasets import Item
from sanarestore.evaluation.flat_fields import FLAT_FIELDS
from sanarestore.evaluation.metrics import frechet_distance, luma, psnr, psnr_b, sharpness, ssim, to_8bit
from sanarestore.evaluation.rows import Score, _unpacked, bootstrap, packed, rows
from sanarestore.evaluation.running import read_scores, run
from sanarestore.evaluation.tasks import Case, Example, Levels, cases
from sanarestore.images import Pixels
from sanarestore.ndjson import Lines
from tests.conftest import photo, save_photo


class Halfway(Method):
    """Move half of the way to the target, and add a small offset that depends on the seed."""

    name = "halfway"
    settings = "1"
    parameters = 7
    reads_prompts = True

    def __init__(self, seeds: Sequence[int] = (0,), device: str = "") -> None:
        self.seeds = seeds
        self.prompts: list[str | None] = []
        self.prepared: list[tuple[str | None, int]] = []

    def prepare(self, prompt: str | None, seed: int) -> None:
        self.prepared.append((prompt, seed))

    def __call__(self, trial: Example, prompt: str | None, seed: int) -> Pixels:
        self.prompts.append(prompt)
        share = 0.0 if prompt is not None and prompt == trial.wrong_prompt else 0.5
        return trial.degraded_HWC + share * (trial.target_HWC - trial.degraded_HWC) + np.float32(0.002 * seed)


def halfway(seeds: Sequence[int], device: str) -> list[Halfway]:
    return [Halfway(seeds)]


@pytest.fixture
def items(tmp_path: Path) -> tuple[Item, ...]:
    paths = [save_photo(tmp_path / f"{seed}.png", 40, 56, seed) for seed in range(3)]
    return tuple(Item(name=path.name, clean=path) for path in paths)


def plan(items: tuple[Item, ...], *made: Case, seeds: Sequence[int] = (0,), **fields: Any) -> Benchmark:
    return Benchmark(dataset="ours", items=items, cases=made, methods=partial(halfway, seeds), **fields)


NOISE = cases("denoise", Levels(sigma=(25,)))


def test_scores_equal_their_definitions(items: tuple[Item, ...]) -> None:
    (case,) = cases("jpeg", Levels(quality=(20,)))
    degraded, ours = list(run(plan(items[:1], case), ["cpu"]))
    clean = photo(40, 56)
    trial = case.trial(clean, None, 0)
    result = to_8bit((trial.degraded_HWC + clean) / 2)
    assert ours.parameters == 7
    assert ours.memory is None or ours.memory >= 0
    assert ours.psnr == pytest.approx(psnr(result, clean), abs=1e-3)
    assert ours.ssim == pytest.approx(ssim(result, clean), abs=1e-4)
    assert ours.psnr_y == pytest.approx(psnr(luma(result), luma(clean)), abs=1e-3)
    assert ours.psnr_b == pytest.approx(psnr_b(result, clean), abs=1e-3)
    assert degraded.psnr == pytest.approx(psnr(trial.degraded_HWC, clean), abs=1e-6)
    assert (degraded.method, ours.method) == ("degraded", "halfway")
    assert (ours.level, ours.protocol) == ("20", case.protocol)
    assert ours.megapixels == 40 * 56 / 1e6
    assert ours.sharpness == pytest.approx(sharpness(result, clean), abs=1e-4)
    assert ours.agreement is None


def test_borders_are_not_scored_and_equal_images_have_a_finite_psnr(items: tuple[Item, ...]) -> None:
    (case,) = cases("sr", Levels(scale=(2,)))
    trial = case.trial(photo(40, 56), None, 0)
    degraded, _ = run(plan(items[:1], case), ["cpu"])
    inner = (slice(2, -2), slice(2, -2))
    assert degraded.psnr == pytest.approx(psnr(to_8bit(trial.degraded_HWC[inner]), trial.target_HWC[inner]), abs=1e-6)
    (clean,) = cases("recipe", Levels(recipe=("clean",)))
    assert [score.psnr for score in run(plan(items[:1], clean), ["cpu"])] == [100.0, 100.0]


def test_gray_versions_are_rounded_luma(items: tuple[Item, ...]) -> None:
    degraded, _ = run(plan(items[:1], *NOISE, gray=True), ["cpu"])
    clean = to_8bit(photo(40, 56) @ np.array([[0.299], [0.587], [0.114]])).astype(np.float32)
    noisy = NOISE[0].trial(clean, None, 0).degraded_HWC
    assert degraded.psnr == pytest.approx(psnr(to_8bit(noisy), clean), abs=1e-6)
    assert degraded.psnr_y is None


def test_rows_are_means_over_images(items: tuple[Item, ...]) -> None:
    scores = list(run(plan(items, *NOISE), ["cpu"]))
    degraded, ours = rows(scores)
    assert ours.images == 3
    assert ours.psnr == pytest.approx(np.mean([score.psnr for score in scores[1::2]]))
    assert ours.gain == pytest.approx(ours.psnr - degraded.psnr)
    assert ours.gain == pytest.approx(6.02, abs=0.25), "half of the error is a gain of 6 dB"
    assert ours.interval[0] <= ours.psnr <= ours.interval[1]
    assert ours.gain_interval[0] <= ours.gain <= ours.gain_interval[1]
    assert (ours.improved, degraded.improved, degraded.gain) == (1, 0, 0)
    assert "seed_deviation" not in ours.to_json()
    assert ours.to_json()["psnr"] == ours.psnr


def test_the_deviation_between_seeds_excludes_that_between_images(items: tuple[Item, ...]) -> None:
    scores = list(run(plan(items, *NOISE, seeds=(0, 1, 2)), ["cpu"]))
    ours = rows(scores)[1]
    means = [
        np.mean([score.psnr for score in scores if score.seed == n and score.method == "halfway"]) for n in range(3)
    ]
    assert ours.seed_deviation == pytest.approx(np.std(means, ddof=1))
    assert ours.seed_deviation > 0
    # Seeds shift every value by 0.002 and 0.004, which is 54 and 48 dB.
    assert ours.seed_agreement == pytest.approx((-20 * np.log10(0.002) - 20 * np.log10(0.004)) / 2, abs=0.01)
    assert ours.images == 3


def test_prompt_pairs_compare_the_right_with_the_wrong_prompt(items: tuple[Item, ...]) -> None:
    scores = list(run(plan(items, *cases("prompts", Levels(draws=2))), ["cpu"]))
    degraded, ours = rows(scores)
    assert ours.right_beats_wrong == 1
    assert ours.margin == pytest.approx(np.mean([min(s.psnr, 60) - s.wrong_psnr for s in scores[1::2]]))  # type: ignore[operator]
    assert (ours.images, len(scores)) == (3, 12)
    assert degraded.margin is None


class Shifted(Method):
    """Add some codes to one value in the last corner."""

    name = "shifted"
    settings = "1"
    reads_prompts = True

    def __init__(self, codes: Callable[[Pixels], float] = lambda image: 0) -> None:
        self.codes = codes
        self.prompts: list[str | None] = []

    def __call__(self, trial: Example, prompt: str | None, seed: int) -> Pixels:
        self.prompts.append(prompt)
        result = trial.degraded_HWC.copy()
        result[-1, -1, -1] += self.codes(trial.degraded_HWC) / 255
        return result


def clean_plan(method: Method, items: tuple[Any, ...], **fields: Any) -> Benchmark:
    return Benchmark(
        dataset="ours", items=items, cases=cases("clean", Levels()), methods=lambda device: [method], **fields
    )


def test_harm_is_reported_as_mean_worst_image_and_largest_change(items: tuple[Item, ...]) -> None:
    changed = {items[0].read()[0].tobytes(): 3, items[1].read()[0].tobytes(): -9}
    method = Shifted(lambda image: changed.get(image.tobytes(), 0))
    scores = list(run(clean_plan(method, items), ["cpu"]))
    (ours,) = rows(scores)
    expected = [-10 * np.log10((codes / 255) ** 2 / (40 * 56 * 3)) for codes in (3, 9)] + [100.0]
    assert [score.psnr for score in scores] == pytest.approx(expected)
    assert ours.psnr == pytest.approx(np.mean(expected))
    assert ours.worst_psnr == pytest.approx(expected[1])
    assert ours.worst_image == "1.png"
    assert ours.largest_change == 9
    assert (ours.gain, ours.improved) == (None, None)
    (noise,) = [row for row in rows(run(plan(items, *NOISE), ["cpu"])) if row.method == "halfway"]
    assert (noise.worst_psnr, noise.worst_image, noise.largest_change) == (None, None, None), (
        "these figures are only for clean images"
    )


def test_changes_below_half_a_code_do_not_count(items: tuple[Item, ...]) -> None:
    for codes, change in ((0.49, 0), (0.51, 1)):
        (ours,) = rows(run(clean_plan(Shifted(lambda image, codes=codes: codes), items[:1]), ["cpu"]))
        assert ours.largest_change == change
        assert (ours.psnr == 100) == (change == 0)


def test_clean_images_are_restored_without_captions(tmp_path: Path) -> None:
    item = Item(
        name="a", clean=save_photo(tmp_path / "a.png"), degraded=save_photo(tmp_path / "b.png", seed=1), prompt="x"
    )
    method = Shifted()
    (score,) = run(clean_plan(method, (item,)), ["cpu"])
    assert method.prompts == [None]
    assert (score.prompt, score.psnr) == ("", 100), "the degraded image of the pair is not used"
    method.prompt = "remove noise"
    (score,) = run(clean_plan(method, (item,), captions=False), ["cpu"])
    assert (method.prompts, score.prompt) == ([None, None], "remove noise"), "the prompt of the run is used"


def test_flat_fields_are_scored_to_the_last_pixel(tmp_path: Path) -> None:
    colours = [field.read()[0] for field in FLAT_FIELDS]
    assert len({field.name for field in FLAT_FIELDS}) == 27
    assert all(colour.shape == (96, 96, 3) and np.ptp(colour, axis=(0, 1)).max() == 0 for colour in colours)
    assert {tuple(np.rint(colour[0, 0] * 255)) for colour in colours} == set(product((0, 128, 255), repeat=3))
    method = Shifted(lambda image: 2 if np.all(image == image[0, 0]) and image[0, 0, -1] < 0.1 else 0)
    lines = Lines(tmp_path / "scores.jsonl")
    for _ in range(2):
        (ours,) = rows(run(clean_plan(method, FLAT_FIELDS), ["cpu"], lines))
        assert (ours.images, ours.largest_change) == (27, 2)
        assert ours.worst_image == "rgb(0,0,0)"
        assert len(method.prompts) == 27, "every field is restored once"
    (gray,) = rows(run(clean_plan(method, FLAT_FIELDS, gray=True), ["cpu"]))
    assert gray.protocol == "harm-8bit/1, gray"


def test_the_prompt_of_a_run_takes_precedence_over_those_of_recipes(items: tuple[Item, ...]) -> None:
    light = cases("recipe", Levels(recipe=("lowlight:2",)))
    asked = {}
    for captions in (True, False):
        method = Shifted()
        made = Benchmark(
            dataset="d", items=items[:1], cases=light, methods=lambda device, it=method: [it], captions=captions
        )
        list(run(made, ["cpu"]))
        asked[captions] = method.prompts
    assert asked == {True: ["brighten this photo"], False: [None]}
    method = Shifted()
    pairs = cases("prompts", Levels(draws=1))
    made = Benchmark(dataset="d", items=items[:1], cases=pairs, methods=lambda device: [method], captions=False)
    list(run(made, ["cpu"]))
    assert None not in method.prompts, "the prompts task always uses its own prompts"


class Strength(Method):
    """Move part of the way to a blurred image, by one of several strengths."""

    best_of = "smooth"

    def __init__(self, strength: float) -> None:
        self.name = self.settings = f"smooth ({strength:g})"
        self._strength = strength
        self.calls = 0

    def __call__(self, trial: Example, prompt: str | None, seed: int) -> Pixels:
        self.calls += 1
        smooth_HWC = ndimage.uniform_filter(trial.degraded_HWC, (3, 3, 1))
        return trial.degraded_HWC + self._strength * (smooth_HWC - trial.degraded_HWC)


def test_the_best_of_several_strengths_is_the_row_of_each_case(items: tuple[Item, ...], tmp_path: Path) -> None:
    strengths = [Strength(each) for each in (0.1, 0.5, 1)]
    made = Benchmark(
        dataset="ours", items=items, cases=cases("denoise", Levels(sigma=(0, 50))),
        methods=lambda device: [*strengths, Shifted()],
    )  # fmt: skip
    lines = Lines(tmp_path / "scores.jsonl")
    scores = list(run(made, ["cpu"], lines))
    found = rows(scores)
    assert [(row.level, row.method) for row in found] == [
        ("0", "degraded"), ("0", "smooth (0.1)"), ("0", "shifted"),
        ("50", "degraded"), ("50", "smooth (1)"), ("50", "shifted"),
    ]  # fmt: skip
    means = {
        name: np.mean([score.psnr for score in scores if (score.level, score.method) == ("50", name)])
        for name in ("smooth (0.1)", "smooth (0.5)", "smooth (1)")
    }
    assert found[4].psnr == pytest.approx(max(means.values()))
    assert found[4].gain == pytest.approx(found[4].psnr - found[3].psnr)
    assert len({score.method for score in read_scores(lines)}) == 5, "the scores of all strengths are stored"
    calls = [each.calls for each in strengths]
    assert rows(run(made, ["cpu"], lines)) == found
    assert [each.calls for each in strengths] == calls, "no strength is measured twice"
    pictures = made.on("cpu", {}).pictures(0, made.cases[1], [row.method for row in found[3:]])
    assert list(pictures) == ["degraded", "smooth (1)", "shifted", "target"]


class PromptFree(Halfway):
    reads_prompts = False


def prompt_free(device: str) -> list[PromptFree]:
    return [PromptFree()]


def test_methods_without_prompts_are_not_run_for_the_wrong_prompt(items: tuple[Item, ...]) -> None:
    unprompted = replace(plan(items, *cases("prompts", Levels(draws=1))), methods=prompt_free)
    ours = rows(run(unprompted, ["cpu"]))[1]
    assert (ours.margin, ours.right_beats_wrong) == (None, None)


def test_the_caption_of_a_pair_is_its_prompt(tmp_path: Path) -> None:
    item = Item(
        name="a", clean=save_photo(tmp_path / "a.png"), degraded=save_photo(tmp_path / "b.png", seed=1), prompt="deblur"
    )
    method = Halfway()
    made = Benchmark(dataset="d", items=(item,), cases=cases("real", Levels()), methods=lambda device: [method])
    list(run(made, ["cpu"]))
    assert method.prompts == ["deblur"]


def test_stored_scores_are_reused_while_nothing_changes(
    items: tuple[Item, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Lines(tmp_path / "run" / "scores.jsonl")
    method = Halfway()
    made = Benchmark(dataset="ours", items=items, cases=NOISE, methods=lambda device: [method])
    stopped = run(made, ["cpu"], lines)
    early = [next(stopped) for _ in range(3)]
    stopped.close()
    assert list(read_scores(lines)) == early
    assert len(method.prompts) == 1
    scores = list(run(made, ["cpu"], lines))
    assert scores[:3] == early
    assert len(method.prompts) == 3
    assert list(read_scores(lines)) == scores
    # A changed file under the same name, or changed settings, are measured anew.
    save_photo(items[0].clean, 40, 56, seed=9)
    _hash_file.cache_clear()
    assert list(run(made, ["cpu"], lines))[2:] == scores[2:]
    assert len(method.prompts) == 4
    method.settings = "2"
    list(run(made, ["cpu"], lines))
    assert len(method.prompts) == 7
    monkeypatch.setattr("sanarestore.evaluation.benchmark.__version__", "another")
    list(run(made, ["cpu"], lines))
    assert len(method.prompts) == 10
    list(run(replace(made, gray=True), ["cpu"], lines))
    assert len(method.prompts) == 13


def test_super_resolution_is_also_scored_on_luma_for_gray_images(items: tuple[Item, ...]) -> None:
    (case,) = cases("sr", Levels(scale=(2,)))
    for gray in (False, True):
        _, ours = list(run(plan(items[:1], case, gray=gray), ["cpu"]))
        assert ours.psnr_y is not None
        assert ours.ssim_y is not None
        if gray:
            assert (ours.psnr_y, ours.ssim_y) == (pytest.approx(ours.psnr), pytest.approx(ours.ssim))


def test_pairs_of_different_size_are_refused(tmp_path: Path) -> None:
    item = Item(name="a", clean=save_photo(tmp_path / "a.png"), degraded=save_photo(tmp_path / "b.png", 24, 32))
    with pytest.raises(UsageError, match=r"b.png: is not of the size of .*a.png: 32 x 24 x 3 and "):
        list(run(plan((item,), *cases("real", Levels())), ["cpu"]))


def test_a_method_that_runs_out_of_memory_is_named(items: tuple[Item, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    def large(*_: object) -> Pixels:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Halfway, "__call__", large)
    with pytest.raises(OutOfMemory, match=r"0\.png: halfway does not fit into memory"):
        list(run(plan(items, *NOISE), ["cpu"]))


def test_a_pair_is_measured_anew_when_its_degraded_file_changes(tmp_path: Path) -> None:
    item = Item(name="a", clean=save_photo(tmp_path / "a.png"), degraded=save_photo(tmp_path / "b.png", seed=1))
    lines, method = Lines(tmp_path / "scores.jsonl"), Halfway()
    made = Benchmark(dataset="d", items=(item,), cases=cases("real", Levels()), methods=lambda device: [method])
    for seed, measured in ((1, 1), (1, 1), (2, 2)):
        save_photo(tmp_path / "b.png", seed=seed)
        _hash_file.cache_clear()
        list(run(made, ["cpu"], lines))
        assert len(method.prompts) == measured


def test_lines_that_are_not_scores_are_ignored(tmp_path: Path) -> None:
    lines = Lines(tmp_path / "scores.jsonl")
    lines.add([{"psnr": 3}, {}])
    assert list(read_scores(lines)) == []


def test_several_devices_give_the_scores_of_one(items: tuple[Item, ...]) -> None:
    def figures(scores: Sequence[Score]) -> list[tuple[object, ...]]:
        return sorted((*score.key, score.psnr, score.ssim) for score in scores)

    alone, both = (list(run(plan(items, *NOISE), devices)) for devices in (["cpu"], ["cpu:0", "cpu:1"]))
    assert figures(alone) == figures(both)


def test_workers_are_processes_with_memory_and_time_of_their_own(
    items: tuple[Item, ...], processes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    alone, both = (list(run(plan(items, *NOISE), devices)) for devices in (["cpu"], ["cpu", "cpu"]))
    for one, other in zip(alone, sorted(both, key=lambda score: (score.item, score.method)), strict=True):
        assert replace(one, seconds=0, memory=None) == replace(other, seconds=0, memory=None)
        assert other.seconds > 0
        assert (other.memory is None) == (one.memory is None)


class Troubled(Halfway):
    """Method that ends in one way or another at the second image."""

    def __init__(self, trouble: str) -> None:
        super().__init__()
        self._trouble = trouble

    def __call__(self, trial: Example, prompt: str | None, seed: int) -> Pixels:
        if np.array_equal(trial.target_HWC, photo(40, 56, 1)):
            if self._trouble == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if self._trouble == "hangs":
                time.sleep(100)
            raise ValueError("what is this")
        return super().__call__(trial, prompt, seed)


def troubled(trouble: str, device: str) -> list[Troubled]:
    if trouble == "cannot be loaded":
        raise WeightsError("no such weights")
    return [Troubled(trouble)]


def test_an_image_that_kills_its_worker_is_named(
    items: tuple[Item, ...], tmp_path: Path, processes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    made, lines = replace(plan(items, *NOISE), methods=partial(troubled, "dies")), Lines(tmp_path / "scores.jsonl")
    with pytest.raises(OutOfMemory, match=r"1\.png: the worker process ended.*kept with -o"):
        list(run(made, ["cpu", "cpu"], lines))
    kept = [(score.item, score.method) for score in read_scores(lines)]
    assert len(set(kept)) == len(kept), "an image that is begun again repeats no score"
    assert ("1.png", "degraded") in kept


def test_closing_early_ends_the_workers(
    items: tuple[Item, ...], processes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    scores = run(replace(plan(items[1:], *NOISE), methods=partial(troubled, "hangs")), ["cpu", "cpu"])
    next(scores)
    begun = time.monotonic()
    scores.close()
    assert time.monotonic() - begun < workers.GRACE + 1


def test_errors_of_workers_are_errors_of_the_benchmark(items: tuple[Item, ...], tmp_path: Path) -> None:
    devices = ["cpu", "cpu"]
    with pytest.raises(WeightsError, match="no such weights"):
        list(run(replace(plan(items, *NOISE), methods=partial(troubled, "cannot be loaded")), devices))
    with pytest.raises(SanarestoreError, match=r"1\.png: unexpected ValueError: what is this"):
        list(run(replace(plan(items, *NOISE), methods=partial(troubled, "fails")), devices))
    items[2].clean.write_bytes(b"no image")
    with pytest.raises(UnreadableImage, match=r"2\.png"):
        list(run(plan(items, *NOISE), devices))
    other = replace(items[0], degraded=save_photo(tmp_path / "b.png", 24, 32))
    with pytest.raises(UsageError, match="is not of the size of"):
        list(run(plan((other, other), *cases("real", Levels())), devices))


def test_the_bootstrap_interval_is_repeatable_and_contains_the_mean() -> None:
    values = np.random.default_rng(1).normal(30, 2, 50)
    low, high = bootstrap(values)
    assert (low, high) == bootstrap(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * 2 / 50**0.5, rel=0.2)


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(b"no image")
    with pytest.raises(UnreadableImage, match=r"bad\.png"):
        list(run(plan((Item(name="bad", clean=path),), *NOISE), ["cpu"]))
    assert images.find([tmp_path]).images == ()


class Mean:
    """Stand-in for the metric networks: the error of the mean, and one feature."""

    names = "lpips,fid"

    def __init__(self, metrics: Sequence[str], device: str) -> None:
        self.names = ",".join(metrics)

    def __call__(self, image: np.ndarray, reference: np.ndarray) -> dict[str, Any]:
        if not self.names:
            return {}
        features = {"inception": packed(image[0, 0, :1]), "inception_of_target": packed(reference[0, 0, :1])}
        return {"lpips": float(image.mean() - reference.mean()), **features}


def test_perceptual_metrics_are_stored_and_measured_when_missing(
    items: tuple[Item, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sanarestore.evaluation.benchmark.Perceptual", Mean)
    lines = Lines(tmp_path / "scores.jsonl")
    without = rows(run(plan(items, *NOISE), ["cpu"], lines))[1]
    assert (without.lpips, without.fid) == (None, None)
    scores = list(run(plan(items, *NOISE, seeds=(0, 1), metrics=("lpips", "fid")), ["cpu"], lines))
    ours = rows(scores)[1]
    first = [score for score in scores if score.method == "halfway" and score.seed == 0]
    assert ours.lpips == pytest.approx(np.mean([score.lpips for score in scores if score.method == "halfway"]))
    ends = [_unpacked([getattr(s, name) for s in first]) for name in ("inception", "inception_of_target")]
    assert ours.fid == pytest.approx(frechet_distance(*ends)), "FID uses only the first seed"
    assert ours.fid > 0
    assert list(run(plan(items, *NOISE, seeds=(0, 1), metrics=("lpips", "fid")), ["cpu"], lines)) == scores
    assert rows(scores[:2])[1].fid is None, "one image has no FID"
