"""Two benchmarks of the same images: what changed, and whether another choice of images could have done that."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sanarestore.errors import UsageError
from sanarestore.evaluation.rows import Row, bootstrap

FEWEST = 5
"""Images of which a bootstrap says something."""

PRECISION = 0.005
"""Decibels that figures are read to."""

NEEDED = {"dataset", "task", "level", "protocol", "method", "psnr_per_image"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A method at one level of a task, then and now, on the images that both have."""

    dataset: str
    task: str
    level: str
    method: str
    images: int
    before: float
    """PSNR in dB, mean over these images."""
    after: float
    interval: tuple[float, float]
    """95% bootstrap interval of the difference, image by image."""

    @property
    def change(self) -> float:
        """dB."""
        return self.after - self.before

    @property
    def exceeds_noise(self) -> bool | None:
        """Whether the interval leaves out zero by what figures are read to; None of too few images to tell."""
        if self.images < FEWEST:
            return None
        return abs(self.change) >= PRECISION and not self.interval[0] <= 0 <= self.interval[1]

    def to_json(self) -> dict[str, Any]:
        """Plain values, with what follows from them."""
        return {**asdict(self), "change": self.change, "exceeds_noise": self.exceeds_noise}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows as `bench --json` wrote them; UsageError if the file holds none."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot be read as lines of JSON ({error})", where=path) from error
    found = [line for line in lines if isinstance(line, dict) and line.keys() >= NEEDED]
    if not found:
        raise UsageError(
            "holds no rows of an earlier benchmark", where=path, next_step="Name what `bench --json` wrote."
        )
    return found


def compare(old: Iterable[dict[str, Any]], new: Sequence[Row]) -> list[Change]:
    """Each row of now that was measured then under the same protocol, on at least one common image."""
    earlier = {_key(row): row["psnr_per_image"] for row in old}
    changes = []
    for row in new:
        then = earlier.get(_key(asdict(row)), {})
        common = [name for name in row.psnr_per_image if name in then]
        if common:
            before = np.array([then[name] for name in common], np.float64)
            after = np.array([row.psnr_per_image[name] for name in common], np.float64)
            changes.append(
                Change(
                    dataset=row.dataset, task=row.task, level=row.level, method=row.method, images=len(common),
                    before=float(before.mean()), after=float(after.mean()), interval=bootstrap(after - before),
                )
            )  # fmt: skip
    return changes


def unmatched(old: Iterable[dict[str, Any]], new: Sequence[Row]) -> list[str]:
    """Of each row of now that has none to be compared with, why, in a sentence."""
    rows = list(old)
    compared = {(each.dataset, each.task, each.level, each.method) for each in compare(rows, new)}
    told = []
    for row in new:
        where = (row.dataset, row.task, row.level, row.method)
        if where in compared:
            continue
        then = [each for each in rows if tuple(each[name] for name in ("dataset", "task", "level", "method")) == where]
        protocols = {each["protocol"] for each in then}
        if not then:
            fact = "was not measured then"
        elif row.protocol in protocols:
            fact = "was measured on other images then"
        else:
            fact = f"was measured as {protocols.pop()} then, and as {row.protocol} now"
        told.append(f"{row.dataset} {row.task} {row.level}: {row.method} {fact}")
    return told


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("dataset", "task", "level", "protocol", "method"))
