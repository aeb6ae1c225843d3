"""Model names resolved to folders, and checks of the files in them.

A name is `sanarestore-mini` (embedded: it comes with the package), a folder on this machine, or a hub id such as
`owner/model` or `owner/model@revision`. Nothing here imports torch.
"""

import functools
import json
import re
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs

from sanarestore.errors import WeightsError
from sanarestore.files import hash_file, hash_text, sampled_hash

EMBEDDED = "sanarestore-mini"
"""The model that needs no download."""

MANIFEST = "restoration/config.json"
"""The file that marks a folder as a restoration model and lists the hashes of its other files."""

READER = "restoration/reader.safetensors"
"""Weights of the prompt reader, in the folder of a model that has its own."""

ADAPTER = "adapter.json"
"""The file that marks a folder as an adapter and lists the hashes of its other files."""

AUTOENCODER = "autoencoder.json"
"""The file that marks a folder as an autoencoder that `train` wrote, and lists the hashes of its other files."""

OWN_AUTOENCODER = "vae"
"""The folder of the autoencoder in a model, and the name under which an adapter records one in its own folder."""

CARD = "README.md"
"""The model card, which users may edit, so that no hash of it is kept."""

NOT_STATED = "not stated"
"""Licence of a model whose card states none."""

BASE_PARTS = ("transformer", "vae", "restoration")
"""Parts of a base that an adapter is trained on. A published base has no restoration/; a restoration model's manifest,
which lies there, lists all of the model's files."""

FETCH = "Fetch the model again."

WANTED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.md", "LICENSE*")
"""Files fetched from a hub repository: no pickles, no weights of other frameworks."""

WANTED_OF_AUTOENCODERS = (
    "config.json", "diffusion_pytorch_model*.safetensors", "diffusion_pytorch_model*.json", "vae/*.json",
    "vae/*.safetensors", "*.md", "LICENSE*",
)  # fmt: skip
"""Files fetched when only an autoencoder is needed, from its own repository or from a pipeline's."""

_LICENCE_LINE = re.compile(
    r"^[\s*>-]*licen[sc]e[\s*]*:[\s*]*\[?((?:[^\[\]()\n*|.]|\.(?=\w)){2,60})", re.IGNORECASE | re.MULTILINE
)

_PACKAGE = Path(__file__).parent


def resolve(name: str, wanted: tuple[str, ...] = WANTED) -> Path:
    """Resolve a name to the folder of the model's files, downloading if needed; WeightsError if there is none.

    Downloads go to the hub's cache and include only files that match the patterns in `wanted`.
    """
    if name == EMBEDDED:
        return _embedded()
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if is_hub_id(name):
        return _from_hub(name, wanted)
    raise WeightsError(
        "there is no such model folder",
        where=name,
        next_step=f"Give a folder, a hub id such as owner/model, or {EMBEDDED}.",
    )


def is_model(folder: Path) -> bool:
    """Return whether a folder holds a restoration model, rather than a base to be adapted."""
    return (folder / MANIFEST).is_file()


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds an adapter, rather than a model."""
    return (folder / ADAPTER).is_file() and not is_model(folder)


def is_autoencoder(folder: Path) -> bool:
    """Return whether a folder holds an autoencoder that `train` wrote."""
    return (folder / AUTOENCODER).is_file()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read `restoration/config.json`; WeightsError if it is missing, invalid or of another format."""
    return _read_index(
        folder,
        MANIFEST,
        "this is not a restoration model",
        "A SANA base alone would ignore the photograph: train a restoration model or adapter first with "
        "`sanarestore train`.",
    )


def verify(folder: Path, sha256: dict[str, str], needed: Collection[str] = ()) -> None:
    """Check every listed file against its hash, and that all `needed` are listed; WeightsError names the first."""
    unlisted = set(needed) - sha256.keys()
    if unlisted:
        raise WeightsError(f"there is no hash for {min(unlisted)}", where=folder, next_step=FETCH)
    for name, expected in sha256.items():
        path = folder / name
        if not path.is_file():
            raise WeightsError("the file is missing", where=path, next_step=FETCH)
        if hash_file(path) != expected:
            raise WeightsError(
                f"the file is damaged or was changed: its sha256 is not {expected[:12]}…",
                where=path,
                next_step=FETCH,
            )


