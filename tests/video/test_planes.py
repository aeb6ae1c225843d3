"""Planes of video frames: the same codes where nothing changes, and colours as FFmpeg converts them."""

from typing import Any

import numpy as np
import pytest

from sanarestore.errors import UnreadableImage
from sanarestore.video.planes import blank, changed, fill_frame, planes_of, to_rgb

av: Any = pytest.importorskip("av")

FORMATS = ("yuv420p", "yuv422p10le", "yuv444p", "yuvj420p", "nv12", "gray", "gray10le", "gbrp", "gbrp10le", "rgb24")


def noise(name: str, width: int = 22, height: int = 15) -> Any:
    frame = av.VideoFrame(width, height, name)
    rng = np.random.default_rng(0)
    for plane in frame.planes:
        kind, most = (np.uint16, 1024) if "10" in name else (np.uint8, 256)
        plane.update(rng.integers(0, most, plane.buffer_size // kind().itemsize).astype(kind).tobytes())
    return frame


@pytest.mark.parametrize("name", FORMATS)
def test_codes_stay_where_nothing_changes_and_move_with_the_light(name: str) -> None:
    planes = planes_of(noise(name))
    image_HWC = to_rgb(planes)
    assert image_HWC.shape == (15, 22, 1 if name.startswith("gray") else 3)
    same = changed(planes, image_HWC, image_HWC.copy())
    assert all(np.array_equal(one, other) for one, other in zip(planes.codes, same.codes, strict=True))
    lighter = changed(planes, image_HWC, image_HWC + np.float32(0.1))
    assert (lighter.codes[0] >= planes.codes[0]).all()
    if planes.kind == "yuv":
        assert all(np.array_equal(one, other) for one, other in zip(planes.codes[1:], lighter.codes[1:], strict=True))


@pytest.mark.parametrize("name", FORMATS)
def test_frames_are_filled_with_the_codes_that_were_read(name: str) -> None:
    planes = planes_of(noise(name))
    frame = av.VideoFrame(22, 15, planes.format)
    fill_frame(frame, planes)
    assert all(np.array_equal(*pair) for pair in zip(planes.codes, planes_of(frame).codes, strict=True))


@pytest.mark.parametrize(("number", "space"), [(1, "ITU709"), (6, "ITU601")])
@pytest.mark.parametrize("name", ["yuv420p", "yuv444p10le"])
def test_colours_are_those_of_the_matrix(number: int, space: str, name: str) -> None:
    colour = np.full((16, 16, 3), (200, 60, 20), np.uint8)
    frame = av.VideoFrame.from_ndarray(colour, "rgb24").reformat(format=name, dst_colorspace=space)
    frame.colorspace = number
    assert to_rgb(planes_of(frame)) * 255 == pytest.approx(colour.astype(np.float32), abs=1.5)


def test_black_planes_of_another_size_hold_any_picture() -> None:
    planes = blank(planes_of(noise("yuv420p")), 30, 21)
    assert [each.shape for each in planes.codes] == [(21, 30), (11, 15), (11, 15)]
    assert np.abs(to_rgb(planes)).max() == 0
    picture = np.full((21, 30, 3), (0.6, 0.4, 0.2), np.float32)
    made = changed(planes, np.zeros_like(picture), picture)
    assert to_rgb(made) == pytest.approx(picture, abs=0.01)


def test_alpha_and_unknown_matrices_are_refused() -> None:
    with pytest.raises(UnreadableImage, match="yuva420p"):
        planes_of(av.VideoFrame(16, 16, "yuva420p"))
    frame = av.VideoFrame(16, 16, "yuv420p")
    frame.colorspace = 8
    with pytest.raises(UnreadableImage, match="number 8"):
        planes_of(frame)
