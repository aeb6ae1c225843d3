"""The results of a run's validation, kept in `results.json` in its folder and shown as tables."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from sanarestore.evaluation.columns import Column, Place, Record
from sanarestore.files import write_atomically
from sanarestore.training.scores import LabelScore, Validation

FILE = "results.json"

NOTICED = 0.1
"""Loss in dB against the base with its experts above which a warning is shown."""

MEAN = "mean"
"""Name of the last row of a table."""

EXPLAINED = "PSNR in dB, each at most 40. step 0: before training"
"""Caption of the tables."""

EXPLAINED_BASE = "base: the base with its experts"


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """The validations of a run that tables compare."""

    before: Validation | None = None
    """Validation before training."""
    base: Validation | None = None
    """Validation of the base with its experts, if training drops them."""
    after: Validation | None = None
    """The last validation."""
    step: int = 0
    """Step of the last validation."""
    settings_before: Mapping[str, Validation] = field(default_factory=dict)
    """Steps and fidelity of the latent path -> validation before training."""
    settings_after: Mapping[str, Validation] = field(default_factory=dict)
    """Steps and fidelity of the latent path -> validation at the end."""

    @property
    def worse(self) -> dict[str, float]:
        """Degradations that the base with its experts restores better by more than `NOTICED` -> difference in dB."""
        if self.base is None or self.after is None:
            return {}
        base, after = self.base.gains, self.after.gains
        return {label: base[label] - after[label] for label in base if base[label] - after.get(label, 0.0) > NOTICED}

    @property
    def warning(self) -> str:
        """A sentence about the degradations that got worse; empty if there are none."""
        if self.before and self.after and self.after.gain < self.before.gain - NOTICED:
            fall = self.before.gain - self.after.gain
            return f"training has made the result worse by {fall:.2f} dB: lower learning_rate and muon_rate"
        lost = ", ".join(f"{label} by {decibels:.2f} dB" for label, decibels in self.worse.items())
        return f"worse than the base with its experts, which training has dropped: {lost}" if lost else ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        one = {name: getattr(self, name) for name in ("before", "base", "after")}
        many = {name: getattr(self, name) for name in ("settings_before", "settings_after")}
        return {
            **{name: found.to_dict() if found else None for name, found in one.items()}, "step": self.step,
            **{name: {key: each.to_dict() for key, each in found.items()} for name, found in many.items()},
        }  # fmt: skip

    def save(self, folder: Path) -> None:
        """Write `results.json`; OSError if the disk refuses."""
        with write_atomically(folder / FILE, durable=False) as file:
            file.write((json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n").encode())

    @classmethod
    def load(cls, folder: Path) -> "Results":
        """Read `results.json`; empty results if there is none, as in folders of older versions."""
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            table = json.loads((folder / FILE).read_text(encoding="utf-8"))
            before, base, after = (
                Validation.from_dict(table[name]) if table[name] else None for name in ("before", "base", "after")
            )
            settings_before, settings_after = (
                {key: Validation.from_dict(each) for key, each in table[name].items()}
                for name in ("settings_before", "settings_after")
            )
            return cls(
                before=before, base=base, after=after, step=int(table["step"]), settings_before=settings_before,
                settings_after=settings_after,
            )  # fmt: skip
        return cls()

    @property
    def rows(self) -> list["ResultRow"]:
        """A row for each degradation, and one of means if there are several."""
        found = self.after or self.before
        if found is None:
            return []
        rows = [self._row(label) for label in found.scores]
        return [*rows, self._row(MEAN)] if len(rows) > 1 else rows

    def _row(self, label: str) -> "ResultRow":
        before, base, after = (_score(each, label) for each in (self.before, self.base, self.after))
        known = after or before
        assert known is not None, "every row has a measurement"
        return ResultRow(
            label=label, images=known.images, degraded=known.psnr_before, untrained=_psnr(before),
            base=_psnr(base), trained=_psnr(after), gain=after.gain if after else None,
            ssim_degraded=known.ssim_before, ssim_trained=_ssim(after),
        )  # fmt: skip

    @property
    def setting_rows(self) -> list["SettingRow"]:
        """A row for each degradation at each setting of the latent path, and one of means."""
        rows = []
        for setting in {**self.settings_before, **self.settings_after}:
            before, after = self.settings_before.get(setting), self.settings_after.get(setting)
            for label in dict.fromkeys([*(label for each in (before, after) if each for label in each.scores), MEAN]):
                untrained, trained = _score(before, label), _score(after, label)
                rows.append(
                    SettingRow(
                        setting=setting, label=label, untrained=_psnr(untrained),
                        trained=_psnr(trained), ssim_trained=_ssim(trained),
                    )
                )  # fmt: skip
        return rows


def _score(validation: Validation | None, label: str) -> LabelScore | None:
    """The score of a degradation, or of all of them under `MEAN`."""
    if validation is None:
        return None
    return validation.mean if label == MEAN else validation.scores.get(label)


def _psnr(score: LabelScore | None) -> float | None:
    return score.psnr_after if score else None


def _ssim(score: LabelScore | None) -> float | None:
    return score.ssim_after if score else None


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultRow(Record):
    """One degradation before and after training."""

    label: Annotated[str, Column("degradation", words=True)]
    images: Annotated[int, Column("images")]
    degraded: Annotated[float, Column("degraded", "{:.2f}")]
    untrained: Annotated[float | None, Column("step 0", "{:.2f}")]
    base: Annotated[float | None, Column("base", "{:.2f}")]
    trained: Annotated[float | None, Column("trained", "{:.2f}")]
    gain: Annotated[float | None, Column("gain", "{:+.2f}")]
    ssim_degraded: Annotated[float | None, Column("SSIM degraded", "{:.4f}", on=Place.PAGE)]
    ssim_trained: Annotated[float | None, Column("SSIM trained", "{:.4f}", on=Place.PAGE)]


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingRow(Record):
    """One degradation at one setting of the latent path."""

    setting: Annotated[str, Column("setting", words=True, merges=True)]
    label: Annotated[str, Column("degradation", words=True)]
    untrained: Annotated[float | None, Column("step 0", "{:.2f}")]
    trained: Annotated[float | None, Column("trained", "{:.2f}")]
    ssim_trained: Annotated[float | None, Column("SSIM trained", "{:.4f}", on=Place.PAGE)]
