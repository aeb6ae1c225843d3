"""Licences of bases, for the cards of models trained from them: identifiers that hubs know, and conditions of
publishing."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sanarestore import weights

PERMISSIVE = frozenset({
    "afl-3.0", "apache-2.0", "artistic-2.0", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "bsl-1.0",
    "cc", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc0-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0",
    "ecl-2.0", "isc", "mit", "ms-pl", "ncsa", "pddl", "postgresql", "unlicense", "wtfpl", "zlib",
})  # fmt: skip
"""Identifiers of licences that require little more than a copy of their text."""

CONDITIONAL = frozenset({
    "agpl-3.0", "apple-amlr", "apple-ascl", "bigcode-openrail-m", "bigscience-bloom-rail-1.0",
    "bigscience-openrail-m", "c-uda", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0",
    "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0",
    "cc-by-sa-4.0", "cdla-sharing-1.0", "creativeml-openrail-m", "deepfloyd-if-license", "epl-1.0", "epl-2.0",
    "etalab-2.0", "eupl-1.1", "eupl-1.2", "fair-noncommercial-research-license", "gemma", "gfdl", "gpl", "gpl-2.0",
    "gpl-3.0", "h-research", "intel-research", "lgpl", "lgpl-2.1", "lgpl-3.0", "lgpl-lr", "llama2", "llama3",
    "llama3.1", "llama3.2", "llama3.3", "llama4", "lppl-1.3c", "mpl-2.0", "odbl", "odc-by", "ofl-1.1", "open-mdw",
    "openrail", "openrail++", "osl-3.0",
})  # fmt: skip
"""Identifiers of licences with further conditions, such as the same licence for derived works."""

OTHER, UNKNOWN = "other", "unknown"
"""Identifiers for a licence with its own name, and for none stated."""

IDENTIFIERS = PERMISSIVE | CONDITIONAL | {OTHER, UNKNOWN}
"""Values of the field `license` in a model card."""

_NVIDIA = re.compile(r"\bnscl\b|nvidia", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Licence:
    """The licence of a base."""

    stated: str
    """The licence as the base's card states it, or `weights.NOT_STATED`."""
    files: tuple[Path, ...] = ()
    """Files of the base that hold its text."""

    @classmethod
    def of(cls, folder: Path) -> "Licence":
        """The licence of the model in a folder."""
        found = (path for pattern in ("LICENSE*", "LICENCE*", "NOTICE*") for path in folder.glob(pattern))
        return cls(stated=weights.licence(folder), files=tuple(sorted(path for path in found if path.is_file())))

    @property
    def fields(self) -> Mapping[str, str]:
        """Fields of a model card: license, and license_name and license_link of a licence with its own name."""
        stated = self.stated.strip().lower()
        if stated == weights.NOT_STATED:
            return {"license": UNKNOWN}
        if stated in IDENTIFIERS - {OTHER}:
            return {"license": stated}
        name = re.sub(r"[^a-z0-9.+]+", "-", stated).strip("-.") or "not-named"
        texts = [path.name for path in self.files if not path.name.startswith("NOTICE")]
        return {"license": OTHER, "license_name": name, **({"license_link": texts[0]} if texts else {})}

    @property
    def is_nvidia(self) -> bool:
        """Whether it is NVIDIA's licence of SANA's weights."""
        return bool(_NVIDIA.search(self.stated))

    def copy(self, folder: Path) -> None:
        """Put the texts of the licence into another folder; the disk's OSError if that fails."""
        for path in self.files:
            shutil.copyfile(path, folder / path.name)

    def conditions(self, base: str) -> list[str]:
        """Return the licence's conditions for publishing weights trained from the base, a sentence each."""
        kept = " and ".join(f"`{path.name}`" for path in self.files)
        text = f"Keep {kept}, the text of the base's licence, in this folder." if kept else (
            "Add the text of the base's licence: no file of it was found in the base's folder."
        )  # fmt: skip
        named = f"Name the base, {base}, and keep its notices of copyright and attribution."
        if self.stated == weights.NOT_STATED:
            return [
                "The base states no licence. Ask its authors before you publish, and replace `license: unknown`.",
                named,
            ]  # fmt: skip
        if self.fields["license"] in PERMISSIVE:
            return [
                text,
                named,
                f"The licence of the base is {self.stated}; yours may be another one that respects it.",
            ]
        if self.is_nvidia:
            return [
                f"The base comes under NVIDIA's licence for SANA's weights ({self.stated}), which also covers derived "
                "weights. Read its text first; these are the points to look for.",
                text, named,
                "Licences of NVIDIA's source code allow research and other non-commercial use only. Say so, and bind "
                "those who use your weights to the same limit.",
                "Say which files are derived: all weights in this folder.",
                "The base's text encoder, Gemma, has terms of use of its own. It is not in this folder, but "
                "`prompts.safetensors` holds its embeddings of prompts.",
            ]  # fmt: skip
        return [
            f"The licence of the base ({self.stated}) may set conditions for derived works: the same licence, limits "
            "of use, or no commercial use. Read its text before you publish.",
            text, named,
        ]  # fmt: skip
