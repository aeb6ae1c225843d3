"""Video files for tests, written and read with PyAV alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.conftest import photo


@dataclass(frozen=True)
class Read:
    """The content of a video file."""

    times: list[Fraction]
    """Display times of the frames, in seconds."""
    codes: list[npt.NDArray[Any]]
    """Luma of each frame, [H,W]."""
    tags: tuple[int, ...]
    rotation: int
    format: str
    sound: bytes


def save_clip(
    path: Path, *, frames: int, times: Sequence[int], pixel_format: str = "yuv420p", sound: bool = True
) -> Path:
    """Write a clip of 96 x 64 pixels with FFV1: `times` in milliseconds, BT.709, turned by 90 degrees."""
    av = pytest.importorskip("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25, options={"level": "3"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, pixel_format
        context = stream.codec_context
        context.time_base = Fraction(1, 1000)
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = 1, 1, 1, 1
        stream.set_display_rotation(90)
        voice = container.add_stream("pcm_s16le", rate=8000, layout="mono") if sound else None
        for number in range(frames):
            codes = (photo(64, 96, seed=number // 5) * 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(codes, "rgb24").reformat(format=pixel_format, dst_colorspace="ITU709")
            frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if voice is not None:
            wave = (8000 * np.sin(np.arange(2000) / 9)).astype(np.int16)[None]
            heard = av.AudioFrame.from_ndarray(wave, "s16", "mono")
            heard.sample_rate, heard.pts = 8000, 0
            container.mux(voice.encode(heard))
            container.mux(voice.encode())
    return path


def read_clip(path: Path) -> Read:
    """Read a clip."""
    av = pytest.importorskip("av")
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    sound = b""
    with av.open(str(path)) as container:
        for stream in container.streams.audio:
            sound = b"".join(bytes(packet) for packet in container.demux(stream))
    first = frames[0]
    return Read(
        times=[frame.pts * frame.time_base for frame in frames],
        codes=[frame.to_ndarray()[: frame.height] for frame in frames],
        tags=(first.color_primaries, first.color_trc, first.colorspace, first.color_range),
        rotation=first.rotation, format=first.format.name, sound=sound,
    )  # fmt: skip
