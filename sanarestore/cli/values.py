"""Values that shells complete: light lists, because completing must not wait for torch.

Where a list stands in a module that is slow to import, it is repeated here, and a test holds both equal.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from sanarestore.options import BLENDING, DTYPES, JUDGES, LATENT, OFFLOADS, OUTPUT_FORMATS, PRECISIONS, SCHEMES
from sanarestore.weights import EMBEDDED

Completions = list[tuple[str, str]]
"""Values, each with what it means."""

COMMANDS = ("restore", "degrade", "train", "bench", "seams")
"""Commands that take settings."""

RECIPES = (
    "noise", "jpeg", "blur", "lowres", "poisson", "camera", "photograph", "grain", "messenger", "lowlight", "colour",
    "dust", "everything", "clean", "combined", "combined-light", "selective", "unneeded",
)  # fmt: skip
"""Recipes that can be named without a level."""

TASKS = {
    "denoise": "noise of a known level", "jpeg": "JPEG artefacts", "sr": "super-resolution", "deblur": "blur",
    "mixed": "several degradations at once", "recipe": "the degradations of --recipe", "prompts": "prompt following",
    "real": "photos with real noise", "clean": "harm to clean photos", "reconstruction": "autoencoders alone",
}  # fmt: skip
"""Tasks of bench."""

METRICS = ("lpips", "dists", "fid")
"""Metrics of bench that need the extra `perceptual`."""

PEERS = {"nlm": "non-local means", "wavelet": "wavelet shrinkage", "tv": "total variation"}
"""Classical methods of bench."""


def models(incomplete: str) -> Completions:
    """The embedded model, published bases, and what is in the hub's cache."""
    known = {EMBEDDED: "embedded", **_in_hub_cache()}
    return _starting(known.items(), incomplete)


def bases(incomplete: str) -> Completions:
    """Models to train from."""
    return [*models(incomplete), *_starting([("scratch", "new weights")], incomplete)]


def judges(incomplete: str) -> Completions:
    """Built-in judges of candidates."""
    meanings = {"fidelity": "agreement with the photo", "niqe": "quality without a reference"}
    return _starting([(each, meanings[each]) for each in JUDGES], incomplete)


def tilings(incomplete: str) -> Completions:
    """Tiling schemes of restore."""
    meanings = {"exact": "same result as untiled", "off": "untiled"}
    every = (*SCHEMES, "off")
    return _starting([(each, meanings.get(each, _blended(each))) for each in every], incomplete)


def codecs(incomplete: str) -> Completions:
    """Codecs of video."""
    return _starting([("ffv1", "lossless"), ("av1", "small files")], incomplete)


def precisions(incomplete: str) -> Completions:
    """Precisions of quantized weights."""
    meanings = {"int8": "half of bfloat16", "int4": "a quarter", "fp8": "half, for recent GPUs"}
    return _starting([(each, meanings[each]) for each in PRECISIONS], incomplete)


def offloads(incomplete: str) -> Completions:
    """Kinds of weights that may wait in the host's memory."""
    meanings = {"none": "all weights on the device", "parts": "those of the current stage", "blocks": "two blocks"}
    return _starting([(each, meanings[each]) for each in OFFLOADS], incomplete)


def tiling_lists(incomplete: str) -> Completions:
    """Tiling schemes of seams, separated by commas."""
    return _last_of_list([(each, _blended(each) if each in BLENDING else "as untiled") for each in SCHEMES], incomplete)


def devices(incomplete: str) -> Completions:
    """Devices of this machine, separated by commas."""
    return _last_of_list([*_devices(), ("all", "every GPU")], incomplete)


def device(incomplete: str) -> Completions:
    """One device of this machine."""
    return _starting(_devices(), incomplete)


def dtypes(incomplete: str) -> Completions:
    """Arithmetic of the networks."""
    return _starting([(each, "") for each in DTYPES], incomplete)


def sets(incomplete: str) -> Completions:
    """Published test sets, and speed."""
    from sanarestore.evaluation.public import SETS

    return _starting([*((each.name, each.title) for each in SETS.values()), ("speed", "time and memory")], incomplete)


def tasks(incomplete: str) -> Completions:
    """Tasks of bench."""
    return _starting(TASKS.items(), incomplete)


def metrics(incomplete: str) -> Completions:
    """Metrics of bench."""
    return _starting([(each, "") for each in METRICS], incomplete)


def peers(incomplete: str) -> Completions:
    """Classical methods of bench."""
    return _starting(PEERS.items(), incomplete)


def recipes(incomplete: str) -> Completions:
    """Recipes of degradations, separated by commas."""
    return _last_of_list([(each, "") for each in RECIPES], incomplete)


def formats(incomplete: str) -> Completions:
    """Formats that are written."""
    return _starting([(each, "") for each in OUTPUT_FORMATS], incomplete)


def commands(incomplete: str) -> Completions:
    """Commands that take settings."""
    return _starting([(each, "") for each in COMMANDS], incomplete)


def presets(incomplete: str) -> Completions:
    """Presets in the settings files; none if a file is wrong, because completing reports no errors."""
    import tomllib

    from sanarestore.cli.settings import PRESET, PROJECT_FILE, user_file

    found: dict[str, str] = {}
    for path in (PROJECT_FILE, user_file()):
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8")).get(PRESET, {})
        except (OSError, ValueError):
            continue
        for name, values in table.items() if isinstance(table, dict) else ():
            found.setdefault(name, f"of {path}" if isinstance(values, dict) else "")
    return _starting(found.items(), incomplete)


def _starting(known: Iterable[tuple[str, str]], incomplete: str) -> Completions:
    return [(value, meaning) for value, meaning in known if value.startswith(incomplete)]


def _last_of_list(known: Iterable[tuple[str, str]], incomplete: str) -> Completions:
    """Complete the last item of a list with commas, without those that it has already."""
    before, comma, last = incomplete.rpartition(",")
    return [
        (before + comma + value, meaning)
        for value, meaning in known if value.startswith(last) and value not in before.split(",")
    ]  # fmt: skip


def _blended(scheme: str) -> str:
    return "blends tiles of the latent path" if scheme in LATENT else "blends restored tiles"


def _devices() -> Completions:
    """Devices as far as they can be told without torch: NVIDIA's are files."""
    numbers = sorted(int(path.name[6:]) for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit())
    found = [("auto", "the fastest"), ("cpu", ""), *((f"cuda:{number}", "NVIDIA GPU") for number in numbers)]
    return [*found, ("mps", "Apple GPU")] if sys.platform == "darwin" else found


def _in_hub_cache() -> dict[str, str]:
    """Hub ids of models of SANA in the hub's cache."""
    import os

    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    found = sorted(path.name for path in cache.glob("models--*--*") if "sana" in path.name.lower())
    return {"/".join(name.split("--")[1:]): "downloaded" for name in found}
