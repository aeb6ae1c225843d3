"""Check the front matter of a model card as hubs do, without a network."""

import re
from collections.abc import Mapping
from typing import Any

from sanarestore.training.licences import IDENTIFIERS, OTHER

REQUIRED = ("license", "library_name", "pipeline_tag", "tags")

RELATIONS = ("adapter", "finetune", "merge", "quantized")
"""Relations that a model may have to its base."""

_HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
_NAME = re.compile(r"[a-z0-9+.-]+")


def check_card(text: str) -> list[str]:
    """List the faults of a card's front matter, a phrase each."""
    try:
        fields = _read(text)
    except ValueError as error:
        return [str(error)]
    faults = [f"{name} is missing" for name in REQUIRED if not fields.get(name)]
    licence = fields.get("license")
    if licence and licence not in IDENTIFIERS:
        faults.append(f"license: '{licence}' is not an identifier that hubs know")
    if licence == OTHER and not _NAME.fullmatch(str(fields.get("license_name", ""))):
        faults.append("license_name must be lower-case letters, digits and hyphens, because license is other")
    lists = {name: fields[name] for name in ("tags", "metrics") if name in fields}
    faults += [f"{name} must be a list of texts" for name, value in lists.items() if not _is_list_of_texts(value)]
    base, relation = fields.get("base_model"), fields.get("base_model_relation")
    if base is not None and not _HUB_ID.fullmatch(str(base)):
        faults.append(f"base_model: '{base}' is not a hub id")
    if relation is not None and (relation not in RELATIONS or base is None):
        faults.append(f"base_model_relation: '{relation}' is none of {', '.join(RELATIONS)}, or has no base_model")
    return faults


def _read(text: str) -> Mapping[str, Any]:
    """Return the fields of the front matter; ValueError if there is none, or if it is not YAML."""
    import yaml

    lines = text.splitlines()
    if lines[:1] != ["---"] or "---" not in lines[1:]:
        raise ValueError("there is no front matter between two lines of ---")
    try:
        fields = yaml.safe_load("\n".join(lines[1 : lines.index("---", 1)]))
    except yaml.YAMLError as error:
        raise ValueError(f"the front matter is not YAML ({error})") from error
    if not isinstance(fields, dict):
        raise ValueError("the front matter has no fields")
    return fields


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
