"""The card of a trained model or adapter: `README.md` in its folder, with the front matter that hubs read.

It says what the weights are for, how to use them, what they were trained on, how much they gain, and what to check
before publishing them. It neither names nor shows photographs: the folder may be published, and photographs are
private.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sanarestore import __version__, weights
from sanarestore.degradations.requests import DEFAULT_PROMPT
from sanarestore.evaluation.columns import Place, Table, table
from sanarestore.files import write_atomically
from sanarestore.training.card_check import check_card
from sanarestore.training.licences import Licence
from sanarestore.training.record import RunRecord, shortened
from sanarestore.training.report import changed_recipe, curves_svg, data_facts, depth_facts
from sanarestore.training.results import EXPLAINED, EXPLAINED_BASE

CURVES = "curves.svg"

TAGS = ("image-restoration", "photography", "sanarestore")

PRIVATE = ("held_back", "experts")
"""Fields of a recipe that name files or folders."""

_SECTION = "\n## {}\n\n{}\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """The content of a trained folder, and its origin."""

    folder: Path
    name: str
    kind: Literal["model", "adapter", "autoencoder"]
    base: str | None
    """Name of an adapter's base, or of the weights that training began from; None for new weights."""
    prompt: str
    """Default prompt."""
    prompts: tuple[str, ...] = ()
    """Prompts that an adapter restores, if its base restores all others."""

    @classmethod
    def of(cls, folder: Path, name: str, base: str | None) -> "Trained":
        """Read a folder that training has written; `base` names the weights that it began from."""
        if weights.is_adapter(folder):
            index = weights.read_adapter_index(folder)
            return cls(
                folder=folder, name=name, kind="adapter", base=str(index["base"]),
                prompt=str(index["defaults"]["prompt"]), prompts=tuple(index.get("prompts") or ()),
            )  # fmt: skip
        if weights.is_autoencoder(folder):
            return cls(folder=folder, name=name, kind="autoencoder", base=base, prompt="")
        defaults: dict[str, Any] = weights.read_manifest(folder)["defaults"]
        return cls(folder=folder, name=name, kind="model", base=base, prompt=str(defaults.get("prompt", "")))

    @property
    def is_adapter(self) -> bool:
        """Whether it is an adapter."""
        return self.kind == "adapter"

    @property
    def hub_base(self) -> str | None:
        """The base's hub id without its revision; None for a base that is not on a hub."""
        return self.base.partition("@")[0] if self.base and weights.is_hub_id(self.base) else None

    @property
    def base_shown(self) -> str:
        """Name of the base for readers; for a folder only its last part, because paths are private."""
        if self.base is None:
            return "none, new weights"
        return self.base if self.hub_base or self.base == weights.EMBEDDED else Path(self.base).name


def write_card(trained: Trained, record: RunRecord) -> Path:
    """Write the card, its curves and the texts of the base's licence; OSError if the disk refuses.

    ValueError if the front matter has a fault, which would be an error of this module.
    """
    licence = Licence.of(weights.resolve(trained.base)) if trained.base else Licence(stated=weights.NOT_STATED)
    licence.copy(trained.folder)
    curves = curves_svg(record)
    if curves:
        with write_atomically(trained.folder / CURVES, durable=False) as file:
            file.write(curves.encode())
    text = card(trained, record, licence, has_curves=bool(curves))
    if faults := check_card(text):
        raise ValueError(f"the front matter of the card has faults: {'; '.join(faults)}")
    path = trained.folder / weights.CARD
    with write_atomically(path, durable=False) as file:
        file.write(text.encode("utf-8", errors="backslashreplace"))
    return path


def card(trained: Trained, record: RunRecord, licence: Licence, *, has_curves: bool = False) -> str:
    """The text of the card."""
    kind = trained.kind
    parts = [_front_matter(trained, licence), f"\n# {_plain(trained.name)}\n", f"\n{_purpose(trained, record)}\n"]
    parts.append(_SECTION.format("Use", _usage(trained)))
    facts = [("base", trained.base_shown), ("objective", record.recipe.get("objective", "")), *_numbers(record)]
    rows = "\n".join(f"| {name} | {_cell(str(value))} |" for name, value in facts if value)
    parts.append(_SECTION.format("Training", f"| | |\n|---|---|\n{rows}"))
    recipe = changed_recipe({name: value for name, value in record.recipe.items() if name not in PRIVATE})
    parts.append(f"\nRecipe, as far as it differs from the defaults:\n\n```toml\n{recipe}```\n")
    if record.results.rows:
        parts.append(_SECTION.format("Before and after", _figures(record)))
    if has_curves:
        parts.append(f"\n![Validation and loss over the steps]({CURVES})\n")
    parts.append(_SECTION.format("Limits", _bullets(_limits(trained, record))))
    conditions = licence.conditions(trained.base_shown) if trained.base else [
        "The weights come from your own data. Choose a licence, and replace `license: unknown`."
    ]  # fmt: skip
    if record.data is not None and record.data.captions:
        conditions.append("The captions above and in the files come from your data: check that you may publish them.")
    parts.append(_SECTION.format(f"Before you publish this {kind}", _bullets(conditions)))
    parts.append(f"\nWritten by sanarestore {__version__}. This file may be edited.\n")
    return "".join(parts)


