"""`report.html` in a run's folder: curves, figures before and after, pictures and recipe, in one file."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sanarestore.evaluation.columns import Place, Table, table
from sanarestore.templates import render, write_page
from sanarestore.training.curves import Picture, gain_picture, importance_picture, loss_picture
from sanarestore.training.importance import EXPLAINED as IMPORTANCE_EXPLAINED
from sanarestore.training.importance import EXPLAINED_DECODER, importance_rows
from sanarestore.training.pictures import TITLES
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.record import RunRecord, shortened
from sanarestore.training.results import EXPLAINED, EXPLAINED_BASE

FILE = "report.html"


@dataclass(frozen=True, kw_only=True, slots=True)
class StageSection:
    """The part of the page for one stage."""

    title: str
    facts: Sequence[tuple[str, str]]
    """Name and value."""
    tables: Sequence[tuple[str, Table, Sequence[str]]]
    """Title, table and captions."""
    warning: str
    curves: Sequence[Picture]
    grids: Sequence[tuple[str, str]]
    """Caption and address of a picture."""
    recipe: str


def write_report(folder: Path, stages: Sequence[Path] = ()) -> Path:
    """Write the report of a run, or of all its `stages`, from their folders; OSError if the file cannot be written."""
    records = [RunRecord.read(stage) for stage in stages or (folder,)]
    sections = [_section(record, f"Stage {number}" if stages else "") for number, record in enumerate(records, start=1)]
    name = str(records[-1].recipe.get("name", folder.name))
    path = folder / FILE
    write_page(path, __package__, "report.html", title=name, sections=sections)
    return path


def curves_svg(record: RunRecord) -> str:
    """Draw the curves of a run as one SVG file; empty if there are too few points."""
    shown = [each for each in _pictures(record) if each]
    return render(__package__, "curves.svg", pictures=shown) if shown else ""


def changed_recipe(recipe: Any) -> str:
    """Return the fields of a recipe that differ from the defaults, as TOML."""
    try:
        found = TrainingRecipe.from_dict(dict(recipe)).changed()
    except Exception:  # a recipe of another version is shown unchanged
        found = dict(recipe)
    return toml(found)


def toml(values: dict[str, Any]) -> str:
    """Write plain values as TOML: single fields first, then tables."""
    tables = {name: value for name, value in values.items() if isinstance(value, dict)}
    lines = [f"{name} = {_value(value)}" for name, value in values.items() if name not in tables and value is not None]
    for name, inner in tables.items():
        lines += ["", f"[{name}]", *(f"{_key(key)} = {_value(value)}" for key, value in inner.items())]
    return "\n".join(lines).strip() + "\n"


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_key(key)} = {_value(each)}' for key, each in value.items())} }}"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in escaped) + '"'
    return f"{value:g}" if isinstance(value, float) else str(value)


def data_facts(record: RunRecord) -> list[tuple[str, str]]:
    """Facts about the data, name and value."""
    data = record.data
    if data is None:
        return []
    size = f"{data.size / 1e9:.1f} GB" if data.size >= 1e8 else f"{data.size / 1e6:.1f} MB"
    facts = [("trained on", f"{data.trained:,} {data.kind}, {size}"), ("held back", f"{data.held_back:,} {data.kind}")]
    if data.captions:
        more = f", and {data.other_captions:,} more" if data.other_captions else ""
        named = (f"“{shortened(each)}”" if each else "none" for each in data.captions)
        facts.append(("captions", ", ".join(named) + more))
    return facts


def depth_facts(record: RunRecord) -> list[tuple[str, str]]:
    """Facts about the change of the blocks of a transformer or a decoder and its cost, name and value."""
    depth = record.depth
    if depth is None:
        return []
    cost = depth.cost(record.results.after)
    if depth.decoder is None:
        return [("blocks", depth.words), ("validation", cost)]
    return [("blocks", depth.words), ("reconstruction", cost), ("decoder", depth.decoder.words)]


def _pictures(record: RunRecord) -> list[Picture | None]:
    """Return all curves of a run, and the importance of its base's blocks; None for those with too few points."""
    depth = record.depth
    found = importance_picture(depth.importances, depth.removed) if depth else None
    return [gain_picture(record.gains), loss_picture(record.losses), found]


def _section(record: RunRecord, title: str) -> StageSection:
    recipe, facts, results = record.recipe, record.facts, record.results
    objective = str(recipe.get("objective", ""))
    steps = f"{record.steps:,} of {facts.get('steps', record.steps):,}"
    shown = [
        ("objective", objective), ("base", str(facts.get("origin", ""))), ("steps", steps),
        ("time", f"{record.minutes:.0f} min on {facts.get('device', '?')}, {facts.get('dtype', '')}"),
        ("crops", f"{facts.get('batch', 0):,} per step, {recipe.get('patch', 0)} px"),
        *depth_facts(record), ("trained parameters", f"{facts.get('trained_parameters', 0):,}"), *data_facts(record),
    ]  # fmt: skip
    if record.setbacks:
        shown.append(("setbacks", f"{record.setbacks}: the run diverged and continued at a lower rate"))
    tables: list[tuple[str, Table, Sequence[str]]] = []
    if results.rows:
        captions = [EXPLAINED, EXPLAINED_BASE] if results.base else [EXPLAINED]
        tables.append(("Before and after", table(results.rows, Place.PAGE), captions))
    if results.setting_rows:
        tables.append(("The latent path", table(results.setting_rows, Place.PAGE), []))
    if record.depth and record.depth.importances:
        decoder = record.depth.decoder
        rows = importance_rows(record.depth.importances, record.depth.removed, decoder.names if decoder else ())
        caption = EXPLAINED_DECODER if decoder else IMPORTANCE_EXPLAINED
        tables.append(("Importance of the blocks", table(rows, Place.PAGE), [caption]))
    curves = [each for each in _pictures(record) if each]
    return StageSection(
        title=f"{title}: {objective}" if title else "", facts=[each for each in shown if each[1]], tables=tables,
        warning=results.warning, curves=curves, grids=_grids(record), recipe=changed_recipe(recipe),
    )  # fmt: skip


def _grids(record: RunRecord) -> list[tuple[str, str]]:
    """Return the last grid of pictures and the first one; the others stay in the folder."""
    ends = dict([*record.pictures[-1:], *record.pictures[:1]])
    names = ", ".join(TITLES[:-1]) + f" and {TITLES[-1]}"
    return [(f"{names}, step {step:,}", _address(path)) for step, path in ends.items()]


def _address(path: Path) -> str:
    return f"data:image/webp;base64,{base64.b64encode(path.read_bytes()).decode()}"
