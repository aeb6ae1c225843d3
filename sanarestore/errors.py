"""The error tree: every error that sanarestore raises on purpose, with its exit code.

    SanarestoreError
     +- UsageError              the request cannot be carried out           exit 2
     +- ImageError              a problem with one image or image file      exit 1
     |   +- UnreadableImage     missing, or not in a supported format
     |   |   +- MissingImage    there is no such file
     |   |   +- DamagedImage    only a part of it can be decoded
     |   +- UnwritableImage     the format cannot hold it, or writing failed
     +- NoImagesError           no readable image was found                 exit 3
     +- WeightsError            weights missing, damaged or refused         exit 4
     +- OutOfMemory             there is not enough memory                  exit 1
     +- DiskFull                the disk or a quota is full                 exit 1
     +- Diverged                training has diverged                       exit 1

Each message says where the problem is (a file, an option), what is wrong, and what to do next. Several faults of one
file are one error, with a line for each.
"""

from collections.abc import Sequence
from enum import IntEnum
from os import PathLike


class ExitCode(IntEnum):
    """Exit codes of commands."""

    DONE = 0
    """All files are done, now or in an earlier run."""
    SOME_FAILED = 1
    """Some files failed; the others are finished."""
    USAGE = 2
    """The command line asks for something that cannot be done."""
    NO_IMAGES = 3
    """No readable image was found."""
    WEIGHTS = 4
    """Weights are missing, damaged or refused."""
    INTERRUPTED = 130
    """Stopped by the user; no half-written file is left."""


class SanarestoreError(Exception):
    """Base class of all errors raised on purpose; `str(error)` is one or two readable sentences."""

    exit_code = ExitCode.SOME_FAILED
    reason = "error"
    """Reason of a failure, in one word for programs."""

    def __init__(
        self,
        fact: str,
        *,
        where: str | PathLike[str] | None = None,
        next_step: str = "",
        details: Sequence[str] = (),
    ) -> None:
        self.fact = fact
        self.where = None if where is None else str(where)
        self.next_step = next_step
        self.details = tuple(details)
        """Further lines, one for each of several faults; usually none."""
        place = f"{self.where}: " if self.where else ""
        step = f" {next_step}" if next_step else ""
        self.summary = f"{place}{fact}.{step}"
        """The message without the details."""
        super().__init__("\n  ".join((self.summary, *self.details)))

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the keyword arguments, because errors pass between worker processes."""
        return _rebuild, (type(self), self.fact, self.where, self.next_step, self.details)


def _rebuild(
    kind: type[SanarestoreError], fact: str, where: str | None, next_step: str, details: tuple[str, ...]
) -> SanarestoreError:
    return kind(fact, where=where, next_step=next_step, details=details)


class UsageError(SanarestoreError):
    """The request cannot be carried out."""

    exit_code = ExitCode.USAGE


class ImageError(SanarestoreError):
    """A problem with one image; the other images are still processed."""


class UnreadableImage(ImageError):  # noqa: N818 - reads better without "Error"
    """The file is missing, or not an image in a supported format."""

    reason = "unreadable"


class MissingImage(UnreadableImage):
    """There is no such file, or no longer."""

    reason = "missing"


class DamagedImage(UnreadableImage):
    """Only a part of the image can be decoded: the file is cut off, or has a hole."""

    reason = "damaged"


class UnwritableImage(ImageError):  # noqa: N818 - reads better without "Error"
    """The format cannot hold this image, or the file cannot be written."""

    reason = "unwritable"


class NoImagesError(SanarestoreError):
    """No readable image was found."""

    exit_code = ExitCode.NO_IMAGES


class WeightsError(SanarestoreError):
    """Weights are missing, damaged, of the wrong shape, or refused."""

    exit_code = ExitCode.WEIGHTS


class OutOfMemory(SanarestoreError):  # noqa: N818 - reads better without "Error"
    """There is not enough memory, even after retrying with smaller tiles where that is possible."""

    reason = "memory"


class DiskFull(SanarestoreError):  # noqa: N818 - reads better without "Error"
    """The disk or a quota is full, so that no file can be written."""

    reason = "disk-full"


class Diverged(SanarestoreError):  # noqa: N818 - reads better without "Error"
    """Loss or gradient is no longer finite; that training step changed nothing."""


def disk_full(where: str | PathLike[str]) -> DiskFull:
    """The error for a file that could not be written because the disk is full."""
    return DiskFull(
        "the disk is full", where=where,
        next_step="Free some space and run the command again: what is finished is kept.",
    )  # fmt: skip
