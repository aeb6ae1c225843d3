"""Every error that sanarestore raises on purpose, and the exit code that each one leads to.

    SanarestoreError
     +- UsageError              what was asked for cannot be done           exit 2
     +- ImageError              one image file, or one image                exit 1
     |   +- UnreadableImage     missing, damaged, or not an image that we read
     |   +- UnwritableImage     the format cannot hold it, or the disk will not
     +- NoImagesError           nothing to work on                          exit 3
     +- WeightsError            weights missing, damaged or refused         exit 4
     +- OutOfMemory             it does not fit, however small the tile     exit 1
     +- Diverged                training has gone astray                    exit 1

Each one says three things: where (a file, an option), what is the case, and what to do next.
"""

from enum import IntEnum
from os import PathLike


class ExitCode(IntEnum):
    """What a command's exit status means."""

    DONE = 0
    """Everything was done, or had been done before."""
    SOME_FAILED = 1
    """Some files failed; the others are finished."""
    USAGE = 2
    """The command line asks for something that cannot be done."""
    NO_IMAGES = 3
    """No readable image was found."""
    WEIGHTS = 4
    """Weights are missing, damaged or refused."""
    INTERRUPTED = 130
    """Stopped by the user; nothing half-written is left."""


class SanarestoreError(Exception):
    """Base of all errors raised on purpose; `str()` of it is one readable sentence or two."""

    exit_code = ExitCode.SOME_FAILED

    def __init__(self, fact: str, *, where: str | PathLike[str] | None = None, next_step: str = "") -> None:
        self.fact = fact
        self.where = None if where is None else str(where)
        self.next_step = next_step
        place = f"{self.where}: " if self.where else ""
        step = f" {next_step}" if next_step else ""
        super().__init__(f"{place}{fact}.{step}")

    def __reduce__(self) -> tuple[object, ...]:
        """Errors travel between worker processes, and keyword arguments must travel with them."""
        return _rebuild, (type(self), self.fact, self.where, self.next_step)


def _rebuild(kind: type[SanarestoreError], fact: str, where: str | None, next_step: str) -> SanarestoreError:
    return kind(fact, where=where, next_step=next_step)


class UsageError(SanarestoreError):
    """What was asked for cannot be done."""

    exit_code = ExitCode.USAGE


class ImageError(SanarestoreError):
    """Something is wrong with one image; the others go on."""


class UnreadableImage(ImageError):  # noqa: N818 - reads as what it is
    """The file is missing, damaged, or holds no image that we read."""


class UnwritableImage(ImageError):  # noqa: N818 - reads as what it is
    """The format cannot hold this image, or the disk refused it."""


class NoImagesError(SanarestoreError):
    """There is nothing to work on."""

    exit_code = ExitCode.NO_IMAGES


class WeightsError(SanarestoreError):
    """Weights are missing, damaged, of another shape, or refused."""

    exit_code = ExitCode.WEIGHTS


class OutOfMemory(SanarestoreError):  # noqa: N818 - reads as what it is
    """It does not fit, however small the tile."""


class Diverged(SanarestoreError):  # noqa: N818 - reads as what it is
    """Loss or gradient are no longer finite; nothing was changed by that step."""
