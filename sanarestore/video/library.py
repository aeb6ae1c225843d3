"""PyAV, which only video needs. It includes FFmpeg, some of whose encoders are under the GPL, so users install it
themselves."""

from importlib import import_module
from typing import Any

from sanarestore.errors import UnwritableImage, UsageError

INSTALL = "pip install 'sanarestore[video]'"

CODECS: dict[str, tuple[str, ...]] = {"ffv1": ("ffv1",), "av1": ("libsvtav1", "libaom-av1", "librav1e")}
"""Codecs by name, and the encoders for each, best first. Encoders of H.264 and HEVC are under the GPL: only users
choose them."""

CONTAINERS: dict[str, str] = {".mkv": "ffv1", ".mp4": "av1", ".webm": "av1", ".mov": "av1"}
"""Suffixes of clips that are written, with the default codec of each."""

_HELD: dict[str, tuple[str, ...]] = {
    ".mkv": ("ffv1", "av1", "h264", "hevc", "vp9", "prores", "mpeg4"),
    ".mp4": ("av1", "h264", "hevc", "vp9", "mpeg4"),
    ".mov": ("av1", "h264", "hevc", "prores", "mpeg4"),
    ".webm": ("av1", "vp9"),
}
"""The codecs that each kind of file can hold."""

_OPTIONS: dict[str, dict[str, str]] = {
    "ffv1": {"level": "3", "slicecrc": "1", "g": "1"},
    "libsvtav1": {"crf": "18", "preset": "6"},
    "libaom-av1": {"crf": "18", "cpu-used": "4", "row-mt": "1"},
    "librav1e": {"qp": "60", "speed": "6"},
    "libx264": {"crf": "14", "preset": "slow"},
    "libx265": {"crf": "16", "preset": "slow"},
    "libvpx-vp9": {"crf": "18", "b": "0"},
    "prores_ks": {"profile": "3"},
}
"""Options of encoders, visually lossless, so that encoding does not spoil the restoration."""


def pyav() -> Any:
    """Return the module `av`; if it is missing, UsageError with the command that installs it."""
    try:
        return import_module("av")
    except ImportError as error:
        raise UsageError("video needs PyAV, which is not installed", next_step=f"Run {INSTALL}.") from error


def encoder_for(codec: str | None, suffix: str) -> tuple[str, dict[str, str]]:
    """Return name and options of the encoder for a codec, or for a named encoder of PyAV; None for the suffix's default
    codec.

    UsageError if there is no such encoder, UnwritableImage if the kind of file cannot hold its codec.
    """
    suffix = suffix.lower()
    if suffix not in CONTAINERS:
        raise UnwritableImage(
            f"video is not written as '{suffix}'", next_step=f"{', '.join(sorted(CONTAINERS))} are written."
        )
    asked = codec or CONTAINERS[suffix]
    names = CODECS.get(asked, (asked,))
    known = pyav().codecs_available
    found = next((name for name in names if name in known and _is_encoder(name)), None)
    if found is None:
        raise UsageError(
            f"this installation of PyAV has no encoder for '{asked}'", where="--codec",
            next_step="Choose ffv1, av1 or one of its encoders.",
        )  # fmt: skip
    kind = _canonical(found)
    if kind not in _HELD[suffix]:
        raise UsageError(
            f"a {suffix} file does not hold {kind}", where="--codec",
            next_step=f"Name an output that ends in {_suffix_of(kind)}.",
        )  # fmt: skip
    return found, dict(_OPTIONS.get(found, {}))


def formats_of(encoder: str) -> list[str]:
    """Return the names of the pixel formats that an encoder accepts."""
    return [each.name for each in pyav().codec.Codec(encoder, "w").video_formats or ()]


def _is_encoder(name: str) -> bool:
    av = pyav()
    try:
        return bool(av.codec.Codec(name, "w").type == "video")
    except av.codec.codec.UnknownCodecError:
        return False


def _canonical(encoder: str) -> str:
    """Return the name of the codec that an encoder writes."""
    return str(pyav().codec.Codec(encoder, "w").canonical_name)


def _suffix_of(kind: str) -> str:
    return next((suffix for suffix, held in _HELD.items() if kind in held), ".mkv")
