"""The change of a transformer's blocks before training, recorded in `depth.json` in the run's folder.

A resumed run loads the base again, and takes the same blocks from it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sanarestore.errors import UsageError
from sanarestore.files import write_atomically
from sanarestore.training.scores import Validation

FILE = "depth.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthRecord:
    """Blocks removed and appended, and the cost. Blocks are numbered from 0, as in files of weights."""

    before: int
    """Blocks of the base."""
    removed: tuple[int, ...]
    """Blocks of the base that were removed."""
    appended: int = 0
    """New blocks at the end."""
    importances: tuple[float, ...] = ()
    """Importance of each block of the base; empty if none were measured."""
    validation_before: Validation | None = None
    """Validation with all blocks of the base; None without photographs to validate on."""
    validation_after: Validation | None = None
    """Validation with the new set of blocks, before training."""

    @property
    def after(self) -> int:
        """Number of blocks in training."""
        return self.before - len(self.removed) + self.appended

    @property
    def words(self) -> str:
        """The change of the blocks, in a phrase."""
        gone = [f"{_listed(self.removed)} removed"] if self.removed else []
        new = [f"{self.appended} appended"] if self.appended else []
        return f"{self.before} in the base, {self.after} now: {', '.join([*gone, *new])}"

    def cost(self, trained: Validation | None = None) -> str:
        """Validation of the base, with the new blocks, and after training (`trained`), in a phrase; empty without
        measurements."""
        if self.validation_before is None or self.validation_after is None:
            return ""
        found = f"{self.validation_before.gain:+.2f} dB before, {self.validation_after.gain:+.2f} dB with these blocks"
        return f"{found}, {trained.gain:+.2f} dB after training" if trained else found

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        before, after = (each.to_dict() if each else None for each in (self.validation_before, self.validation_after))
        values = {name: getattr(self, name) for name in ("before", "after", "removed", "appended", "importances")}
        return {**values, "validation_before": before, "validation_after": after}

    def save(self, folder: Path) -> None:
        """Write `depth.json`; OSError if the disk refuses."""
        with write_atomically(folder / FILE) as file:
            file.write((json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n").encode())

    @classmethod
    def load(cls, folder: Path) -> "DepthRecord | None":
        """Read `depth.json`; None if there is none, UsageError if it is damaged."""
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            before, after = (
                Validation.from_dict(content[name]) if content[name] else None
                for name in ("validation_before", "validation_after")
            )
            return cls(
                before=int(content["before"]), removed=tuple(map(int, content["removed"])),
                appended=int(content["appended"]), importances=tuple(map(float, content["importances"])),
                validation_before=before, validation_after=after,
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"cannot be read ({error!r})", where=path, next_step="Begin another run with -o."
            ) from error


def _listed(numbers: tuple[int, ...]) -> str:
    """Numbers of blocks in words: block 1; blocks 1, 2 and 4."""
    *others, last = map(str, numbers)
    return f"blocks {', '.join(others)} and {last}" if others else f"block {last}"
