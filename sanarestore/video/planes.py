"""Convert planes of a video frame to an RGB image, and back, without rounding to 8 bits.

Shape suffixes: H W luma samples, h w samples of a plane, C channels.

A restored frame is written as its original codes plus the change in each plane, so pixels that restoration leaves alone
keep their exact codes, chroma included.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sanarestore.errors import UnreadableImage
from sanarestore.images import Pixels

Plane = npt.NDArray[np.unsignedinteger]

_PLANAR = {
    "nv12": "yuv420p", "nv21": "yuv420p", "nv16": "yuv422p", "nv24": "yuv444p", "p010le": "yuv420p10le",
    "p210le": "yuv422p10le", "p016le": "yuv420p16le", "yuyv422": "yuv422p", "uyvy422": "yuv422p", "rgb24": "gbrp",
    "bgr24": "gbrp", "rgb0": "gbrp", "bgr0": "gbrp", "0rgb": "gbrp", "0bgr": "gbrp", "rgb48le": "gbrp16le",
}  # fmt: skip
"""Formats with interleaved samples, and the planar ones with the same samples."""

_WEIGHTS = {
    1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593),
}  # fmt: skip
"""Weights of red and blue in luma by the number of the matrix (ITU-T H.273, table 4)."""

_HD = 720
"""Height of a frame from which a missing matrix means BT.709; for smaller frames, it means BT.601."""

_FULL = 2
"""Number of the full range, in which codes go from 0 to the largest."""


@dataclass(frozen=True, slots=True)
class Planes:
    """The codes of a frame."""

    codes: tuple[Plane, ...]
    """Y, U, V; G, B, R; or gray alone. Each [h,w]."""
    kind: Literal["yuv", "rgb", "gray"]
    bits: int
    weights: tuple[float, float]
    """Weights of red and blue in luma."""
    is_full: bool
    """Whether codes go from 0 to the largest, instead of the studio range 16 to 235 (at 8 bits)."""
    format: str
    """Name of the pixel format."""


def planes_of(frame: Any) -> Planes:
    """Copy the planes of a PyAV frame; UnreadableImage for formats that are not read."""
    name = frame.format.name
    if name in _PLANAR:
        frame = frame.reformat(format=_PLANAR[name])
    form = frame.format
    parts = form.components
    is_yuv = form.name.startswith("yuv") and not form.name.startswith("yuva") and len(parts) == 3
    kind = "yuv" if is_yuv else "rgb" if form.name.startswith("gbrp") and len(parts) == 3 else "gray"
    if kind == "gray" and not (form.name.startswith("gray") and len(parts) == 1):
        raise UnreadableImage(
            f"its pixel format is {name}, which is not restored", next_step="Convert it to yuv420p or yuv444p first."
        )
    matrix = 0 if kind == "rgb" else int(frame.colorspace)
    if kind == "yuv" and matrix not in (2, *_WEIGHTS):
        raise UnreadableImage(
            f"its colour matrix is number {matrix}, which is not restored", next_step="Convert it to BT.709 first."
        )
    assumed = 1 if frame.height >= _HD else 6
    return Planes(
        codes=tuple(_codes(plane, parts[0].bits) for plane in frame.planes), kind=kind, bits=parts[0].bits,  # type: ignore[arg-type]
        weights=_WEIGHTS.get(matrix, _WEIGHTS[assumed]),
        is_full=kind != "yuv" or int(frame.color_range) == _FULL or form.name.startswith("yuvj"), format=form.name,
    )  # fmt: skip


def fill_frame(frame: Any, planes: Planes) -> None:
    """Put codes into a frame of PyAV of the same format and size."""
    for plane, codes_hw in zip(frame.planes, planes.codes, strict=True):
        size = codes_hw.dtype.itemsize
        rows = np.zeros((codes_hw.shape[0], plane.line_size // size), codes_hw.dtype)
        rows[:, : codes_hw.shape[1]] = codes_hw
        plane.update(rows.tobytes().ljust(plane.buffer_size, b"\0")[: plane.buffer_size])


def to_rgb(planes: Planes) -> Pixels:
    """Convert the frame to encoded RGB values, [H,W,3], or gray, [H,W,1]: float32, nominally in [0,1], not clipped."""
    if planes.kind != "yuv":
        values = [_values(codes_hw, *_scale(planes, 0)) for codes_hw in planes.codes]
        ordered = values if planes.kind == "gray" else [values[2], values[0], values[1]]
        return np.stack(ordered, axis=2)
    luma_HW, blue_HW, red_HW = _upsampled(planes)
    red, blue = planes.weights
    rgb_HWC = np.empty((*luma_HW.shape, 3), np.float32)
    rgb_HWC[..., 0] = luma_HW + 2 * (1 - red) * red_HW
    rgb_HWC[..., 2] = luma_HW + 2 * (1 - blue) * blue_HW
    rgb_HWC[..., 1] = (luma_HW - red * rgb_HWC[..., 0] - blue * rgb_HWC[..., 2]) / (1 - red - blue)
    return rgb_HWC


def changed(planes: Planes, before_HWC: Pixels, after_HWC: Pixels) -> Planes:
    """Return the planes for a changed image of `to_rgb`; where nothing changed, the codes stay the same."""
    codes: list[Plane] = []
    moved: tuple[Pixels, ...]
    if planes.kind == "yuv":
        moved = _luma_chroma(after_HWC - before_HWC, planes.weights)
    else:
        order = (0,) if planes.kind == "gray" else (1, 2, 0)
        moved = tuple((after_HWC - before_HWC)[..., channel] for channel in order)
    for index, (codes_hw, change_HW) in enumerate(zip(planes.codes, moved, strict=True)):
        _, scale = _scale(planes, index)
        change_hw = _reduced(change_HW, codes_hw.shape)
        most = 2**planes.bits - 1
        codes.append(np.clip(np.rint(codes_hw + scale * change_hw), 0, most).astype(codes_hw.dtype))
    return Planes(tuple(codes), planes.kind, planes.bits, planes.weights, planes.is_full, planes.format)


def blank(planes: Planes, width: int, height: int) -> Planes:
    """Return black planes of another size in the same format."""
    full_height, full_width = planes.codes[0].shape
    codes: list[Plane] = []
    for index, codes_hw in enumerate(planes.codes):
        # The subsampling of chroma is kept, with sizes rounded up.
        down = (-(-full_height // codes_hw.shape[0]), -(-full_width // codes_hw.shape[1])) if index else (1, 1)
        size = (-(-height // down[0]), -(-width // down[1]))
        codes.append(np.full(size, _scale(planes, index)[0], codes_hw.dtype))
    return Planes(tuple(codes), planes.kind, planes.bits, planes.weights, planes.is_full, planes.format)


def _codes(plane: Any, bits: int) -> Plane:
    kind: type[np.unsignedinteger] = np.uint8 if bits <= 8 else np.uint16
    rows: Plane = np.frombuffer(plane, dtype=kind).reshape(plane.height, -1)
    return rows[:, : plane.width].copy()


def _scale(planes: Planes, index: int) -> tuple[float, float]:
    """Code of the value 0 in a plane, and codes per unit (ITU-R BT.709, BT.2100)."""
    unit = 2.0 ** (planes.bits - 8)
    largest = 2.0**planes.bits - 1
    if index == 0 or planes.kind != "yuv":
        return (0.0, largest) if planes.is_full else (16 * unit, 219 * unit)
    return 128 * unit, largest if planes.is_full else 224 * unit


def _values(codes_hw: Plane, zero: float, scale: float) -> Pixels:
    return (codes_hw.astype(np.float32) - np.float32(zero)) / np.float32(scale)


def _upsampled(planes: Planes) -> tuple[Pixels, ...]:
    """Return luma and both chroma planes at the size of luma."""
    height, width = planes.codes[0].shape
    values = []
    for index, codes_hw in enumerate(planes.codes):
        plane_hw = _values(codes_hw, *_scale(planes, index))
        if index and plane_hw.shape[1] < width:
            plane_hw = _wider(plane_hw, width)
        if index and plane_hw.shape[0] < height:
            plane_hw = _higher(plane_hw, height)
        if plane_hw.shape != (height, width):
            raise UnreadableImage(
                f"its chroma is stored as {planes.format}, which is not restored", next_step="Convert it to yuv420p."
            )
        values.append(plane_hw)
    return tuple(values)


def _wider(plane_hw: Pixels, width: int) -> Pixels:
    """Double the columns; samples lie on even columns (MPEG-2's siting)."""
    after = np.concatenate([plane_hw[:, 1:], plane_hw[:, -1:]], axis=1)
    wide_hW: Pixels = np.stack([plane_hw, (plane_hw + after) / 2], axis=2).reshape(len(plane_hw), -1)[:, :width]
    return wide_hW


def _higher(plane_hw: Pixels, height: int) -> Pixels:
    """Double the rows; samples lie between two rows."""
    before = np.concatenate([plane_hw[:1], plane_hw[:-1]])
    after = np.concatenate([plane_hw[1:], plane_hw[-1:]])
    above_hw, below_hw = 0.75 * plane_hw + 0.25 * before, 0.75 * plane_hw + 0.25 * after
    pairs: Pixels = np.stack([above_hw, below_hw], axis=1).astype(np.float32)
    return pairs.reshape(-1, plane_hw.shape[1])[:height]


def _reduced(plane_HW: Pixels, size: tuple[int, ...]) -> Pixels:
    """Reduce a plane to the size of chroma, by averages around the samples' places."""
    height, width = size
    if width < plane_HW.shape[1]:
        padded = np.pad(plane_HW, ((0, 0), (1, 2)), mode="edge")
        around = padded[:, :-2:2] + 2 * padded[:, 1:-1:2] + padded[:, 2::2]
        plane_HW = np.multiply(around[:, :width], 0.25, dtype=np.float32)
    if height < plane_HW.shape[0]:
        padded = np.pad(plane_HW, ((0, 1), (0, 0)), mode="edge")
        plane_HW = np.multiply((padded[:-1:2] + padded[1::2])[:height], 0.5, dtype=np.float32)
    return plane_HW


def _luma_chroma(rgb_HWC: Pixels, weights: tuple[float, float]) -> tuple[Pixels, ...]:
    red, blue = weights
    luma_HW = red * rgb_HWC[..., 0] + (1 - red - blue) * rgb_HWC[..., 1] + blue * rgb_HWC[..., 2]
    return (
        luma_HW,
        (rgb_HWC[..., 2] - luma_HW) / (2 * (1 - blue)),
        (rgb_HWC[..., 0] - luma_HW) / (2 * (1 - red)),
    )
