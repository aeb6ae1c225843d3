"""Tests of candidates: samples from several seeds, of which a judge keeps the best."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sanarestore import images
from sanarestore.degradations.requests import Request
from sanarestore.engine.candidates import best_of
from sanarestore.engine.file_restorer import FileRestorer
from sanarestore.engine.jobs import Candidate, Job
from sanarestore.engine.judges import Fidelity, Naturalness, judge_of, judgement
from sanarestore.engine.restorer import Restorer
from sanarestore.errors import ImageError, UsageError
from sanarestore.images import Pixels
from sanarestore.model.loading import RestorationModel
from sanarestore.options import Judge, RestoreOptions
from tests.conftest import photo
from tests.engine.test_generation import image_of, ran


class Scores:
    """A judge with fixed scores, which keeps copies of the images it saw."""

    name = "given"

    def __init__(self, *scores: float) -> None:
        self.scores = list(scores)
        self.seen: list[tuple[Pixels, Pixels]] = []

    def score(self, degraded: Pixels, candidate: Pixels) -> float:
        self.seen.append((degraded.copy(), candidate.copy()))
        return self.scores[len(self.seen) - 1]


class ByBrightness:
    """A judge that prefers bright images."""

    name = "brightness"

    def score(self, degraded: Pixels, candidate: Pixels) -> float:
        return float(candidate.mean())


NOT_A_JUDGE = "brightness"


def restorer_of(model: RestorationModel, **chosen: Any) -> Restorer:
    return Restorer(RestoreOptions(**chosen), device="cpu", model=model)


def chosen_by(restorer: Restorer) -> list[int]:
    return [each.seed for each in restorer.candidates if each.chosen]


@pytest.mark.parametrize("chosen", [{}, {"fidelity": 0}, {"fidelity": 0.5, "strength": 0.7}, {"tiling": "independent"}])
def test_the_result_is_that_of_the_seed_with_the_highest_score(chosen: dict[str, Any], model: RestorationModel) -> None:
    image = image_of(70, 45)
    judge = Scores(-3, 5.5, 5.5, 2)
    restorer = restorer_of(model, candidates=4, judge=judge, seed=7, **chosen)
    restored = restorer(image).pixels_HWC
    singles = [ran(model, image, seed=seed, **chosen).permute(1, 2, 0).numpy() for seed in (7, 8, 9, 10)]
    assert np.array_equal(restored, singles[1]), "the first of equal scores"
    assert not np.array_equal(singles[1], singles[2])
    for (degraded, seen), single in zip(judge.seen, singles, strict=True):
        assert np.array_equal(degraded, image.pixels_HWC)
        assert np.array_equal(seen, single)
    assert restorer.candidates == tuple(
        Candidate(seed=seed, score=score, chosen=seed == 8)
        for seed, score in zip((7, 8, 9, 10), judge.scores, strict=True)
    )


def test_windows_that_are_restored_independently_are_judged_as_a_whole(
    model: RestorationModel, tiny_tiles: None
) -> None:
    image = image_of(100, 130)
    judge = Scores(0, 1, -1)
    restorer = restorer_of(model, candidates=3, judge=judge, tiling="independent", tile=64, overlap=32)
    steps = list(restorer.stages(image))
    assert [seen.shape for _, seen in judge.seen] == [(100, 130, 3)] * 3
    assert chosen_by(restorer) == [1]
    assert [done for done, _ in steps] == list(range(1, steps[-1][1] + 1))
    single = ran(model, image, seed=1, tiling="independent", tile=64, overlap=32)
    assert np.array_equal(judge.seen[1][1], single.permute(1, 2, 0).numpy())


def test_progress_counts_all_candidates_and_the_photograph_is_encoded_once(model: RestorationModel) -> None:
    image = image_of(100, 130)
    restorer = restorer_of(model, candidates=3, judge=Scores(0, 0, 0), steps=3, tile=64)
    encoded: list[int] = []
    assert restorer.generation is not None
    encode = restorer.generation.encode
    restorer.generation.encode = lambda *given: encoded.append(1) or encode(*given)  # type: ignore[method-assign, func-returns-value]
    # Each of 6 tiles is encoded once, decoded and refined three times; see test_progress_counts_every_stage.
    half = 6 * (1 + 6 + 3)
    total = half + 3 * (3 + half + 6)
    assert list(restorer.stages(image)) == [(done, total) for done in range(1, total + 1)]
    assert encoded == [1]


def test_pages_are_judged_one_by_one(model: RestorationModel) -> None:
    image = replace(image_of(40, 50), more_pages=(image_of(50, 40, seed=1),))
    restorer = restorer_of(model, candidates=2, judge=Scores(1, 0, 0, 1))
    restored = restorer(image)
    assert [(each.page, each.seed, each.chosen) for each in restorer.candidates] == [
        (1, 0, True), (1, 1, False), (2, 0, False), (2, 1, True),
    ]  # fmt: skip
    second = ran(model, image_of(50, 40, seed=1), seed=1).permute(1, 2, 0).numpy()
    assert np.array_equal(restored.more_pages[0].pixels_HWC, second)
    restorer.judge = Scores(0, 1)
    restorer(image_of(40, 50))
    assert len(restorer.candidates) == 2, "they are those of the last image"


def test_judges_see_the_photograph_before_it_was_enlarged(model: RestorationModel) -> None:
    image = image_of(20, 30)
    judge = Scores(0, 1)
    restored = restorer_of(model, candidates=2, judge=judge, scale=2)(image)
    assert np.array_equal(judge.seen[0][0], image.pixels_HWC)
    assert np.array_equal(judge.seen[1][1], restored.pixels_HWC)
    small = Scores(1, 0)
    restored = restorer_of(model, candidates=2, judge=small, long_side=15)(image)
    assert (restored.width, small.seen[0][1].shape) == (15, (20, 30, 3)), "it is reduced after it was judged"


def test_judges_see_gray_in_three_channels_and_cannot_change_it(model: RestorationModel) -> None:
    class Painter:
        name = "painter"

        def score(self, degraded: Pixels, candidate: Pixels) -> float:
            assert degraded.shape == candidate.shape == (40, 50, 3)
            candidate[:] = 0
            return 1

    gray = images.Image(pixels_HWC=photo(40, 50)[..., :1].copy(), depth="float32", format="tiff")
    with pytest.raises(ImageError, match=r"the judge 'painter' failed \(ValueError: .*read-only"):
        restorer_of(model, candidates=2, judge=Painter())(gray)
    judge = Scores(1, 0)
    restorer_of(model, candidates=2, judge=judge)(gray)
    assert (judge.seen[0][1][..., :1] == judge.seen[0][1]).all()


def test_at_most_two_candidates_are_held() -> None:
    """The best so far and the current one; all others are freed."""
    import gc
    import weakref

    made: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def sample(draw: Any) -> Any:
        yield 1, 1
        pixels_HWC = np.full((2, 2, 3), draw.seed, np.float32)
        made.append(weakref.ref(pixels_HWC))
        return pixels_HWC

    def score(pixels_HWC: Pixels) -> float:
        gc.collect()
        alive.append(sum(each() is not None for each in made))
        return -abs(float(pixels_HWC[0, 0, 0]) - 12)

    steps = best_of(range(10, 16), sample, score, lambda is_encoded: 1, page=1)
    while True:
        try:
            next(steps)
        except StopIteration as ended:
            best_HWC, judged = ended.value
            break
    assert max(alive) == 2
    assert best_HWC[0, 0, 0] == 12
    assert [each.seed for each in judged if each.chosen] == [12]


def test_tiles_are_halved_when_memory_runs_out(
    model: RestorationModel, tiny_tiles: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = image_of(100, 130)
    restorer = restorer_of(model, candidates=3, judge=Scores(0, 1, 2), tile=128)
    assert restorer.generation is not None
    run = restorer.generation.coding._decode_window
    failures = iter([False] * 3 + [True])

    def decode(window: Tensor) -> Tensor:
        if next(failures, False):
            raise torch.OutOfMemoryError("out of memory")
        return run(window)

    monkeypatch.setattr(restorer.generation.coding, "_decode_window", decode)
    restored = restorer(image)
    assert restorer.tile == 64
    single = ran(model, image, seed=2).permute(1, 2, 0).numpy()
    assert np.allclose(restored.pixels_HWC, single, atol=1e-4)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), None, "good"])
def test_a_judge_without_a_score_is_an_error(score: Any, model: RestorationModel) -> None:
    with pytest.raises(ImageError, match="the judge 'given'"):
        restorer_of(model, candidates=2, judge=Scores(score, score))(image_of(20, 30))


def test_want_of_memory_in_a_judge_is_told_as_such(model: RestorationModel) -> None:
    class Greedy(Scores):
        def score(self, degraded: Pixels, candidate: Pixels) -> float:
            raise MemoryError

    with pytest.raises(MemoryError):
        judgement(Greedy(), photo(8, 8), photo(8, 8))


Change = Callable[[RestorationModel], RestorationModel]


@pytest.mark.parametrize(
    ("change", "chosen", "fact"),
    [
        (lambda model: replace(model, load_latent=None), {}, "no latent path"),
        (lambda model: replace(model, defaults={**model.defaults, "latent": False}), {}, "--fidelity is below 1"),
        (lambda model: model, {"steps": 1}, "nearly the same"),
        (lambda model: replace(model, defaults={**model.defaults, "steps": 1}), {"fidelity": 0}, "nearly the same"),
    ],
)
def test_candidates_that_would_be_alike_are_refused(
    change: Change, chosen: dict[str, Any], fact: str, model: RestorationModel
) -> None:
    with pytest.raises(UsageError, match=fact) as refused:
        restorer_of(change(model), candidates=2, **chosen)
    assert refused.value.where == "--candidates"


def test_the_default_judge_is_fidelity(model: RestorationModel) -> None:
    request = Request.of("noise")
    assert judge_of(RestoreOptions(candidates=2), request) == Fidelity(request)
    assert judge_of(RestoreOptions(candidates=2, judge="niqe"), request) == Naturalness()
    assert judge_of(RestoreOptions(), request) is None
    for name in ("fidelity", "niqe"):
        restorer = restorer_of(model, candidates=3, judge=name)
        restorer(image_of(40, 50))
        scores = [each.score for each in restorer.candidates]
        assert len(set(scores)) == 3
        assert chosen_by(restorer) == [scores.index(max(scores))]


def test_a_judge_of_ones_own_is_named_by_its_module() -> None:
    judge = judge_of(RestoreOptions(candidates=2, judge=f"{__name__}:ByBrightness"), Request())
    assert isinstance(judge, Judge)
    assert judge.name == "brightness"


@pytest.mark.parametrize("name", [f"{__name__}:NOT_A_JUDGE", f"{__name__}:missing", "no.such.module:judge"])
def test_what_is_no_judge_is_refused(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        judge_of(RestoreOptions(candidates=2, judge=name), Request())
    assert refused.value.where == "--judge"


def test_the_outcome_of_a_file_lists_the_scores(model: RestorationModel, tmp_path: Path) -> None:
    source = tmp_path / "photo.png"
    images.write(images.Image(pixels_HWC=photo(40, 50), depth="uint8", format="png"), source)
    task = FileRestorer(restorer_of(model, candidates=2, judge=Scores(0.5, 0.25)))
    job = Job(source=source, target=tmp_path / "out.png", temporary=tmp_path / "temporary")
    steps = task.work(job, task.read(job))
    while True:
        try:
            next(steps)
        except StopIteration as ended:
            outcome = task.write(job, ended.value, 0.0)
            break
    told = outcome.to_json()
    assert told["judge"] == "given"
    assert told["candidates"] == [
        {"page": 1, "seed": 0, "score": 0.5, "chosen": True}, {"page": 1, "seed": 1, "score": 0.25, "chosen": False},
    ]  # fmt: skip


def test_nothing_is_judged_where_nothing_changes(model: RestorationModel) -> None:
    restorer = restorer_of(model, candidates=2, judge=Scores(), strength=0)
    image = image_of(20, 30)
    assert np.array_equal(restorer(image).pixels_HWC, image.pixels_HWC)
    assert restorer.candidates == ()
