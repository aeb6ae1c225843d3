"""What figures rest on, in sentences to stand below a table of them."""

from collections.abc import Iterable, Mapping
from typing import Any


def sources(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Of rows as JSON: what each method was told and where it ran, where published figures are from, the protocols."""
    told: dict[str, list[str]] = {}
    protocols: dict[str, None] = {}
    for row in rows:
        if "published" in row:
            fact = row["source"]
        else:
            protocols[row["protocol"]] = None
            asked = "" if "prompt" not in row else f'told "{row["prompt"]}"; ' if row["prompt"] else "blind; "
            # Of the input nothing is to be said.
            fact = asked + row["conditions"] if row["method"] != "degraded" else ""
        if fact and row["method"] not in told.setdefault(fact, []):
            told[fact].append(row["method"])
    return [*(f"{', '.join(methods)}: {fact}" for fact, methods in told.items()), f"Protocol: {', '.join(protocols)}"]
