"""What this installation can do, found by trying: versions, devices, memory, the embedded model, folders.

Imports torch only while devices are tried, so that a broken installation of it is one finding among others.
"""

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import platformdirs
import psutil
from packaging.requirements import Requirement

from sanarestore import __version__, weights
from sanarestore.engine.budget import free_memory
from sanarestore.errors import WeightsError

Status = Literal["ok", "missing", "problem"]

LEAST_MEMORY = 2e9
"""Bytes that must be free: the program, the embedded model and a photograph of 12 megapixels take about 1.5 GB."""

GIVES = {
    "bench": "methods to compare with: bench --peer",
    "heif": "HEIC photographs",
    "onnx": "models export --onnx",
    "perceptual": "LPIPS, DISTS and FID in bench",
    "raw": "DNG and other camera raw files",
    "ray": "restoring on Ray clusters: --ray",
    "track": "curves of training in TensorBoard: train --track tensorboard",
    "video": "restoring video files",
    "watch": "restoring as files arrive: restore --watch",
}
"""What each extra of the package adds, in words; those for developers are left out."""

SHOWN = ("torch", "diffusers", "transformers", "numpy", "pillow", "tifffile", "imagecodecs", "simplejpeg")
"""Requirements that are shown even if their versions are right, because their versions explain many problems."""

MISSING = "not installed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that was looked at."""

    group: str
    """versions, optional, devices, memory, model or folders."""
    name: str
    """The subject of the check."""
    status: Status
    """ok; missing if restoring works without it; problem if restoring fails for it."""
    found: str
    """The finding, in words."""
    next_step: str = ""
    """The next step, a command where there is one; empty if nothing is to be done."""

    def to_json(self) -> dict[str, Any]:
        """The fields of a JSON line."""
        return asdict(self)


def diagnose() -> Iterator[Finding]:
    """Look at everything, group after group; the last group takes seconds, since a model is loaded and run."""
    yield from versions()
    yield from optional()
    yield from memory()
    yield from folders()
    yield from model()
    yield from devices()


def versions() -> Iterator[Finding]:
    """Versions of the program, of Python and of what the program needs; only wrong ones beside `SHOWN`."""
    yield Finding(group="versions", name="sanarestore", status="ok", found=f"{__version__} in {_package()}")
    system = f"{platform.system()} {platform.machine()}"
    yield Finding(group="versions", name="Python", status="ok", found=f"{platform.python_version()} on {system}")
    for each in _requirements():
        if not _is_needed(each):
            continue
        found = _version(each.name)
        if found != MISSING and found in each.specifier:
            if each.name in SHOWN:
                yield Finding(group="versions", name=each.name, status="ok", found=found)
            continue
        yield Finding(
            group="versions", name=each.name, status="problem", found=f"{found}; {each.specifier} is needed",
            next_step=f"{_pip()} install {_quoted(each)}",
        )  # fmt: skip


def optional() -> Iterator[Finding]:
    """Extras of the package: what they give, and whether their libraries are there."""
    libraries: dict[str, list[Requirement]] = {}
    for each in _requirements():
        for extra in GIVES:
            if _is_needed(each, extra) and not _is_needed(each):
                libraries.setdefault(extra, []).append(each)
    for extra, needed in sorted(libraries.items()):
        absent = [each for each in needed if _version(each.name) == MISSING]
        names = [f"{each.name} {_version(each.name)}" for each in needed if each not in absent]
        yield Finding(
            group="optional", name=extra, status="missing" if absent else "ok",
            found=f"{GIVES[extra]} ({', '.join(names)})" if not absent
            else f"{GIVES[extra]}; needs {', '.join(each.name for each in absent)}",
            next_step=f"{_pip()} install {' '.join(map(_quoted, absent))}" if absent else "",
        )  # fmt: skip


def memory() -> Iterator[Finding]:
    """Memory of this machine or container."""
    free, whole = free_memory(), psutil.virtual_memory().total
    enough = free >= LEAST_MEMORY
    yield Finding(
        group="memory", name="RAM", status="ok" if enough else "problem",
        found=f"{free / 1e9:.1f} GB can be used; the machine has {whole / 1e9:.1f} GB",
        next_step="" if enough else "Close other programs, or raise the container's limit to 2 GB or more.",
    )  # fmt: skip


