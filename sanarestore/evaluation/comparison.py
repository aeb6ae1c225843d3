"""Compare two benchmarks of the same images: what changed, and whether the choice of images could explain it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sanarestore.errors import UsageError
from sanarestore.evaluation.rows import Row, bootstrap

FEWEST = 5
"""Fewest images for a meaningful bootstrap interval."""

PRECISION = 0.005
"""Smallest difference in dB that counts as a change: figures are read to two digits."""

NEEDED = {"dataset", "task", "level", "protocol", "method", "psnr_per_image"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A method at one level of a task, before and after, on the images that both benchmarks have."""

    dataset: str
    task: str
    level: str
    method: str
    images: int
    before: float
    """Mean PSNR over these images, in dB."""
    after: float
    interval: tuple[float, float]
    """95% bootstrap interval of the difference, image by image."""

    @property
    def change(self) -> float:
        """Difference of the means, in dB."""
        return self.after - self.before

    @property
    def exceeds_noise(self) -> bool | None:
        """Whether the change is at least `PRECISION` and its interval excludes zero; None for too few images."""
        if self.images < FEWEST:
            return None
        return abs(self.change) >= PRECISION and not self.interval[0] <= 0 <= self.interval[1]

    def to_json(self) -> dict[str, Any]:
        """Plain values, including the derived ones."""
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
    """Compare each new row with the old one under the same protocol, if they have an image in common."""
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
    """Say in a sentence, for each new row without a comparison, why there is none."""
    rows = list(old)
    compared = {(each.dataset, each.task, each.level, each.method) for each in compare(rows, new)}
    sentences = []
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
        sentences.append(f"{row.dataset} {row.task} {row.level}: {row.method} {fact}")
    return sentences


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("dataset", "task", "level", "protocol", "method"))
