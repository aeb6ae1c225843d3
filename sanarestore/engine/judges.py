"""Judges, which choose one of several candidates for a restored photograph: best of N, as in SANA-1.5 (Xie et al.
2025).

Two judges are built in; users may supply others, as objects with a name and a method `score`.
"""

import importlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from sanarestore.degradations.requests import Request
from sanarestore.engine.agreement import agreement
from sanarestore.engine.niqe import niqe
from sanarestore.errors import ImageError, SanarestoreError, UsageError
from sanarestore.images import Pixels
from sanarestore.options import JUDGES, Judge, RestoreOptions


@dataclass(frozen=True, slots=True)
class Fidelity:
    """A judge by agreement with the photograph (`agreement`): a log-likelihood, 0 at best."""

    request: Request
    """Request of the prompt; the candidate is degraded again by the kinds that it removes, then compared."""
    name = "fidelity"

    def score(self, degraded: Pixels, candidate: Pixels) -> float:
        return agreement(degraded, candidate, self.request)


@dataclass(frozen=True, slots=True)
class Naturalness:
    """A judge by the quality of the candidate alone: NIQE (Mittal et al. 2013), negated, 0 at best."""

    name = "niqe"

    def score(self, degraded: Pixels, candidate: Pixels) -> float:
        return -niqe(candidate)


def judge_of(options: RestoreOptions, request: Request) -> Judge | None:
    """Return the judge that options name, None for a single candidate; UsageError if there is no such judge.

    `request` is what the prompt asks for. The object of a `module:object` is a judge, or a class of judges, which is
    called without arguments.
    """
    if options.candidates == 1:
        return None
    if isinstance(options.judge, Judge):
        return options.judge
    name = options.judge or JUDGES[0]
    if name == Fidelity.name:
        return Fidelity(request)
    if name == Naturalness.name:
        return Naturalness()
    module, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
        found = found() if isinstance(found, type) else found
    except Exception as error:  # a user's module may raise anything
        raise UsageError(
            f"'{name}' cannot be imported ({type(error).__name__}: {error})", where="--judge",
            next_step="Name an object as module:object, with the module's folder in PYTHONPATH.",
        ) from error  # fmt: skip
    if isinstance(found, Judge) and isinstance(found.name, str):
        return found
    raise UsageError(
        f"'{name}' is not a judge", where="--judge",
        next_step="Name an object with a text 'name' and a method 'score(degraded, candidate)'.",
    )  # fmt: skip


def judgement(judge: Judge, degraded_HWC: Pixels, candidate_HWC: Pixels) -> float:
    """Return the score of a candidate; gray images are repeated to three channels. ImageError unless it is a finite
    number."""
    try:
        score = float(judge.score(_seen(degraded_HWC), _seen(candidate_HWC)))
    except (SanarestoreError, MemoryError):
        raise
    except Exception as error:  # a user's judge may raise anything
        raise ImageError(
            f"the judge '{judge.name}' failed ({type(error).__name__}: {error})",
            next_step="Correct the judge, or choose another with --judge.",
        ) from error  # fmt: skip
    if not math.isfinite(score):
        raise ImageError(
            f"the judge '{judge.name}' gave {score}, which is not a score",
            next_step="Correct it to return a finite number, or choose another with --judge.",
        )
    return score


def _seen(pixels_HWC: Pixels) -> Pixels:
    """Return a read-only view of an image with three channels."""
    view_HWC: Pixels = np.broadcast_to(pixels_HWC, (*pixels_HWC.shape[:2], 3))
    return view_HWC
