"""Write clips: segments of frames as separate files, which are then joined without encoding again.

A segment counts its frames in thousandths of a second, which Matroska stores exactly. Joining sets every packet to the
time of its frame, and copies sound and subtitles packet by packet.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

from sanarestore.errors import UnwritableImage
from sanarestore.video.library import encoder_for, formats_of, pyav
from sanarestore.video.planes import Planes, fill_frame
from sanarestore.video.reading import ClipInfo

_TICK = Fraction(1, 1000)
_EXACT = {"fflags": "+bitexact"}
"""No dates and random numbers in files, so that the same frames give the same bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoding:
    """How the pictures of a clip are encoded."""

    encoder: str
    options: tuple[tuple[str, str], ...]
    format: str
    """Pixel format that is written."""
    note: str | None
    """A note for the user on what the encoder cannot keep."""

    @staticmethod
    def of(info: ClipInfo, output: Path, codec: str | None) -> "Encoding":
        """Choose the encoding of an output. UsageError for codecs without an encoder, UnwritableImage for other
        suffixes."""
        encoder, options = encoder_for(codec, output.suffix)
        known, wanted = formats_of(encoder), info.format.replace("yuvj", "yuv")
        if wanted in known:
            return Encoding(encoder=encoder, options=tuple(options.items()), format=wanted, note=None)
        found = next((each for each in _instead(wanted) if each in known), None)
        if found is None:
            raise UnwritableImage(
                f"{encoder} does not write its pixel format {info.format}", where=output,
                next_step="Choose --codec ffv1 and a name that ends in .mkv.",
            )  # fmt: skip
        note = None if found in ("bgr0", "gbrp") else f"{encoder} writes {found} instead of {info.format}"
        return Encoding(encoder=encoder, options=tuple(options.items()), format=found, note=note)


def _instead(format: str) -> Iterator[str]:  # noqa: A002 - the word users say
    """Return the formats that may replace one, best first."""
    is_deep = any(format.endswith((f"{bits}le", f"{bits}be")) for bits in ("9", "10", "12", "14", "16"))
    if format in ("gbrp", "rgb24", "bgr24", "rgb0", "bgr0", "0rgb", "0bgr"):
        yield from ("gbrp", "bgr0", "yuv444p")
    if format in ("nv12", "nv21"):
        yield "yuv420p"
    if format == "p010le":
        yield "yuv420p10le"
    if is_deep:
        yield from ("yuv422p10le", "yuv420p10le") if "422" in format else ("yuv444p10le", "yuv420p10le")
    yield from ("yuv420p",)


