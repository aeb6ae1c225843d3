"""Names to folders: where a model's files are, and whether they are the files they should be.

A name is `sanarestore-mini` (embedded: it comes with the package), a folder on this machine, or a hub id such as
`owner/model` or `owner/model@revision`. Nothing here imports torch.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from sanarestore.errors import WeightsError

EMBEDDED = "sanarestore-mini"
"""The model that needs no download."""

MANIFEST = "restoration/config.json"
"""The file that makes a folder a restoration model, and lists the hashes of the others."""

PIECE = 1 << 16
"""Bytes of each piece that `sampled_hash` reads."""

WANTED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.md", "LICENSE*")
"""What is fetched of a hub repository: no pickles, no other frameworks."""

_PACKAGE = Path(__file__).parent


def resolve(name: str) -> Path:
    """The folder of a model's files, downloaded to the hub's cache if it must be; WeightsError if there is none."""
    if name == EMBEDDED:
        return _embedded()
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if name.count("/") == 1 and not name.startswith((".", "~")) and "\\" not in name:
        return _from_hub(name)
    raise WeightsError(
        "there is no such model folder",
        where=name,
        next_step=f"Give a folder, a hub id such as owner/model, or {EMBEDDED}.",
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    """The parsed `restoration/config.json`; WeightsError if it is missing or is not what we write."""
    path = folder / MANIFEST
    if not path.is_file():
        raise WeightsError(
            f"{MANIFEST} is missing, so this is no restoration model",
            where=folder,
            next_step="A SANA base alone would ignore the photograph: train a restoration model or adapter first "
            "with `sanarestore train`.",
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"not valid JSON ({error})", where=path, next_step="Fetch the model again.") from error
    if not isinstance(manifest, dict) or manifest.get("format") != 1:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise WeightsError(
            f"model format {found!r} is not known to this version, which reads format 1",
            where=path,
            next_step="Update sanarestore, or fetch a model made for this version.",
        )
    return manifest


def verify(folder: Path, sha256: dict[str, str]) -> None:
    """Check every listed file against its hash; WeightsError names the first that is missing or differs."""
    for name, expected in sha256.items():
        path = folder / name
        if not path.is_file():
            raise WeightsError("the file is missing", where=path, next_step="Fetch the model again.")
        if hash_file(path) != expected:
            raise WeightsError(
                f"the file is damaged or was changed: its sha256 is not {expected[:12]}…",
                where=path,
                next_step="Fetch the model again.",
            )


def hash_file(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sampled_hash(folder: Path) -> str:
    """Hexadecimal sha256 of a folder's files by name, size and 64 pieces of each: for gigabytes, in no time."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()}\0{size}\0".encode())
        with path.open("rb") as file:
            for piece in range(64):
                file.seek(max(size - PIECE, 0) * piece // 63)
                digest.update(file.read(PIECE))
    return digest.hexdigest()


def licence(folder: Path) -> str:
    """What the model's card says of its licence, in its front matter; "not stated" where it says nothing."""
    card = folder / "README.md"
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines() if card.is_file() else []
    matter = lines[1 : lines.index("---", 1)] if lines[:1] == ["---"] and "---" in lines[1:] else []
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in matter)}
    return said.get("license_name") or said.get("license") or "not stated"


def _embedded() -> Path:
    """Inside the wheel, or beside the package in a checkout."""
    for folder in (_PACKAGE / "_models" / EMBEDDED, _PACKAGE.parent / "models" / EMBEDDED):
        if (folder / MANIFEST).is_file():
            return folder
    raise WeightsError(
        "the embedded model is not in this installation",
        where=EMBEDDED,
        next_step="Install sanarestore again, or name another model with --model.",
    )


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(WANTED)))
    except Exception as error:
        # The hub library has a family of errors (network, missing, gated); to the user they are one fact.
        raise WeightsError(
            f"neither a folder here nor to be had from the hub ({type(error).__name__})",
            where=name,
            next_step="Check the name and the connection; offline, give the folder of a downloaded copy.",
        ) from error
