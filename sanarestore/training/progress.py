"""The schedule of a run, and its progress after each step."""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from sanarestore.engine.devices import pick_dtype
from sanarestore.options import DType


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingProgress:
    """Progress of a run after one step."""

    step: int
    """Steps done so far."""
    steps: int
    """Steps in all."""
    loss: float
    learning_rate: float
    images_per_second: float
    """Crops per second over the last hundred steps."""
    minutes: float
    """Minutes of training, summed over the run's sessions."""
    share: float
    """Share of the run that is done, by steps or by minutes, in [0, 1]."""
    validation: float | None = None
    """PSNR gain of the EMA weights on the validation set in dB, each PSNR at most 40 dB; None between validations."""
    validations: dict[str, float] | None = None
    """The same gain for each degradation of the validation set; None between validations."""
    notes: tuple[str, ...] = ()
    """Messages for the user about the step's samples: photos that cannot be read."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "notes": list(self.notes)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """The device, arithmetic and time limit of a run."""

    device: str = "cpu"
    max_minutes: float | None = None
    """Time limit in minutes, by which the cosine schedule and the run end; None for none."""
    compile: bool = False
    """torch.compile the loss; worthwhile where elementwise operations cost as much as convolutions."""
    dtype: DType = "auto"
    """Arithmetic of the networks; weights and EMA are always float32. auto is bfloat16 on CUDA and float32 elsewhere.
    bfloat16 trains twice as fast on a CPU that supports it (AMX), and a hundred times slower on any other."""

    sharded: bool = False
    """Shard the transformer's weights over the processes (FSDP2), instead of holding all of them in each."""

    @property
    def arithmetic(self) -> torch.dtype:
        """The torch type that `dtype` selects on this device."""
        return pick_dtype(self.dtype, torch.device(self.device))
