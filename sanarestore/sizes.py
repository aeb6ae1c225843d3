"""Sizes in bytes: parse those of users, and write sizes for users."""

import math
import re

from sanarestore.errors import UsageError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def parse_size(text: str, where: str) -> int:
    """Parse `8G`, `500M`, `2GiB` or a number of bytes; UsageError, naming the flag, for any other text."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?", text.strip().lower())
    size = float(found[1]) * _UNITS.get(found[2], 0) if found else 0.0
    if not 1 <= size < math.inf:
        raise UsageError(f"'{text}' is not a valid size", where=where, next_step="Use 8G, 500M or 2GiB.")
    return round(size)


def spoken_size(size: int) -> str:
    """Write a number of bytes for people: 12.0 MB, 3.4 GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
