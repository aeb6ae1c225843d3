"""The task of a worker that is only tried: the model restores a small image, and its speed is measured."""

from collections.abc import Generator
from time import perf_counter
from typing import Any

import numpy as np

from sanarestore.engine.rehearsal import SIDE, Speed
from sanarestore.engine.restorer import Restorer
from sanarestore.images import Image
from sanarestore.options import RestoreOptions


class DeviceTrial:
    """Restores a small image twice, the second time for the clock (`wire.Task`); a job is the name of a device."""

    def __init__(self, options: RestoreOptions, device: str) -> None:
        self._restorer = Restorer(options, device=device)

    def read(self, job: str) -> Image:
        """Make the image, at which no pixel equals its neighbours."""
        pixels_HWC = np.random.default_rng(0).random((SIDE, SIDE, 3), dtype=np.float32)
        return Image(pixels_HWC=pixels_HWC, depth="float32", format="tiff")

    def work(self, job: str, read: Image) -> Generator[Any, None, Speed]:
        """Restore it, and return the speed."""
        for _ in range(2):
            begun = perf_counter()
            restored = self._restorer(read)
            seconds = perf_counter() - begun
            yield None
        return Speed(device=str(self._restorer.device), seconds_per_megapixel=seconds / restored.megapixels)

    def write(self, job: str, worked: Speed, seconds: float) -> Speed:
        """Nothing is written."""
        return worked

    def fail(self, job: str, error: Exception, seconds: float) -> Exception:
        """The error."""
        return error

    def abandon(self, job: str) -> None:
        """Nothing is half-written."""
