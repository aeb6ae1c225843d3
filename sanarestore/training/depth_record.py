"""The change of the blocks of a transformer or of a decoder before training, recorded in `depth.json`.

The file is in the run's folder. A resumed run loads the base again, and takes the same blocks from it.
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
class DecoderFacts:
    """Facts about a decoder before and after blocks were removed; pairs are (before, after)."""

    names: tuple[str, ...]
    """Places of the blocks in files of weights, and their classes."""
    parameters: tuple[int, ...]
    macs_per_pixel: tuple[float, ...]
    """Multiplications with additions for each pixel of the image."""
    seconds_per_megapixel: tuple[float, ...]
    """Median time of decoding, as measured on the device of the run."""

    @property
    def words(self) -> str:
        """Size and cost, in a phrase."""
        sizes = (f"{count / 1e6:.3g}" for count in reversed(self.parameters))
        costs = (f"{count / 1e3:.3g}" for count in reversed(self.macs_per_pixel))
        times = (f"{seconds:.3g}" for seconds in reversed(self.seconds_per_megapixel))
        return (
            f"{' of '.join(sizes)} M parameters, {' of '.join(costs)} kMAC per pixel, "
            f"{' of '.join(times)} s per megapixel"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: list(getattr(self, name)) for name in self.__slots__}

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> "DecoderFacts":
        """Read what `to_dict` returned."""
        return cls(**{name: tuple(table[name]) for name in cls.__slots__})


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
    decoder: DecoderFacts | None = None
    """Facts about the decoder whose blocks were removed; None if the blocks are a transformer's."""

    @property
    def after(self) -> int:
        """Number of blocks in training."""
        return self.before - len(self.removed) + self.appended

    @property
    def words(self) -> str:
        """The change of the blocks, in a phrase."""
        gone = [f"{_listed(self.removed)} removed"] if self.removed else []
        new = [f"{self.appended} appended"] if self.appended else []
        where = "the base" if self.decoder is None else "the decoder"
        return f"{self.before} in {where}, {self.after} now: {', '.join([*gone, *new])}"

    def cost(self, trained: Validation | None = None) -> str:
        """Validation of the base, with the new blocks, and after training (`trained`), in a phrase; empty without
        measurements."""
        if self.validation_before is None or self.validation_after is None:
            return ""
        if self.decoder is not None:
            known = (self.validation_before, self.validation_after, trained)
            before, after, last = (f"{each.mean.psnr_after:.2f} dB" if each else "" for each in known)
            return f"{before} before, {after} with these blocks" + (f", {last} after training" if last else "")
        found = f"{self.validation_before.gain:+.2f} dB before, {self.validation_after.gain:+.2f} dB with these blocks"
        return f"{found}, {trained.gain:+.2f} dB after training" if trained else found

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        before, after = (each.to_dict() if each else None for each in (self.validation_before, self.validation_after))
        values = {name: getattr(self, name) for name in ("before", "after", "removed", "appended", "importances")}
        facts = self.decoder.to_dict() if self.decoder else None
        return {**values, "validation_before": before, "validation_after": after, "decoder": facts}

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
                decoder=DecoderFacts.from_dict(content["decoder"]) if content.get("decoder") else None,
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"cannot be read ({error!r})", where=path, next_step="Begin another run with -o."
            ) from error


def _listed(numbers: tuple[int, ...]) -> str:
    """Numbers of blocks in words: block 1; blocks 1, 2 and 4."""
    *others, last = map(str, numbers)
    return f"blocks {', '.join(others)} and {last}" if others else f"block {last}"