class SegmentWriter:
    """Writer of consecutive frames to a separate file; close it after the last."""

    def __init__(self, path: Path, encoding: Encoding, info: ClipInfo, width: int, height: int) -> None:
        """Create a file for frames of this size."""
        av = pyav()
        self._av, self._encoding, self._info = av, encoding, info
        self._container = av.open(str(path), "w", format="matroska", options=_EXACT)
        self._stream = self._container.add_stream(encoding.encoder, rate=info.rate, options=dict(encoding.options))
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, encoding.format
        context = self._stream.codec_context
        context.time_base = _TICK
        # Packets come in the order of frames, so that the times that joining sets never decrease.
        context.max_b_frames = 0
        context.color_primaries, context.color_trc, context.colorspace = info.primaries, info.transfer, info.matrix
        context.color_range = _range_of(encoding.format, info)
        context.sample_aspect_ratio = info.aspect
        self._count = 0

    def add(self, planes: Planes) -> None:
        """Encode one frame."""
        height, width = planes.codes[0].shape
        frame = self._av.VideoFrame(width, height, planes.format)
        fill_frame(frame, planes)
        frame.colorspace, frame.color_range = self._info.matrix, 2 if planes.is_full else 1
        frame.color_primaries, frame.color_trc = self._info.primaries, self._info.transfer
        if planes.format.replace("yuvj", "yuv") != self._encoding.format:
            frame = frame.reformat(format=self._encoding.format)
        frame.pts, frame.time_base = self._count, _TICK
        self._count += 1
        self._mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file."""
        self._mux(self._stream.encode())
        self._container.close()

    def abandon(self) -> None:
        """Close the file as it is."""
        self._container.close()

    def _mux(self, packets: Sequence[Any]) -> None:
        for packet in packets:
            self._container.mux(packet)


def join(
    source: Path, info: ClipInfo, segments: Sequence[Path], times: Sequence[tuple[int, int]], output: Path, suffix: str
) -> tuple[str, ...]:
    """Write a clip from segments, with the other streams of its source; return notes on what is left out.

    `times` are timestamp and duration of every frame. `output` may have any name: `suffix` says what it holds.
    """
    av = pyav()
    kind = {".mkv": "matroska", ".mp4": "mp4", ".mov": "mov", ".webm": "webm"}[suffix.lower()]
    notes: list[str] = []
    with av.open(str(source)) as given, av.open(str(output), "w", format=kind, options=_EXACT) as made:
        made.metadata.update({key: value for key, value in given.metadata.items() if key.lower() != "encoder"})
        with av.open(str(segments[0])) as first:
            pictures = made.add_stream_from_template(first.streams.video[0], opaque=True)
        pictures.time_base = info.time_base
        if info.rotation:
            pictures.set_display_rotation(info.rotation)
        others = {}
        for stream in _others(given, made, suffix, notes):
            others[stream.index] = made.add_stream_from_template(stream, opaque=True)
            others[stream.index].time_base = stream.time_base
            others[stream.index].metadata.update(stream.metadata)
        made.set_chapters(given.chapters())
        packets = _pictures(segments, times, info, pictures)
        for packet in heapq.merge(packets, _copied(given, others), key=_seconds):
            made.mux_one(packet)
    return tuple(notes)


def _pictures(segments: Sequence[Path], times: Sequence[tuple[int, int]], info: ClipInfo, stream: Any) -> Iterator[Any]:
    """Yield the packets of all segments, with the times of their frames."""
    frame = 0
    for path in segments:
        with pyav().open(str(path)) as part:
            for packet in part.demux(part.streams.video[0]):
                if not packet.size:
                    continue
                time, duration = times[frame]
                packet.time_base = info.time_base
                packet.pts = packet.dts = time
                packet.duration = duration or (times[frame + 1][0] - time if frame + 1 < len(times) else 0)
                packet.stream = stream
                frame += 1
                yield packet


def _others(given: Any, made: Any, suffix: str, notes: list[str]) -> Iterator[Any]:
    """Yield the streams that are copied; add notes on those that the output cannot hold."""
    for stream in given.streams:
        if stream.type == "audio" and stream.codec_context.codec.canonical_name in made.supported_codecs:
            yield stream
        elif stream.type == "audio":
            raise UnwritableImage(
                f"a {suffix} file does not hold {stream.codec_context.name} sound",
                next_step="Name an output that ends in .mkv.",
            )
        elif stream.type == "subtitle" and stream.codec_context.codec.canonical_name in made.supported_codecs:
            yield stream
        elif stream.type != "video":
            notes.append(f"a {stream.type} stream is left out, because a {suffix} file does not hold it")


def _copied(given: Any, others: dict[int, Any]) -> Iterator[Any]:
    """Yield the packets of the other streams, unchanged."""
    chosen = [given.streams[index] for index in others]
    for packet in chain(given.demux(*chosen)) if chosen else ():
        if packet.size and packet.dts is not None:
            packet.stream = others[packet.stream.index]
            yield packet


def _seconds(packet: Any) -> float:
    return float(packet.dts * packet.time_base)


def _range_of(format: str, info: ClipInfo) -> int:  # noqa: A002 - the word users say
    """Return the number of the range that is written: full for RGB, gray and `yuvj` formats."""
    if not format.startswith("yuv"):
        return 2
    return 2 if info.format.startswith("yuvj") else info.range
