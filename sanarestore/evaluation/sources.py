"""Sentences for below a table that say where its figures come from."""

from collections.abc import Iterable, Mapping
from typing import Any

from sanarestore.evaluation.rows import DEGRADED


def sources(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Name the prompt, settings and machine of each method, the sources of published figures, and the protocols.

    `rows` are as in JSON. A method that ran in several ways is listed with the tasks and levels of each.
    """
    ways: dict[str, dict[str, list[str]]] = {}  # fact -> method -> cases
    protocols: dict[str, None] = {}
    for row in rows:
        if "published" not in row:
            protocols[row["protocol"]] = None
        if row["method"] != DEGRADED:
            cases = ways.setdefault(_fact(row), {}).setdefault(row["method"], [])
            cases.append(f"{row['task']} {row['level']}")
    several = {name for name in _names(ways) if sum(name in methods for methods in ways.values()) > 1}
    sentences = []
    for fact, methods in ways.items():
        named = [f"{name} ({', '.join(cases)})" if name in several else name for name, cases in methods.items()]
        sentences.append(f"{', '.join(named)}: {fact}")
    return [*sentences, f"Protocol: {', '.join(protocols)}"]


def _names(ways: Mapping[str, Mapping[str, object]]) -> set[str]:
    return {name for methods in ways.values() for name in methods}


def _fact(row: Mapping[str, Any]) -> str:
    if "published" in row:
        return str(row["source"])
    if row.get("prompt_per_image"):
        asked = "one prompt per image"
    elif "prompt" in row:
        asked = f'prompt "{row["prompt"]}"' if row["prompt"] else "unprompted"
    else:
        return str(row["conditions"])
    return f"{asked}; {row['conditions']}"
