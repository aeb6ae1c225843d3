"""Messages of image libraries, collected instead of shown.

tifffile and imagecodecs report damage through the log. Python prints log messages of libraries on stderr if a program
has not set up logging, and nobody reads there.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGERS = ("tifffile", "imagecodecs")
_collecting = threading.local()


class _Collect(logging.Filter):
    """Keeps the messages of threads that collect them, and passes on all others."""

    def filter(self, record: logging.LogRecord) -> bool:
        messages: list[str] | None = getattr(_collecting, "messages", None)
        if messages is None:
            return True
        if len(messages) < 100 and record.levelno >= logging.WARNING:
            messages.append(record.getMessage())
        return False


for _name in _LOGGERS:
    logging.getLogger(_name).addFilter(_Collect())


@contextmanager
def collected() -> Iterator[list[str]]:
    """Collect what the libraries log in this thread while the block runs: warnings and errors, at most 100."""
    before = getattr(_collecting, "messages", None)
    messages: list[str] = []
    _collecting.messages = messages
    try:
        yield messages
    finally:
        _collecting.messages = before
