"""Compare two benchmarks of the same images: what changed, and whether the choice of images could explain it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from sanarestore.errors import UsageError
from sanarestore.evaluation.columns import Column, Record
from sanarestore.evaluation.rows import Row, bootstrap, case_of
from sanarestore.ndjson import SCHEMA_VERSION
from sanarestore.old_names import renamed_row

FEWEST = 5
"""Fewest images for a meaningful bootstrap interval."""

PRECISION = 0.005
"""Smallest difference in dB that counts as a change: figures are read to two digits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EarlierRows:
    """A row of an earlier benchmark, with the fields that are compared."""

    dataset: str
    task: str
    level: str
    protocol: str
    method: str
    psnr_per_image: dict[str, float]


def _verdict(change: "Change") -> str:
    return {True: "yes", False: "no", None: "too few images"}[change.exceeds_noise]


@dataclass(frozen=True, kw_only=True, slots=True)
class Change(Record):
    """A method at one level of a task, before and after, on the images that both benchmarks have."""

    dataset: str
    task: str
    level: Annotated[str, Column("", value=lambda row: f"{row.dataset} {case_of(row)}", words=True)]
    method: Annotated[str, Column("method", words=True)]
    images: int
    before: Annotated[float, Column("then", "{:.2f}")]
    """Mean PSNR over these images, in dB."""
    after: Annotated[float, Column("now", "{:.2f}")]
    change: Annotated[float, Column("change", "{:+.2f}")]
    """Difference of the means, in dB."""
    interval: Annotated[tuple[float, float], Column("95%", "{0[0]:+.2f} to {0[1]:+.2f}")]
    """95% bootstrap interval of the difference, image by image."""
    exceeds_noise: Annotated[bool | None, Column("beyond chance", value=_verdict)]
    """Whether the change is at least `PRECISION` and its interval excludes zero; None for too few images."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, with that of `exceeds_noise` even where it is None."""
        return asdict(self)


def read_rows(path: Path) -> list[EarlierRows]:
    """Rows as `bench --json` wrote them, in this version or an earlier one; UsageError if the file holds none."""
    advice = "Name what `bench --json` wrote."
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot be read as lines of JSON ({error})", where=path, next_step=advice) from error
    rows = [line for line in lines if _is_row(line)]
    if not rows:
        raise UsageError("holds no rows of an earlier benchmark", where=path, next_step=advice)
    newest = max((version for row in rows if isinstance(version := row.get("schema_version"), int)), default=0)
    if newest > SCHEMA_VERSION:
        raise UsageError(
            f"was written by a later version of sanarestore: its schema_version is {newest}", where=path,
            next_step=f"Measure again with this version, which writes {SCHEMA_VERSION}.",
        )  # fmt: skip
    return [
        EarlierRows(**{field.name: row[field.name] for field in fields(EarlierRows)}) for row in map(renamed_row, rows)
    ]


def _is_row(line: Any) -> bool:
    """Return whether a line of JSON has what `EarlierRows` needs."""
    if not isinstance(line, dict) or not line.keys() >= {field.name for field in fields(EarlierRows)}:
        return False
    psnr_per_image = line["psnr_per_image"]
    return isinstance(psnr_per_image, dict) and all(isinstance(psnr, int | float) for psnr in psnr_per_image.values())


def compare(old: Iterable[EarlierRows], new: Sequence[Row]) -> list[Change]:
    """Compare each new row with the old one under the same protocol, if they have an image in common."""
    earlier = {(*_place(row), row.protocol): row.psnr_per_image for row in old}
    found = (_change(earlier.get((*_place(row), row.protocol), {}), row) for row in new)
    return [change for change in found if change is not None]


def _change(then: dict[str, float], row: Row) -> Change | None:
    """Compare the images that both have; None without any."""
    common = [name for name in row.psnr_per_image if name in then]
    if not common:
        return None
    before = np.array([then[name] for name in common], np.float64)
    after = np.array([row.psnr_per_image[name] for name in common], np.float64)
    change, interval = float(after.mean()) - float(before.mean()), bootstrap(after - before)
    is_clear = abs(change) >= PRECISION and not interval[0] <= 0 <= interval[1]
    return Change(
        dataset=row.dataset, task=row.task, level=row.level, method=row.method, images=len(common),
        before=float(before.mean()), after=float(after.mean()), interval=interval, change=change,
        exceeds_noise=is_clear if len(common) >= FEWEST else None,
    )  # fmt: skip


def unmatched(old: Sequence[EarlierRows], new: Sequence[Row]) -> list[str]:
    """Say in a sentence, for each new row without a comparison, why there is none."""
    compared = {(each.dataset, each.task, each.level, each.method) for each in compare(old, new)}
    sentences = []
    for row in new:
        if _place(row) in compared:
            continue
        protocols = {each.protocol for each in old if _place(each) == _place(row)}
        if not protocols:
            fact = "was not measured then"
        elif row.protocol in protocols:
            fact = "was measured on other images then"
        else:
            fact = f"was measured as {protocols.pop()} then, and as {row.protocol} now"
        sentences.append(f"{row.dataset} {row.task} {row.level}: {row.method} {fact}")
    return sentences


def _place(row: EarlierRows | Row) -> tuple[str, ...]:
    return row.dataset, row.task, row.level, row.method
