"""Errors for Python users, which name keywords of functions instead of flags of the command line. Imports no torch."""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from sanarestore.errors import SanarestoreError
from sanarestore.options import OUTPUT_FORMATS

_TURNED_ON = frozenset(("overwrite", "accept_damaged", "adopt", "keep_dates", "strip", "provenance"))
"""Keywords that are true or false."""
_FORMATS = "|".join(OUTPUT_FORMATS)
_LISTED = re.compile(rf"--format ((?:{_FORMATS})(?:(?:, | or )(?:{_FORMATS}))*)\b")
_VALUED = re.compile(r"--(name|dtype|tiling|devices|bit-depth) ('[^']+'|[0-9]+|float32|bfloat16|off|cpu\b)")
_FLAG = re.compile(r"(\bout )?(?<![\w-])--([a-z][a-z-]*[a-z])\b")
_OUTPUT = re.compile(r"(?<= )-o\b")


@contextmanager
def keywords_named(known: Collection[str]) -> Iterator[None]:
    """Let errors of the block name these keywords of a function instead of flags."""
    try:
        yield
    except SanarestoreError as error:
        where = error.where and in_python(error.where, known, is_place=True)
        error.__init__(in_python(error.fact, known), where=where, next_step=in_python(error.next_step, known))  # type: ignore[misc]
        raise


def in_python(text: str, known: Collection[str], *, is_place: bool = False) -> str:
    """Rewrite a sentence to name keywords, as in `format='tiff'`, instead of flags; unknown flags stay.

    `is_place` is true for the place of an error, where a flag has no value.
    """

    def keyword(flag: str) -> str | None:
        name = flag.replace("-", "_")
        if name == "devices" and name not in known:
            name = "device"
        return name if name in known else None

    def valued(found: re.Match[str]) -> str:
        name, value = keyword(found[1]), found[2]
        quoted = value if value[0] == "'" or value.isdecimal() else f"'{value}'"
        return found[0] if name is None else f"{name}={quoted}"

    def plain(found: re.Match[str]) -> str:
        name = keyword(found[2])
        if name is None:
            return found[0]
        turns_on = name in _TURNED_ON and not is_place and not found[1]
        return f"{found[1] or ''}{name}{'=True' if turns_on else ''}"

    if "format" in known:
        text = _LISTED.sub(lambda found: "format=" + re.sub(rf"\b({_FORMATS})\b", r"'\1'", found[1]), text)
    if "output" in known:
        text = _OUTPUT.sub("output", text.replace("output with -o", "output"))
    return _FLAG.sub(plain, _VALUED.sub(valued, text))
