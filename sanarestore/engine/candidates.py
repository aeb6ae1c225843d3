"""Best of N: candidates for one photograph are sampled from several seeds, scored, and the best is kept.

Shape suffixes: H W pixels, C channels.
"""

from collections.abc import Callable, Generator, Sequence

from torch import Tensor

from sanarestore.engine.generation import Draw, Region
from sanarestore.engine.jobs import Candidate
from sanarestore.engine.tiles import Steps, run_stages
from sanarestore.images import Pixels

Sampling = Generator[tuple[int, int], None, Pixels]
"""Generator that yields (steps done, total steps), and returns the pixels of one sample."""


def best_of(
    seeds: Sequence[int],
    sample: Callable[[Draw], Sampling],
    score: Callable[[Pixels], float],
    expected: Callable[..., int],
    *,
    page: int,
) -> Generator[tuple[int, int], None, tuple[Pixels, tuple[Candidate, ...]]]:
    """Sample from every seed; return the pixels with the highest score, the first of equal ones, and all candidates.

    `expected(is_encoded=...)` is the number of steps of a sample. Progress counts the steps of all samples. Two samples
    are held at once: the best so far, and the current one. The photograph is encoded once, for the first sample.
    """
    conditions: dict[Region, Tensor] = {}
    scores: list[float] = []
    best_HWC: list[Pixels] = []

    def steps(seed: int) -> Steps:
        sampled_HWC = yield from sample(Draw(seed, conditions))
        scores.append(score(sampled_HWC))
        if scores[-1] > max(scores[:-1], default=float("-inf")):
            best_HWC[:] = [sampled_HWC]

    counts = [expected(is_encoded=seed != seeds[0]) for seed in seeds]
    yield from run_stages(zip(map(steps, seeds), counts, strict=True))
    best = scores.index(max(scores))
    judged = tuple(
        Candidate(page=page, seed=seed, score=value, chosen=number == best)
        for number, (seed, value) in enumerate(zip(seeds, scores, strict=True))
    )
    return best_HWC.pop(), judged
