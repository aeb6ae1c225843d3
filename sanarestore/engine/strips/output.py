"""The file of a photograph that is restored in strips, under its temporary name."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import BinaryIO

from sanarestore import images
from sanarestore.engine.jobs import Job
from sanarestore.errors import UnwritableImage
from sanarestore.files import unwritable


class StripOutput:
    """A new file, open for writing as long as the block inside runs; what the disk refuses becomes our error."""

    def __init__(self, job: Job, frame: images.Image, format: images.Format) -> None:  # noqa: A002 - the word users say
        """`frame` is the result without its pixels, prepared for the format."""
        self._job, self._frame, self._format = job, frame, format
        self._file: BinaryIO | None = None
        self._writer: images.StripWriter | None = None

    def __enter__(self) -> "StripOutput":
        assert self._job.temporary is not None
        with self._writing():
            self._job.temporary.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._job.temporary.open("xb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        with self._writing():
            self._file.close()

    def begin(self) -> "StripOutput":
        """Begin the file, anew if it was begun before."""
        assert self._file is not None
        with self._writing():
            self._file.seek(0)
            self._file.truncate()
            self._writer = images.strip_writer(self._file, self._frame, self._format)
        return self

    def write(self, codes_hWS: images.Stored) -> None:
        """Write the next rows; DiskFull or UnwritableImage if the disk refuses."""
        assert self._writer is not None
        with self._writing():
            self._writer.write(codes_hWS)

    def finish(self) -> None:
        """Write what follows the last row, and make the file survive a power cut; errors as above."""
        assert self._writer is not None
        assert self._file is not None
        with self._writing():
            self._writer.finish()
            self._file.flush()
            os.fsync(self._file.fileno())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unwritable(self._job.output, error) from error
        except UnwritableImage as error:
            raise UnwritableImage(error.fact, where=self._job.output, next_step=error.next_step) from error