def pinned(name: str, wanted: tuple[str, ...] = WANTED) -> str:
    """A name that always means the same weights: the embedded model's, an absolute path, or a hub id with revision."""
    folder = resolve(name, wanted)
    if name == EMBEDDED:
        return name
    # The hub's cache names the folder of a revision after its commit.
    return f"{name.partition('@')[0]}@{folder.name}" if is_hub_id(name) else str(folder.resolve())


def revision_of(name: str) -> str | None:
    """Return the revision in a hub name of a base; None if it has none."""
    return name.partition("@")[2] or None if is_hub_id(name) else None


def anchored(name: str) -> str:
    """A name that means the same model or adapter in any current folder: that of a folder becomes an absolute path."""
    folder = Path(name).expanduser()
    return str(folder.absolute()) if name != EMBEDDED and folder.is_dir() else name


def read_adapter_index(folder: Path) -> dict[str, Any]:
    """Read `adapter.json`; WeightsError if it is missing, invalid, of another format, or names no base."""
    index = _read_index(
        folder, ADAPTER, "this is not an adapter", "Name a folder that `sanarestore train` wrote, or a hub id."
    )
    if not isinstance(index.get("base"), str):
        raise WeightsError(
            "it does not name its base model",
            where=folder / ADAPTER,
            next_step="Fetch the adapter again, or train it again.",
        )
    return index


def read_autoencoder_index(folder: Path) -> dict[str, Any]:
    """Read the autoencoder.json of a folder; WeightsError if it is missing or has another format."""
    return _read_index(folder, AUTOENCODER, "this folder holds no autoencoder that train wrote", FETCH)


def chosen(name: str | None, adapter: str | None) -> str:
    """The model's name; if none is given, the base that the adapter was trained on, or the embedded model."""
    if name is not None:
        return name
    return EMBEDDED if adapter is None else str(read_adapter_index(resolve(adapter))["base"])


def autoencoder_folder(name: str) -> Path:
    """Return the folder of an autoencoder, `vae/` where it is part of a pipeline; `name` is a folder or a hub id."""
    folder = resolve(name, WANTED_OF_AUTOENCODERS)
    return folder / OWN_AUTOENCODER if (folder / OWN_AUTOENCODER).is_dir() else folder


def autoencoder_hash(name: str) -> str:
    """`sampled_hash` of the configuration and the weights of an autoencoder."""
    folder = autoencoder_folder(name)
    weights = (path.name for path in folder.glob("diffusion_pytorch_model*"))
    return sampled_hash(folder, "config.json", *weights)


def chosen_autoencoder(name: str | None, adapter: str | None) -> str | None:
    """Return the name of the autoencoder that replaces the base's: the given one, or the one that the adapter was
    trained with.

    None for the base's own.
    """
    if name is not None or adapter is None:
        return name
    folder = resolve(adapter)
    recorded = read_adapter_index(folder).get("autoencoder")
    return recorded_autoencoder(folder, str(recorded["name"])) if recorded else None


def recorded_autoencoder(folder: Path, name: str) -> str:
    """Return the name of an autoencoder that the adapter in a folder records: `vae` is the one in the folder itself."""
    return str(folder / OWN_AUTOENCODER) if name == OWN_AUTOENCODER else name


def fingerprint(name: str, adapter: str | None = None, autoencoder: str | None = None) -> str:
    """Hexadecimal digest of the weights of a restoration model, or of a base and its adapter; it includes the embedded
    model's prompt reader if the model has no reader of its own, and an autoencoder that replaces the base's."""
    if autoencoder is not None:
        return hash_text(f"{fingerprint(name, adapter)}:{autoencoder_hash(autoencoder)}")
    folder = resolve(name)
    if adapter is None:
        read_manifest(folder)
        own = hash_file(folder / MANIFEST)
    else:
        index = resolve(adapter) / ADAPTER
        read_adapter_index(index.parent)
        parts = (*BASE_PARTS, "scheduler", "text_encoder", "tokenizer")
        own = hash_text(f"{sampled_hash(folder, *parts)}:{hash_file(index)}")
    if (folder / READER).is_file():
        return own
    return hash_text(f"{own}:{hash_file(resolve(EMBEDDED) / READER)}")


