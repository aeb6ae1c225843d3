"""Checks of the types of options; errors name the flag."""

import numbers
from collections.abc import Sequence

from sanarestore.errors import UsageError


def check_numbers(options: object, names: Sequence[str], kind: type) -> None:
    """Convert options to Python's own numbers; UsageError for one that is neither None nor of its kind in the module
    `numbers`."""
    for name in names:
        value = getattr(options, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
            fact = f"{value!r} is not a {'whole ' if kind is numbers.Integral else ''}number"
            raise UsageError(fact, where=flag_of(name), next_step="Give a number.")
        if value is not None:
            # 1, 1.0 and NumPy's numbers are the same option, and fingerprints are made of Python's own.
            made = int if kind is numbers.Integral else float
            object.__setattr__(options, name, made(getattr(options, name)))


def check_texts(options: object, names: Sequence[str]) -> None:
    """Raise UsageError for an option that is neither a text nor None."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not isinstance(value, str):
            raise UsageError(f"{value!r} is not a text", where=flag_of(name), next_step="Put it in quotes.")


def check_flags(options: object, names: Sequence[str]) -> None:
    """Raise UsageError for an option that is neither true nor false."""
    for name in names:
        value = getattr(options, name)
        if not isinstance(value, bool):
            raise UsageError(
                f"{value!r} is neither True nor False", where=flag_of(name), next_step="Give one of these."
            )


def flag_of(name: str) -> str:
    return f"--{name.replace('_', '-')}"
