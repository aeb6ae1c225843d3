"""Convert tables of TOML and JSON to the fields of a recipe, and back; every name and type is checked."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from sanarestore.errors import UsageError
from sanarestore.model.experts import REMOVES


def over(table: dict[str, Any], stage: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe's table, overridden by the fields of a stage; the tables of networks are merged field by
    field."""
    joined = {**json.loads(json.dumps(table)), **stage}
    for name in ("model", "latent"):
        if name in table and name in stage:
            joined[name] = {**table[name], **stage[name]}
    return joined


def changed(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name in ("model", "latent"):
            if inner := changed(value, defaults[name]):
                found[name] = inner
        elif value != defaults[name]:
            found[name] = value
    return found


def experts_of(table: Any, where: Path | str) -> dict[str, str]:
    """Check a table, name of an expert -> model."""
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
        raise UsageError(f"'experts' must be a table of models, not {table!r}", where=where)
    unknown = sorted(table.keys() - set(REMOVES))
    if unknown:
        raise UsageError(
            f"'{unknown[0]}' is not the name of an expert", where=where, next_step=f"Known: {', '.join(REMOVES)}."
        )
    return dict(table)


def weights_of(table: Any, where: Path | str) -> dict[str, float]:
    """Check a table, recipe line -> weight; each weight must be a number."""
    if not isinstance(table, dict):
        raise UsageError(f"'degradations' must be a table, not {table!r}", where=where)
    for line, weight in table.items():
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            raise UsageError(f"the weight of '{line}' must be a number, not {weight!r}", where=where)
    return {line: float(weight) for line, weight in table.items()}


def build(kind: Any, table: dict[str, Any], where: Path | str) -> Any:
    known = {entry.name: entry for entry in fields(kind)}
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in known:
            raise UsageError(
                f"'{name}' is not a field of a recipe", where=where, next_step=f"Known: {', '.join(known)}."
            )
        default: Any = known[name].default
        wanted: type = type(default)
        if wanted is float and isinstance(value, int):
            value = float(value)
        part = type(default[0]) if wanted is tuple and default else str
        if wanted is tuple and isinstance(value, list) and all(type(each) is part for each in value):
            value = tuple(value)
        if not isinstance(value, wanted) or isinstance(value, bool) != (wanted is bool):
            kind_told = f"a list of {part.__name__}" if wanted is tuple else wanted.__name__
            raise UsageError(f"'{name}' must be {kind_told}, not {value!r}", where=where)
        values[name] = value
    return kind(**values)