def licence_notice(name: str, records: Path | None = None, wanted: tuple[str, ...] = WANTED) -> str | None:
    """Notice for the user about a hub model's licence, the first time that its weights are used; None afterwards.

    The licence of each fetched revision is recorded in `records`, by default `licences.json` in the user's data folder.
    """
    folder = resolve(name, wanted)
    if not is_hub_id(name):
        return None
    path = records or platformdirs.user_data_path("sanarestore") / "licences.json"
    key, stated = pinned(name, wanted), licence(folder)
    known = _known_licences(path)
    if known.get(key) == stated:
        return None
    with suppress(OSError):  # the notice is then repeated next time
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**known, key: stated}, indent=2) + "\n", encoding="utf-8")
    return f"{name}: its weights come under the licence '{stated}'; its text is in {folder}"


def _known_licences(path: Path) -> dict[str, str]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def licence(folder: Path) -> str:
    """Return the licence in the front matter, or else the text, of the model card; `NOT_STATED` if there is none."""
    fields, text = read_card(folder)
    if found := fields.get("license_name") or fields.get("license"):
        return found
    # Cards of published SANA checkpoints have only this line: - **License:** [NSCL v2-custom](./LICENSE.txt).
    named = _LICENCE_LINE.search(text)
    return named[1].strip() if named else NOT_STATED


def read_card(folder: Path) -> tuple[dict[str, str], str]:
    """Return the fields of a model card's front matter, unparsed, and the text after it; empty without a card."""
    card = folder / CARD
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines() if card.is_file() else []
    if lines[:1] != ["---"] or "---" not in lines[1:]:
        return {}, "\n".join(lines)
    end = lines.index("---", 1)
    fields = (line.partition(":") for line in lines[1:end])
    return {key.strip(): value.strip() for key, _, value in fields}, "\n".join(lines[end + 1 :])


def _read_index(folder: Path, name: str, otherwise: str, next_step: str) -> dict[str, Any]:
    """Read a JSON file of format 1; `otherwise` completes the message of the WeightsError for a missing file."""
    path = folder / name
    if not path.is_file():
        raise WeightsError(f"{name} is missing, so {otherwise}", where=folder, next_step=next_step)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"not valid JSON ({error})", where=path, next_step=FETCH) from error
    if not isinstance(content, dict) or content.get("format") != 1:
        found = content.get("format") if isinstance(content, dict) else None
        raise WeightsError(
            f"format {found!r} is not known to this version, which reads format 1",
            where=path,
            next_step="Update sanarestore, or fetch a model or adapter made for this version.",
        )
    return content


def _embedded() -> Path:
    """The embedded model's folder, inside the wheel or beside the package in a checkout."""
    for folder in (_PACKAGE / "_models" / EMBEDDED, _PACKAGE.parent / "models" / EMBEDDED):
        if is_model(folder):
            return folder
    raise WeightsError(
        "the embedded model is not in this installation",
        where=EMBEDDED,
        next_step="Install sanarestore again, or name another model with --model.",
    )


def is_hub_id(name: str) -> bool:
    """Return whether a name is that of a hub repository, and of no folder here."""
    there = Path(name).expanduser().is_dir()
    return not there and name.count("/") == 1 and not name.startswith((".", "~")) and "\\" not in name


@functools.lru_cache
def _from_hub(name: str, wanted: tuple[str, ...]) -> Path:
    """Download a hub repository; cached per process, so that the weights do not change during a run."""
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(wanted)))
    except Exception as error:
        # The hub library raises many kinds of errors (network, missing, gated); one message serves the user for all.
        raise WeightsError(
            f"there is no such folder, and it cannot be fetched from the hub ({type(error).__name__})",
            where=name,
            next_step="Check the name and the connection; offline, give the folder of a downloaded copy.",
        ) from error