def folders() -> Iterator[Finding]:
    """Folders that the program writes to; restoring fails only without one for temporary files."""
    known = {
        "temporary": Path(tempfile.gettempdir()),
        "current": Path.cwd(),
        "cache": platformdirs.user_cache_path("sanarestore"),
        "settings": platformdirs.user_config_path("sanarestore"),
        "licences": platformdirs.user_data_path("sanarestore"),
        "hub": _hub_cache(),
    }
    for name, folder in known.items():
        yield _folder(name, folder)


def model() -> Iterator[Finding]:
    """The embedded model: every file against its hash."""
    try:
        folder = weights.resolve(weights.EMBEDDED)
        hashes = dict(weights.read_manifest(folder)["sha256"])
        weights.verify(folder, hashes)
    except (WeightsError, KeyError, TypeError, OSError) as error:
        yield Finding(
            group="model", name=weights.EMBEDDED, status="problem", found=str(error).strip(),
            next_step=f"{_pip()} install --force-reinstall --no-deps sanarestore",
        )  # fmt: skip
        return
    size = sum((folder / name).stat().st_size for name in hashes)
    yield Finding(
        group="model", name=weights.EMBEDDED, status="ok",
        found=f"{len(hashes)} files, {size / 1e6:.0f} MB, every hash is right",
    )  # fmt: skip


def devices() -> Iterator[Finding]:
    """Devices, each with a small computation and a restoration on it."""
    try:
        from sanarestore.engine.device_trial import tried
        from sanarestore.engine.devices import device_names
    except Exception as error:  # a library that cannot be loaded raises anything
        yield Finding(
            group="devices", name="torch", status="problem", found=f"it cannot be loaded ({_one_line(error)})",
            next_step=f"{_pip()} install --force-reinstall torch",
        )  # fmt: skip
        return
    for name in device_names():
        try:
            yield Finding(group="devices", name=name, status="ok", found=tried(name))
        except Exception as error:  # drivers raise anything
            yield Finding(
                group="devices", name=name, status="problem", found=f"it fails ({_one_line(error)})",
                next_step="Check its driver, or choose another device with --devices."
                if name != "cpu" else f"{_pip()} install --force-reinstall sanarestore",
            )  # fmt: skip
    yield from _unused_gpu(device_names())


def _unused_gpu(found: Iterable[str]) -> Iterator[Finding]:
    if shutil.which("nvidia-smi") and not any(name.startswith("cuda") for name in found):
        yield Finding(
            group="devices", name="cuda", status="missing",
            found="a driver is installed, and PyTorch sees no NVIDIA GPU",
            next_step="Run nvidia-smi; if it shows a GPU, install PyTorch for CUDA as pytorch.org says.",
        )  # fmt: skip


def _folder(name: str, folder: Path) -> Finding:
    """Return whether files can be written to a folder, or to the nearest folder above it that exists."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".sanarestore-", suffix=".tmp"):
            pass
    except OSError as error:
        return Finding(
            group="folders", name=name, status="problem" if name == "temporary" else "missing",
            found=f"{folder}: nothing can be written ({error.strerror or error})",
            next_step="Set TMPDIR to a folder with space." if name == "temporary" else "Check its permissions.",
        )  # fmt: skip
    free = shutil.disk_usage(there).free
    return Finding(group="folders", name=name, status="ok", found=f"{folder}, {free / 1e9:.1f} GB free")


def _hub_cache() -> Path:
    with suppress(ImportError):
        from huggingface_hub.constants import HF_HUB_CACHE

        return Path(HF_HUB_CACHE)
    return Path(os.path.expanduser("~/.cache/huggingface/hub"))  # noqa: PTH111 - of a user without a home, too


def _requirements() -> list[Requirement]:
    """Return the requirements in the package's metadata; empty if the package is not installed."""
    try:
        return [Requirement(each) for each in importlib.metadata.requires("sanarestore") or ()]
    except importlib.metadata.PackageNotFoundError:
        return []


def _is_needed(requirement: Requirement, extra: str = "") -> bool:
    """Return whether the package needs a library on this system, with an extra or without any."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return MISSING


def _quoted(requirement: Requirement) -> str:
    """A requirement as an argument of pip, without its marker."""
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"'{requirement.name}{extras}{requirement.specifier}'"


def _package() -> Path:
    return Path(__file__).parents[1]


def _pip() -> str:
    """The command that installs into this Python, short where it is the one that `pip` names."""
    return "pip" if shutil.which("pip") == str(Path(sys.executable).with_name("pip")) else f"{sys.executable} -m pip"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
