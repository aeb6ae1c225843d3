"""The record of a run in its folder: recipe, data, curves, results and pictures, read for the report and the card."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sanarestore.errors import UsageError
from sanarestore.files import write_atomically
from sanarestore.training.depth_record import DepthRecord
from sanarestore.training.pictures import pictures_in
from sanarestore.training.results import Results

DATA = "data.json"

MOST_CAPTIONS = 20
"""Largest number of captions that are shown, the most frequent first."""

LONGEST = 80
"""Largest number of characters of a caption that are shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFacts:
    """The training data in numbers; no file names, because photographs may be private."""

    kind: str
    """photographs, pairs or words."""
    trained: int
    """Photographs or pairs that are trained on."""
    held_back: int
    """Photographs or pairs that validate."""
    size: int
    """Bytes of the files that are trained on."""
    captions: tuple[str, ...] = ()
    """Captions of the pairs, the most frequent first; at most `MOST_CAPTIONS`."""
    other_captions: int = 0
    """Number of further captions."""

    def save(self, folder: Path) -> None:
        """Write `data.json`; OSError if the disk refuses."""
        content = {name: getattr(self, name) for name in self.__slots__}
        with write_atomically(folder / DATA, durable=False) as file:
            file.write((json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())

    @classmethod
    def load(cls, folder: Path) -> "DataFacts | None":
        """Read `data.json`; None if there is none, as in folders of older versions."""
        with suppress(OSError, ValueError, TypeError):
            content = json.loads((folder / DATA).read_text(encoding="utf-8"))
            return cls(**{**content, "captions": tuple(content["captions"])})
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """The record in the folder of one stage."""

    folder: Path
    recipe: Mapping[str, Any]
    facts: Mapping[str, Any]
    """The record at the last start: device, dtype, versions, origin."""
    data: DataFacts | None
    results: Results
    depth: DepthRecord | None
    """The change of the blocks of the transformer or of the decoder; None if they are those of the base."""
    losses: Sequence[tuple[int, float]]
    """Step and loss."""
    gains: Mapping[str, Sequence[tuple[int, float]]]
    """Degradation -> step and gain in dB."""
    steps: int
    """Steps done, according to the record."""
    minutes: float
    setbacks: int
    pictures: Sequence[tuple[int, Path]]

    @classmethod
    def read(cls, folder: Path) -> "RunRecord":
        """Read a run's folder; missing files leave fields empty."""
        facts: Mapping[str, Any] = {}
        steps: dict[int, Mapping[str, Any]] = {}
        setbacks = 0
        for record in _records(folder / "metrics.jsonl"):
            step = int(record.get("step", 0))
            if record.get("event") in ("start", "setback"):
                # A run that continues from an earlier step repeats the later ones.
                steps = {number: each for number, each in steps.items() if number <= step}
            facts = record if record.get("event") == "start" else facts
            setbacks += record.get("event") == "setback"
            if record.get("event") in (None, "before"):
                steps[step] = {**steps.get(step, {}), **record}
        gains: dict[str, list[tuple[int, float]]] = {}
        for step, record in sorted(steps.items()):
            for label, gain in (record.get("validations") or {}).items():
                gains.setdefault(label, []).append((step, float(gain)))
        return cls(
            folder=folder, recipe=_json(folder / "recipe.json"), facts=facts, data=DataFacts.load(folder),
            results=Results.load(folder), depth=_depth(folder), gains=gains, steps=max(steps, default=0),
            setbacks=setbacks,
            losses=[(step, float(each["loss"])) for step, each in sorted(steps.items()) if "loss" in each],
            minutes=max((float(each.get("minutes", 0)) for each in steps.values()), default=0.0),
            pictures=pictures_in(folder),
        )  # fmt: skip


def _records(path: Path) -> Iterator[Mapping[str, Any]]:
    """The lines of a file of JSON objects; a line that was cut off, as by a crash, is left out."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for line in lines:
        with suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict):
                yield record


def _depth(folder: Path) -> DepthRecord | None:
    with suppress(UsageError):  # a report shows what is readable
        return DepthRecord.load(folder)
    return None


def _json(path: Path) -> Mapping[str, Any]:
    with suppress(OSError, ValueError):
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    return {}


def shortened(text: str) -> str:
    """A text in one line of `LONGEST` characters at most."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