def _front_matter(trained: Trained, licence: Licence) -> str:
    fields: dict[str, str] = {**licence.fields, "library_name": "sanarestore", "pipeline_tag": "image-to-image"}
    if trained.hub_base:
        fields["base_model"] = trained.hub_base
        fields["base_model_relation"] = "adapter" if trained.is_adapter else "finetune"
    fields["tags"] = f"[{', '.join((*TAGS, *(['lora'] if _is_low_rank(trained) else [])))}]"
    fields["metrics"] = "[psnr, ssim]"
    return "\n".join(["---", *(f"{key}: {value}" for key, value in fields.items()), "---", ""])


def _is_low_rank(trained: Trained) -> bool:
    return trained.is_adapter and any(trained.folder.glob("*lora*.safetensors"))


def _purpose(trained: Trained, record: RunRecord) -> str:
    if trained.kind == "autoencoder":
        return f"A DC-AE whose decoder has fewer blocks than that of {trained.base_shown}; its encoder is the same."
    kind = f"An adapter of {trained.base_shown}" if trained.is_adapter else "A model"
    data = record.data
    if data is not None and data.captions:
        named = ", ".join(f"`{_plain(shortened(each))}`" if each else "no prompt" for each in data.captions)
        more = f", and {data.other_captions:,} more" if data.other_captions else ""
        return f"{kind} that restores photographs, trained on pairs with the captions {named}{more}."
    lines = list(record.recipe.get("degradations", {}))
    named = ", ".join(f"`{_plain(line)}`" for line in lines[:12]) + (", and more" if len(lines) > 12 else "")
    return f"{kind} that restores photographs, trained to undo {named}." if lines else f"{kind} for photographs."


def _usage(trained: Trained) -> str:
    option = f"--{trained.kind}"
    # The prompt is quoted for a shell; quotes in it are escaped.
    prompt = _plain(trained.prompt).replace("'", "'\\''")
    command = f"sanarestore restore ./photos -o ./restored {option} ./{_plain(trained.folder.name)}"
    with_prompt = f" --prompt '{prompt}'" if prompt not in ("", DEFAULT_PROMPT) else ""
    text = f"```console\n$ pip install sanarestore\n$ {command}{with_prompt}\n```"
    if trained.prompts:
        named = ", ".join(f"`{_plain(shortened(each))}`" if each else "none" for each in trained.prompts[:20])
        text += f"\n\nTrained for these prompts; with all others, the base restores photographs: {named}."
    return text


def _numbers(record: RunRecord) -> list[tuple[str, str]]:
    facts, shown = record.facts, data_facts(record) + depth_facts(record)
    steps, batch = record.steps, int(facts.get("batch", 0))
    shown += [
        ("steps", f"{steps:,} of {batch} crops of {record.recipe.get('patch', 0)} px"),
        ("time", f"{record.minutes:.0f} min on {facts.get('device', '')}, {facts.get('dtype', '')}"),
        ("trained parameters", f"{facts.get('trained_parameters', 0):,}"),
    ]
    return shown


def _figures(record: RunRecord) -> str:
    results = record.results
    explained = f"{EXPLAINED}; {EXPLAINED_BASE}" if results.base else EXPLAINED
    text = f"{_markdown(table(results.rows, Place.PAGE))}\n\n{explained}."
    if results.setting_rows:
        text += f"\n\nThe latent path:\n\n{_markdown(table(results.setting_rows, Place.PAGE))}"
    return text


def _limits(trained: Trained, record: RunRecord) -> list[str]:
    held = record.data.held_back if record.data else 0
    measured = f"The figures are measured on {held:,} images of the same data that training did not see."
    limits = [f"{measured} Other photographs may gain less." if held else "No images were held back for validation."]
    if record.results.warning:
        limits.append(f"It is {record.results.warning}.")
    if trained.is_adapter:
        limits.append(f"It works only with the weights that it was trained on, {trained.base_shown}.")
    return limits


def _markdown(found: Table) -> str:
    head = "| " + " | ".join(column.title for column in found.columns) + " |"
    rule = "|" + "|".join("---" if column.words else "---:" for column in found.columns) + "|"
    return "\n".join([head, rule, *("| " + " | ".join(map(_cell, row)) + " |" for row in found.rows)])


def _bullets(sentences: list[str]) -> str:
    return "\n".join(f"- {each}" for each in sentences)


def _plain(text: str) -> str:
    """Return a text in one line, without marks that would end code in Markdown."""
    return " ".join(text.replace("`", "'").split())


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|").replace("<", "&lt;")
