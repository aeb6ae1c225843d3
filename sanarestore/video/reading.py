"""Open and decode video files, frame by frame, with the timestamps and tags that the result keeps."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from sanarestore.errors import DamagedImage, MissingImage, UnreadableImage
from sanarestore.images.image import check_size
from sanarestore.images.signature import VIDEO_SUFFIXES
from sanarestore.video.library import pyav
from sanarestore.video.planes import Planes, planes_of


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipInfo:
    """The properties of a video file's pictures."""

    width: int
    height: int
    format: str
    """Name of the pixel format."""
    rate: Fraction
    """Mean number of frames per second; only the frames' own times matter for the result."""
    frames: int
    """Number of frames; 0 if the file does not say."""
    time_base: Fraction
    """Seconds per unit of the timestamps."""
    rotation: int
    """Degrees by which players turn the pictures."""
    primaries: int
    transfer: int
    matrix: int
    range: int
    """Numbers of the colour tags (ITU-T H.273); `range` is 2 for the full range."""
    aspect: Fraction
    """Width of a pixel over its height."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipFrame:
    """One decoded frame."""

    planes: Planes
    time: int
    """Timestamp, in units of the clip's `time_base`."""
    duration: int
    """Duration in the same units; 0 if it is not known."""


def is_clip(path: Path) -> bool:
    """Return whether a file has the suffix of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def info_of(path: Path) -> ClipInfo:
    """Describe a clip by its header and its first frame.

    MissingImage; UnreadableImage if it is not a video, or has no pictures of a kind that is restored.
    """
    with _opened(path) as container:
        stream = _pictures(container, path)
        first = next(_decoded(container, stream, path), None)
        if first is None:
            raise UnreadableImage("its video stream has no pictures", where=path, next_step="Copy it again.")
        with _named(path):
            check_size(first.height, first.width)
            planes_of(first)
        if first.interlaced_frame:
            raise UnreadableImage(
                "its frames are interlaced", where=path, next_step="Deinterlace it first, for example with bwdif."
            )
        return ClipInfo(
            width=first.width, height=first.height, format=first.format.name,
            rate=Fraction(stream.average_rate or stream.base_rate or 25), frames=int(stream.frames or 0),
            time_base=Fraction(stream.time_base), rotation=int(first.rotation),
            primaries=int(first.color_primaries), transfer=int(first.color_trc), matrix=int(first.colorspace),
            range=int(first.color_range), aspect=Fraction(stream.sample_aspect_ratio or 1),
        )  # fmt: skip


def frames_of(path: Path, info: ClipInfo, *, start: int = 0, accept_damaged: bool = False) -> Iterator[ClipFrame]:
    """Decode a clip from frame `start`, in display order.

    DamagedImage for a frame that is only partly decoded, unless `accept_damaged`. UnreadableImage if the size changes.
    """
    with _opened(path) as container:
        stream = _pictures(container, path)
        last = None
        for index, frame in enumerate(_decoded(container, stream, path)):
            time = index if frame.pts is None else int(frame.pts)
            # Times that do not increase cannot be written.
            time = time if last is None else max(time, last + 1)
            last = time
            if index < start:
                continue
            if frame.is_corrupt and not accept_damaged:
                raise DamagedImage(
                    f"frame {index} is damaged", where=path, next_step="Copy it again, or use --accept-damaged."
                )
            if (frame.width, frame.height) != (info.width, info.height):
                raise UnreadableImage(
                    f"its size changes to {frame.width} x {frame.height} at frame {index}", where=path,
                    next_step="Cut the video there, and restore the parts.",
                )  # fmt: skip
            with _named(path):
                yield ClipFrame(planes=planes_of(frame), time=time, duration=int(frame.duration or 0))


def count_frames(path: Path) -> int:
    """Count the frames of a clip whose header does not say, by packets, without decoding."""
    with _opened(path) as container:
        stream = _pictures(container, path)
        return sum(1 for packet in container.demux(stream) if packet.size)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    av = pyav()
    try:
        container = av.open(str(path))
    except FileNotFoundError as error:
        raise MissingImage("there is no such file", where=path, next_step="Check its name.") from error
    except (av.error.FFmpegError, OSError) as error:
        fact = f"it is not a video that can be read ({error.strerror or error})"
        raise UnreadableImage(fact, where=path, next_step="Copy it again, or convert it first.") from error
    with container:
        yield container


def _pictures(container: Any, path: Path) -> Any:
    """Return the first video stream that is not a still picture, such as an album cover."""
    for stream in container.streams.video:
        if not stream.disposition & _attached():
            stream.thread_type = "AUTO"
            return stream
    raise UnreadableImage("it has no video stream", where=path, next_step="Name a file with moving pictures.")


def _attached() -> Any:
    return pyav().stream.Disposition.attached_pic


def _decoded(container: Any, stream: Any, path: Path) -> Iterator[Any]:
    av = pyav()
    try:
        yield from container.decode(stream)
    except av.error.FFmpegError as error:
        fact = f"it cannot be decoded further ({error.strerror or error})"
        raise DamagedImage(fact, where=path, next_step="Copy it again, or cut it there.") from error


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let errors about a frame name the file."""
    try:
        yield
    except UnreadableImage as error:
        if error.where:
            raise
        raise type(error)(error.fact, where=path, next_step=error.next_step) from error
